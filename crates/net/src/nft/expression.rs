//! Expressions: the instructions of a rule.
//!
//! An expression loads something into registers, compares registers, or acts. Registers are counted
//! in units of four bytes; a longer value takes several.

use super::model::{Family, Name, Set};

/// The first of the four-byte registers (0 to 15) that a value takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Register(pub u8);

impl Register {
    /// The number in messages.
    pub(super) fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    Meta {
        key: MetaKey,
        to: Register,
    },
    MetaSet {
        key: MetaKey,
        from: Register,
    },
    Payload {
        base: PayloadBase,
        offset: u32,
        length: u32,
        to: Register,
    },
    Ct {
        key: CtKey,
        direction: Option<Direction>,
        to: Register,
    },
    Fib {
        address: FibAddress,
        result: FibResult,
        to: Register,
    },
    Numgen {
        kind: NumgenKind,
        modulus: u32,
        to: Register,
    },
    Immediate {
        data: Vec<u8>,
        to: Register,
    },
    Bitwise(BitwiseMask),
    Compare {
        from: Register,
        comparison: Comparison,
        data: Vec<u8>,
    },
    Range {
        from: Register,
        matches: Match,
        first: Vec<u8>,
        last: Vec<u8>,
    },
    /// With `to`, also loads what the map holds.
    Lookup {
        from: Register,
        set: SetReference,
        matches: Match,
        to: Option<Register>,
    },
    /// Looks up a verdict and follows it.
    VerdictLookup {
        from: Register,
        set: SetReference,
    },
    Dynset {
        operation: DynsetOperation,
        set: Name,
        key: Register,
        timeout_ms: Option<u64>,
    },
    Verdict(Verdict),
    Nat {
        kind: NatKind,
        family: Family,
        address: Register,
        port: Option<Register>,
    },
    Masquerade {
        random: bool,
    },
    Redirect {
        port: Option<Register>,
    },
    Reject(RejectKind),
    Limit {
        rate: u64,
        unit: LimitUnit,
        burst: u32,
    },
    Notrack,
    Counter,
}

/// `to = (from & mask) ^ xor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitwiseMask {
    pub from: Register,
    pub to: Register,
    pub mask: Vec<u8>,
    pub xor: Vec<u8>,
}

/// What is known of a packet beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    Mark,
    InputLinkName,
    OutputLinkName,
    TransportProtocol,
}

/// Where an offset counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadBase {
    Network,
    Transport,
}

/// What connection tracking knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    State,
    Status,
    Mark,
}

/// Side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Original,
    Reply,
}

/// Which address is looked up in the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibAddress {
    Source,
    Destination,
}

/// What is asked of the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibResult {
    /// A route type (`RTN_*`).
    AddressType,
    LinkIndex,
}

/// How numbers are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumgenKind {
    Incremental,
    Random,
}

/// Orders compare bytes from the first on, as network byte order has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Whether a rule goes on inside or outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    Inside,
    Outside,
}

/// A set of the table, or one that belongs to this rule alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetReference {
    Named(Name),
    Anonymous(Box<Set>),
}

/// What a packet does to a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DynsetOperation {
    Add,
    /// Adds, or starts the element's time anew.
    Update,
    Delete,
}

/// Where a packet goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(Name),
    Goto(Name),
}

/// Which address is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    Source,
    Destination,
}

/// How a sender learns that its packet was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectKind {
    TcpReset,
    /// ICMP, or ICMPv6 in an IPv6 table: port unreachable.
    PortUnreachable(Family),
}

/// What a limit's rate is per.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitUnit {
    Second,
    Minute,
    Hour,
}

impl LimitUnit {
    pub(super) const fn seconds(self) -> u64 {
        match self {
            LimitUnit::Second => 1,
            LimitUnit::Minute => 60,
            LimitUnit::Hour => 3600,
        }
    }
}
