//! The attributes of rules, expressions and elements (`linux/netfilter/nf_tables.h`).

use super::expression::{
    Comparison, CtKey, Direction, DynsetOperation, Expression, FibAddress, FibResult, Match, MetaKey,
    NatKind, NumgenKind, PayloadBase, Register, RejectKind, SetReference, Verdict,
};
use super::model::{Data, Family};
use crate::netlink::wire::Writer;

pub(super) const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const LOOKUP_INVERT: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
/// `NF_NAT_RANGE_PROTO_RANDOM_FULLY`: no two connections race for one source port.
const NAT_RANDOM_FULLY: u32 = 1 << 4;

/// The sets of the rules in a batch that belong to one rule alone: each has a number in place of a
/// name. Numbers are given in the order in which [`expression`] meets the sets.
#[derive(Default)]
pub(super) struct SetNumbers {
    pub next: u32,
}

/// The name under which the kernel numbers anonymous sets.
pub(super) fn anonymous_name(set: &super::model::Set) -> &'static str {
    match set.kind {
        super::model::SetKind::Set => "__set%d",
        super::model::SetKind::VerdictMap | super::model::SetKind::Map(_) => "__map%d",
    }
}

/// One expression as an element of a list.
pub(super) fn expression(writer: &mut Writer, expression: &Expression, numbers: &mut SetNumbers) {
    writer.nest(LIST_ELEMENT, |writer| {
        writer.text(EXPRESSION_NAME, name(expression));
        writer.nest(EXPRESSION_DATA, |writer| body(writer, expression, numbers));
    });
}

fn name(expression: &Expression) -> &'static str {
    match expression {
        Expression::Meta { .. } | Expression::MetaSet { .. } => "meta",
        Expression::Payload { .. } => "payload",
        Expression::Ct { .. } => "ct",
        Expression::Fib { .. } => "fib",
        Expression::Numgen { .. } => "numgen",
        Expression::Immediate { .. } | Expression::Verdict(_) => "immediate",
        Expression::Bitwise(_) => "bitwise",
        Expression::Compare { .. } => "cmp",
        Expression::Range { .. } => "range",
        Expression::Lookup { .. } | Expression::VerdictLookup { .. } => "lookup",
        Expression::Dynset { .. } => "dynset",
        Expression::Nat { .. } => "nat",
        Expression::Masquerade { .. } => "masq",
        Expression::Redirect { .. } => "redir",
        Expression::Reject(_) => "reject",
        Expression::Limit { .. } => "limit",
        Expression::Notrack => "notrack",
        Expression::Counter => "counter",
    }
}

fn body(writer: &mut Writer, expression: &Expression, numbers: &mut SetNumbers) {
    match expression {
        Expression::Meta { key, to } => {
            writer.u32_be(1, to.number());
            writer.u32_be(2, meta_key(*key));
        }
        Expression::MetaSet { key, from } => {
            writer.u32_be(2, meta_key(*key));
            writer.u32_be(3, from.number());
        }
        Expression::Payload { base, offset, length, to } => {
            writer.u32_be(1, to.number());
            writer.u32_be(2, payload_base(*base));
            writer.u32_be(3, *offset);
            writer.u32_be(4, *length);
        }
        Expression::Ct { key, direction, to } => {
            writer.u32_be(1, to.number());
            writer.u32_be(2, ct_key(*key));
            if let Some(direction) = direction {
                writer.put(3, &[direction_number(*direction)]);
            }
        }
        Expression::Fib { address, result, to } => {
            writer.u32_be(1, to.number());
            writer.u32_be(2, fib_result(*result));
            writer.u32_be(3, fib_address(*address));
        }
        Expression::Numgen { kind, modulus, to } => {
            writer.u32_be(1, to.number());
            writer.u32_be(2, *modulus);
            writer.u32_be(3, numgen_kind(*kind));
        }
        Expression::Immediate { data, to } => {
            writer.u32_be(1, to.number());
            value(writer, 2, data);
        }
        Expression::Verdict(verdict) => {
            writer.u32_be(1, VERDICT_REGISTER);
            writer.nest(2, |writer| put_verdict(writer, verdict));
        }
        Expression::Bitwise(bitwise) => {
            writer.u32_be(1, bitwise.from.number());
            writer.u32_be(2, bitwise.to.number());
            writer.u32_be(3, bitwise.mask.len() as u32);
            value(writer, 4, &bitwise.mask);
            value(writer, 5, &bitwise.xor);
        }
        Expression::Compare { from, comparison, data } => {
            writer.u32_be(1, from.number());
            writer.u32_be(2, comparison_number(*comparison));
            value(writer, 3, data);
        }
        Expression::Range { from, matches, first, last } => {
            writer.u32_be(1, from.number());
            writer.u32_be(2, u32::from(*matches == Match::Outside));
            value(writer, 3, first);
            value(writer, 4, last);
        }
        Expression::Lookup { from, set, matches, to } => {
            let to = to.map(Register::number);
            lookup(writer, *from, set, *matches, to, numbers);
        }
        Expression::VerdictLookup { from, set } => {
            lookup(writer, *from, set, Match::Inside, Some(VERDICT_REGISTER), numbers);
        }
        Expression::Dynset { operation, set, key, timeout_ms } => {
            writer.text(1, set);
            writer.u32_be(3, dynset_operation(*operation));
            writer.u32_be(4, key.number());
            if let Some(timeout_ms) = timeout_ms {
                writer.u64_be(6, *timeout_ms);
            }
        }
        Expression::Nat { kind, family, address, port } => {
            writer.u32_be(1, u32::from(*kind == NatKind::Destination));
            writer.u32_be(2, u32::from(family.number()));
            writer.u32_be(3, address.number());
            if let Some(port) = port {
                writer.u32_be(5, port.number());
            }
        }
        Expression::Masquerade { random } => {
            if *random {
                writer.u32_be(1, NAT_RANDOM_FULLY);
            }
        }
        Expression::Redirect { port } => {
            if let Some(port) = port {
                writer.u32_be(1, port.number());
            }
        }
        Expression::Reject(kind) => {
            let (number, code) = reject(*kind);
            writer.u32_be(1, number);
            writer.put(2, &[code]);
        }
        Expression::Limit { rate, unit, burst } => {
            writer.u64_be(1, *rate);
            writer.u64_be(2, unit.seconds());
            writer.u32_be(3, *burst);
        }
        Expression::Notrack | Expression::Counter => {}
    }
}

fn lookup(
    writer: &mut Writer,
    from: Register,
    set: &SetReference,
    matches: Match,
    to: Option<u32>,
    numbers: &mut SetNumbers,
) {
    match set {
        SetReference::Named(name) => writer.text(1, name),
        SetReference::Anonymous(set) => {
            writer.text(1, anonymous_name(set));
            numbers.next += 1;
            writer.u32_be(4, numbers.next);
        }
    }
    writer.u32_be(2, from.number());
    if let Some(to) = to {
        writer.u32_be(3, to);
    }
    if matches == Match::Outside {
        writer.u32_be(5, LOOKUP_INVERT);
    }
}

/// A value within an attribute of any kind.
pub(super) fn value(writer: &mut Writer, kind: u16, bytes: &[u8]) {
    writer.nest(kind, |writer| writer.put(DATA_VALUE, bytes));
}

/// What an element holds, as one attribute.
pub(super) fn data(writer: &mut Writer, kind: u16, data: &Data) {
    match data {
        Data::None => {}
        Data::Value(bytes) => value(writer, kind, bytes),
        Data::Verdict(verdict) => writer.nest(kind, |writer| put_verdict(writer, verdict)),
    }
}

fn put_verdict(writer: &mut Writer, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5i32, None),
    };
    writer.nest(DATA_VERDICT, |writer| {
        writer.u32_be(VERDICT_CODE, code.cast_unsigned());
        if let Some(chain) = chain {
            writer.text(VERDICT_CHAIN, chain);
        }
    });
}

fn meta_key(key: MetaKey) -> u32 {
    match key {
        MetaKey::Mark => 3,
        MetaKey::InputLinkName => 6,
        MetaKey::OutputLinkName => 7,
        MetaKey::TransportProtocol => 16,
    }
}

fn payload_base(base: PayloadBase) -> u32 {
    match base {
        PayloadBase::Network => 1,
        PayloadBase::Transport => 2,
    }
}

fn ct_key(key: CtKey) -> u32 {
    match key {
        CtKey::State => 0,
        CtKey::Status => 2,
        CtKey::Mark => 3,
    }
}

fn direction_number(direction: Direction) -> u8 {
    match direction {
        Direction::Original => 0,
        Direction::Reply => 1,
    }
}

fn fib_result(result: FibResult) -> u32 {
    match result {
        FibResult::LinkIndex => 1,
        FibResult::AddressType => 3,
    }
}

fn fib_address(address: FibAddress) -> u32 {
    match address {
        FibAddress::Source => 1,
        FibAddress::Destination => 2,
    }
}

fn numgen_kind(kind: NumgenKind) -> u32 {
    match kind {
        NumgenKind::Incremental => 0,
        NumgenKind::Random => 1,
    }
}

fn comparison_number(comparison: Comparison) -> u32 {
    match comparison {
        Comparison::Equal => 0,
        Comparison::NotEqual => 1,
        Comparison::Less => 2,
        Comparison::LessOrEqual => 3,
        Comparison::Greater => 4,
        Comparison::GreaterOrEqual => 5,
    }
}

fn dynset_operation(operation: DynsetOperation) -> u32 {
    match operation {
        DynsetOperation::Add => 0,
        DynsetOperation::Update => 1,
        DynsetOperation::Delete => 2,
    }
}

/// Type and ICMP code.
fn reject(kind: RejectKind) -> (u32, u8) {
    match kind {
        RejectKind::PortUnreachable(Family::Ipv4) => (0, 3),
        RejectKind::PortUnreachable(Family::Ipv6) => (0, 4),
        RejectKind::TcpReset => (1, 0),
    }
}
