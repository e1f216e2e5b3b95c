//! What a ruleset is made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::expression::{Expression, Verdict};

/// The name of a table, chain or set; shared, since maps and verdicts repeat them.
pub type Name = Arc<str>;

/// All of one owner's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub tables: Vec<Table>,
}

/// A table: a name space for chains and sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub family: Family,
    pub name: Name,
    pub sets: BTreeMap<Name, Set>,
    pub chains: BTreeMap<Name, Chain>,
}

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// A list of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where packets enter from the network stack; none for chains that others jump to.
    pub base: Option<BaseChain>,
    pub rules: Vec<Rule>,
}

/// How a chain is hooked into the network stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseChain {
    pub kind: ChainKind,
    pub hook: Hook,
    pub priority: i32,
    pub policy: Policy,
}

/// What a chain may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    Filter,
    /// Sees only the first packet of a connection; its choice holds for the rest.
    Nat,
    /// Has the packet routed again when it changed it.
    Route,
}

/// Points on a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

/// What happens to a packet at a base chain's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Accept,
    Drop,
}

/// Expressions evaluated in order until one does not match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub expressions: Vec<Expression>,
}

/// A set of keys, or a map from keys to verdicts or data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub kind: SetKind,
    /// The parts of a key; more than one make a concatenation.
    pub key: Vec<Field>,
    /// Whether elements are ranges.
    pub interval: bool,
    /// Elements are added by packets and leave after that long, in milliseconds.
    pub timeout_ms: Option<u64>,
    pub elements: BTreeMap<Key, Data>,
}

/// What a set says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetKind {
    Set,
    VerdictMap,
    Map(Vec<Field>),
}

/// The type of one part of a key or of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Ipv4Address,
    Ipv6Address,
    Protocol,
    Port,
    /// 32 bits in the machine's byte order.
    Number,
    /// A link's name, filled up with zeros to 16 bytes.
    LinkName,
}

/// An element's key: each part filled up to a multiple of four bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Value(Vec<u8>),
    /// First and last.
    Range(Vec<u8>, Vec<u8>),
}

/// What an element holds beside its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    None,
    Verdict(Verdict),
    /// Parts filled up as in keys.
    Value(Vec<u8>),
}

impl Table {
    pub fn new(family: Family, name: &str) -> Self {
        Table { family, name: name.into(), sets: BTreeMap::new(), chains: BTreeMap::new() }
    }
}

impl Chain {
    /// A chain that others jump to.
    pub fn regular(rules: Vec<Rule>) -> Self {
        Chain { base: None, rules }
    }

    /// A chain at a hook that lets through what no rule decided.
    pub fn base(kind: ChainKind, hook: Hook, priority: i32, rules: Vec<Rule>) -> Self {
        Chain { base: Some(BaseChain { kind, hook, priority, policy: Policy::Accept }), rules }
    }
}

impl Set {
    pub fn new(kind: SetKind, key: &[Field]) -> Self {
        Set { kind, key: key.to_vec(), interval: false, timeout_ms: None, elements: BTreeMap::new() }
    }

    /// Whether elements come before the rules: the kernel checks each element of a map against each
    /// rule that uses it already. Verdicts come last, since the chains must be there.
    pub(super) fn elements_first(&self) -> bool {
        match self.kind {
            SetKind::Set | SetKind::Map(_) => true,
            SetKind::VerdictMap => false,
        }
    }

    /// Whether two sets differ in their elements at most.
    pub(super) fn same_definition(&self, other: &Set) -> bool {
        (&self.kind, &self.key, self.interval, self.timeout_ms)
            == (&other.kind, &other.key, other.interval, other.timeout_ms)
    }
}

impl Family {
    /// The family's number in messages and in `nat` and `fib` expressions.
    pub const fn number(self) -> u8 {
        match self {
            Family::Ipv4 => 2,
            Family::Ipv6 => 10,
        }
    }

    /// As rules name it.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
        }
    }

    /// The type of the family's addresses.
    pub const fn address(self) -> Field {
        match self {
            Family::Ipv4 => Field::Ipv4Address,
            Family::Ipv6 => Field::Ipv6Address,
        }
    }
}

impl Field {
    /// Bytes of a value, without filling.
    pub const fn length(self) -> usize {
        match self {
            Field::Ipv4Address | Field::Number => 4,
            Field::Ipv6Address | Field::LinkName => 16,
            Field::Protocol => 1,
            Field::Port => 2,
        }
    }

    /// Bytes that a value takes in keys and registers.
    pub const fn padded_length(self) -> usize {
        self.length().next_multiple_of(4)
    }

    /// The number under which the `nft` program knows the type, for people who list the rules.
    pub(super) const fn type_number(self) -> u32 {
        match self {
            // A mark: the known type of 32 bits in the machine's order.
            Field::Number => 19,
            Field::Ipv4Address => 7,
            Field::Ipv6Address => 8,
            Field::Protocol => 12,
            Field::Port => 13,
            Field::LinkName => 41,
        }
    }

    pub(super) const fn type_name(self) -> &'static str {
        match self {
            Field::Number => "mark",
            Field::Ipv4Address => "ipv4_addr",
            Field::Ipv6Address => "ipv6_addr",
            Field::Protocol => "inet_proto",
            Field::Port => "inet_service",
            Field::LinkName => "ifname",
        }
    }
}

/// The type number of a concatenation.
pub(super) fn type_number(fields: &[Field]) -> u32 {
    const BITS_PER_TYPE: u32 = 6;
    fields.iter().fold(0, |number, field| (number << BITS_PER_TYPE) | field.type_number())
}

/// Bytes of a concatenation. The kernel counts a lone value without its filling.
pub(super) fn length(fields: &[Field]) -> usize {
    match fields {
        [field] => field.length(),
        fields => fields.iter().map(|field| field.padded_length()).sum(),
    }
}
