//! Rules in the making: each method adds one match or statement.
//!
//! Matches load into the first register and compare at once; keys of several parts take the
//! registers one behind the other.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Protocol;
use crate::nft::{
    BitwiseMask, Comparison, CtKey, Direction, DynsetOperation, Expression, Family, FibAddress, FibResult,
    Match, MetaKey, NatKind, NumgenKind, PayloadBase, Register, RejectKind, Rule, SetReference, Verdict,
};

/// Packets that need this node's address as their source carry this mark from the choice of their
/// endpoint until they leave. The bit is the one that Kubernetes' own proxy uses.
pub(super) const MASQUERADE_MARK: u32 = 0x4000;
/// `RTN_LOCAL`.
const LOCAL_ADDRESS: u32 = 2;
/// `NF_CT_STATE_INVALID_BIT`.
const STATE_INVALID: u32 = 1;
/// `IPS_DST_NAT`.
const STATUS_DNAT: u32 = 0x20;
const FIRST: Register = Register(0);

/// Which address of a packet.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Source,
    Destination,
}

/// What a packet finds its service by.
#[derive(Clone, Copy)]
pub(super) struct ServiceKey {
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
}

impl ServiceKey {
    /// As a key of sets: each part filled up to four bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        [octets(self.address), port_key(self.protocol, self.port)].concat()
    }
}

/// Protocol and port as a key of sets.
pub(super) fn port_key(protocol: Protocol, port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![protocol.number(), 0, 0, 0, high, low, 0, 0]
}

pub(super) struct RuleBuilder {
    family: Family,
    expressions: Vec<Expression>,
}

impl RuleBuilder {
    pub(super) fn new(family: Family) -> Self {
        RuleBuilder { family, expressions: Vec::new() }
    }

    fn with(mut self, expressions: impl IntoIterator<Item = Expression>) -> Self {
        self.expressions.extend(expressions);
        self
    }

    fn compare(self, load: Expression, comparison: Comparison, data: Vec<u8>) -> Self {
        self.with([load, Expression::Compare { from: FIRST, comparison, data }])
    }

    pub(super) fn address(&self, side: Side, to: Register) -> Expression {
        let (offset, length) = match (self.family, side) {
            (Family::Ipv4, Side::Source) => (12, 4),
            (Family::Ipv4, Side::Destination) => (16, 4),
            (Family::Ipv6, Side::Source) => (8, 16),
            (Family::Ipv6, Side::Destination) => (24, 16),
        };
        Expression::Payload { base: PayloadBase::Network, offset, length, to }
    }

    /// The register behind an address in the first one.
    fn behind_address(&self) -> u8 {
        match self.family {
            Family::Ipv4 => 1,
            Family::Ipv6 => 4,
        }
    }

    fn protocol_and_port(self, first: u8) -> Self {
        self.with([
            Expression::Meta { key: MetaKey::TransportProtocol, to: Register(first) },
            Expression::Payload {
                base: PayloadBase::Transport,
                offset: 2,
                length: 2,
                to: Register(first + 1),
            },
        ])
    }

    /// Loads destination address, protocol and port as one key.
    fn service_key(self) -> Self {
        let load = self.address(Side::Destination, FIRST);
        let behind = self.behind_address();
        self.with([load]).protocol_and_port(behind)
    }

    /// Follows the verdict that a map has for the packet's address, protocol and port.
    pub(super) fn service_verdict(self, map: &str) -> Rule {
        let set = SetReference::Named(map.into());
        self.service_key().with([Expression::VerdictLookup { from: FIRST, set }]).done()
    }

    /// Goes on if the set has the packet's address, protocol and port.
    pub(super) fn service_in(self, set: &str) -> Self {
        self.service_key().lookup(SetReference::Named(set.into()))
    }

    /// Follows the verdict that a map has for the packet's protocol and port.
    pub(super) fn port_verdict(self, map: &str) -> Rule {
        let set = SetReference::Named(map.into());
        self.protocol_and_port(0).with([Expression::VerdictLookup { from: FIRST, set }]).done()
    }

    /// Rewrites the destination to what a map holds for the packet's address, protocol and port.
    pub(super) fn service_destination(self, map: &str) -> Rule {
        self.service_key().found_destination(map)
    }

    /// Rewrites the destination to what a map holds for the packet's protocol and port.
    pub(super) fn port_destination(self, map: &str) -> Rule {
        self.protocol_and_port(0).found_destination(map)
    }

    fn found_destination(self, map: &str) -> Rule {
        let set = SetReference::Named(map.into());
        let lookup = Expression::Lookup { from: FIRST, set, matches: Match::Inside, to: Some(FIRST) };
        self.with([lookup]).rewrite_destination()
    }

    pub(super) fn port_in(self, set: &str) -> Self {
        self.protocol_and_port(0).lookup(SetReference::Named(set.into()))
    }

    fn lookup(self, set: SetReference) -> Self {
        self.with([Expression::Lookup { from: FIRST, set, matches: Match::Inside, to: None }])
    }

    pub(super) fn address_in(self, side: Side, set: SetReference) -> Self {
        let load = self.address(side, FIRST);
        self.with([load]).lookup(set)
    }

    /// Goes on if source and destination, as one key, are in the set.
    pub(super) fn address_pair_in(self, set: &str) -> Self {
        let source = self.address(Side::Source, FIRST);
        let destination = self.address(Side::Destination, Register(self.behind_address()));
        self.with([source, destination]).lookup(SetReference::Named(set.into()))
    }

    pub(super) fn address_within(self, side: Side, range: IpNet, matches: Match) -> Self {
        let comparison = match matches {
            Match::Inside => Comparison::Equal,
            Match::Outside => Comparison::NotEqual,
        };
        let mask = octets(range.netmask());
        let xor = vec![0; mask.len()];
        let load = self.address(side, FIRST);
        let bitwise = Expression::Bitwise(BitwiseMask { from: FIRST, to: FIRST, mask, xor });
        let data = octets(range.network());
        self.with([load, bitwise, Expression::Compare { from: FIRST, comparison, data }])
    }

    pub(super) fn address_is(self, side: Side, address: IpAddr, comparison: Comparison) -> Self {
        let load = self.address(side, FIRST);
        self.compare(load, comparison, octets(address))
    }

    /// Goes on if an address belongs to this machine.
    pub(super) fn address_local(self, address: FibAddress) -> Self {
        let load = Expression::Fib { address, result: FibResult::AddressType, to: FIRST };
        self.compare(load, Comparison::Equal, LOCAL_ADDRESS.to_ne_bytes().into())
    }

    pub(super) fn input_link(self, name: &str, comparison: Comparison) -> Self {
        self.compare(Expression::Meta { key: MetaKey::InputLinkName, to: FIRST }, comparison, link_name(name))
    }

    /// Goes on if the packet came from the cluster's own links.
    pub(super) fn over_cluster_link(self, set: &str) -> Self {
        self.with([Expression::Meta { key: MetaKey::InputLinkName, to: FIRST }])
            .lookup(SetReference::Named(set.into()))
    }

    pub(super) fn output_link(self, name: &str, comparison: Comparison) -> Self {
        self.compare(
            Expression::Meta { key: MetaKey::OutputLinkName, to: FIRST },
            comparison,
            link_name(name),
        )
    }

    pub(super) fn protocol(self, number: u8) -> Self {
        let load = Expression::Meta { key: MetaKey::TransportProtocol, to: FIRST };
        self.compare(load, Comparison::Equal, vec![number])
    }

    fn bit(self, load: Expression, bit: u32) -> Self {
        let (mask, xor) = (bit.to_ne_bytes().to_vec(), vec![0; 4]);
        let bitwise = Expression::Bitwise(BitwiseMask { from: FIRST, to: FIRST, mask, xor });
        let data = vec![0; 4];
        self.with([
            load,
            bitwise,
            Expression::Compare { from: FIRST, comparison: Comparison::NotEqual, data },
        ])
    }

    pub(super) fn untrackable(self) -> Self {
        self.bit(Expression::Ct { key: CtKey::State, direction: None::<Direction>, to: FIRST }, STATE_INVALID)
    }

    /// Goes on if the connection's destination was rewritten.
    pub(super) fn redirected(self) -> Self {
        self.bit(Expression::Ct { key: CtKey::Status, direction: None::<Direction>, to: FIRST }, STATUS_DNAT)
    }

    pub(super) fn marked(self) -> Self {
        self.bit(Expression::Meta { key: MetaKey::Mark, to: FIRST }, MASQUERADE_MARK)
    }

    /// Sets or clears the mark.
    pub(super) fn mark(self, set: bool) -> Self {
        let mask = (!MASQUERADE_MARK).to_ne_bytes().to_vec();
        let xor = if set { MASQUERADE_MARK } else { 0 }.to_ne_bytes().to_vec();
        self.with([
            Expression::Meta { key: MetaKey::Mark, to: FIRST },
            Expression::Bitwise(BitwiseMask { from: FIRST, to: FIRST, mask, xor }),
            Expression::MetaSet { key: MetaKey::Mark, from: FIRST },
        ])
    }

    /// Remembers the sender in a set for that long.
    pub(super) fn remember_source(self, set: &str, timeout_ms: u64) -> Self {
        let load = self.address(Side::Source, FIRST);
        let operation = DynsetOperation::Update;
        let set = set.into();
        self.with([load, Expression::Dynset { operation, set, key: FIRST, timeout_ms: Some(timeout_ms) }])
    }

    pub(super) fn expressions(self, expressions: impl IntoIterator<Item = Expression>) -> Self {
        self.with(expressions)
    }

    /// Rewrites the destination to the address and port in the first registers.
    pub(super) fn rewrite_destination(self) -> Rule {
        let port = Some(Register(self.behind_address()));
        let nat = Expression::Nat { kind: NatKind::Destination, family: self.family, address: FIRST, port };
        self.with([nat]).done()
    }

    /// Rewrites the destination to what a map holds for the packet's address, protocol and port and
    /// a number below `modulus`.
    pub(super) fn numbered_destination(self, modulus: u32, map: &str) -> Rule {
        let number = Register(self.behind_address() + 2);
        let set = SetReference::Named(map.into());
        self.service_key()
            .with([
                Expression::Numgen { kind: NumgenKind::Random, modulus, to: number },
                Expression::Lookup { from: FIRST, set, matches: Match::Inside, to: Some(FIRST) },
            ])
            .rewrite_destination()
    }

    /// Rewrites the destination to a given address and port.
    pub(super) fn destination(self, address: IpAddr, port: u16) -> Rule {
        let behind = Register(self.behind_address());
        self.with([
            Expression::Immediate { data: octets(address), to: FIRST },
            Expression::Immediate { data: port.to_be_bytes().into(), to: behind },
        ])
        .rewrite_destination()
    }

    pub(super) fn masquerade(self) -> Rule {
        self.with([Expression::Masquerade { random: true }]).done()
    }

    pub(super) fn reject_with_reset(self) -> Rule {
        self.with([Expression::Reject(RejectKind::TcpReset)]).done()
    }

    pub(super) fn reject(self) -> Rule {
        let kind = RejectKind::PortUnreachable(self.family);
        self.with([Expression::Reject(kind)]).done()
    }

    pub(super) fn verdict(self, verdict: Verdict) -> Rule {
        self.with([Expression::Verdict(verdict)]).done()
    }

    pub(super) fn goto(self, chain: &str) -> Rule {
        self.verdict(Verdict::Goto(chain.into()))
    }

    pub(super) fn drop(self) -> Rule {
        self.verdict(Verdict::Drop)
    }

    pub(super) fn done(self) -> Rule {
        Rule { expressions: self.expressions }
    }
}

/// An address as it stands in a packet.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// A link's name as the kernel compares it.
pub(super) fn link_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}
