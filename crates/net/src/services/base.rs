//! The part of the rules that does not depend on services: where packets enter, what is let in,
//! what leaves under this node's address.
//!
//! Order on a packet's way: `guard` drops what pretends or has no business here, before anything is
//! rewritten; `prerouting` and `output` choose endpoints; `forward`, `input` and `filter-output`
//! refuse what found none; `postrouting` hides sources. Network policies get chains of their own
//! at the forward and output hooks behind these, where endpoints are already chosen.

use std::net::IpAddr;

use ipnet::IpNet;

use super::rule::{RuleBuilder, Side, link_name};
use crate::nft::{
    Chain, ChainKind, Comparison, Data, Family, FibAddress, Field, Hook, Key, Match, Rule, Set, SetKind,
    SetReference, Table, Verdict,
};
use crate::node::NodeNetwork;

pub(super) const SERVICES: &str = "services";
pub(super) const NODE_PORTS: &str = "node-ports";
pub(super) const REFUSED_SERVICES: &str = "services-without-endpoints";
pub(super) const REFUSED_NODE_PORTS: &str = "node-ports-without-endpoints";
pub(super) const CLUSTER_ADDRESSES: &str = "cluster-ips";
/// From a service's address, protocol and port and the number of one of its endpoints to that
/// endpoint. One map for all, since the kernel looks through a table's maps for each one it adds,
/// and through a map's elements for each chain that uses it.
pub(super) const ENDPOINTS: &str = "endpoints";
/// Ports of pods on any of the node's addresses, and on a certain one.
pub(super) const HOST_PORTS: &str = "host-ports";
pub(super) const HOST_PORT_ADDRESSES: &str = "host-port-addresses";
pub(super) const HAIRPIN: &str = "hairpin";
pub(super) const MARK: &str = "mark-for-masquerade";
const NODE_PORT_ADDRESSES: &str = "node-port-addresses";
const CLUSTER_LINKS: &str = "cluster-links";
const REFUSE: &str = "refuse";

/// Before connection tracking.
const RAW: i32 = -300;
const DESTINATION_NAT: i32 = -100;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;

/// What one family's rules need of the node.
pub(super) struct View<'a> {
    pub family: Family,
    pub node: &'a NodeNetwork,
    loopback: IpNet,
}

impl<'a> View<'a> {
    pub(super) fn new(node: &'a NodeNetwork, family: Family) -> Self {
        let loopback = match family {
            Family::Ipv4 => "127.0.0.0/8",
            Family::Ipv6 => "::1/128",
        };
        View { family, node, loopback: loopback.parse().expect("a constant range") }
    }

    pub(super) fn rule(&self) -> RuleBuilder {
        RuleBuilder::new(self.family)
    }

    /// Whether an address is of this family.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        (self.family == Family::Ipv4) == address.is_ipv4()
    }

    fn range(&self, range: IpNet) -> Option<IpNet> {
        self.has(range.addr()).then_some(range)
    }

    pub(super) fn cluster_range(&self) -> Option<IpNet> {
        self.range(self.node.cluster_cidr)
    }

    fn service_range(&self) -> Option<IpNet> {
        self.range(self.node.service_cidr)
    }
}

/// A table with everything but services.
pub(super) fn table(view: &View<'_>) -> Table {
    let mut table = Table::new(view.family, &view.node.table);
    add_sets(&mut table, view);
    let filter = |hook, priority, rules| Chain::base(ChainKind::Filter, hook, priority, rules);
    let nat = |hook, priority, rules| Chain::base(ChainKind::Nat, hook, priority, rules);
    let chains = [
        ("guard", filter(Hook::Prerouting, RAW, guard(view))),
        ("prerouting", nat(Hook::Prerouting, DESTINATION_NAT, prerouting(view))),
        ("output", nat(Hook::Output, DESTINATION_NAT, output(view))),
        ("input", filter(Hook::Input, FILTER, input(view))),
        ("forward", filter(Hook::Forward, FILTER, forward(view))),
        ("filter-output", filter(Hook::Output, FILTER, filter_output(view))),
        ("postrouting", nat(Hook::Postrouting, SOURCE_NAT, postrouting(view))),
        (MARK, Chain::regular(vec![view.rule().mark(true).done()])),
        (REFUSE, Chain::regular(vec![view.rule().protocol(6).reject_with_reset(), view.rule().reject()])),
    ];
    table.chains.extend(chains.map(|(name, chain)| (name.into(), chain)));
    table
}

fn add_sets(table: &mut Table, view: &View<'_>) {
    let address = view.family.address();
    let service = [address, Field::Protocol, Field::Port];
    let port = [Field::Protocol, Field::Port];
    let numbered = [address, Field::Protocol, Field::Port, Field::Number];
    let endpoint = SetKind::Map(vec![address, Field::Port]);
    let mut links = Set::new(SetKind::Set, &[Field::LinkName]);
    for name in view.node.cluster_links.iter().chain([&view.node.bridge]) {
        links.elements.insert(Key::Value(link_name(name)), Data::None);
    }
    let sets = [
        (SERVICES, Set::new(SetKind::VerdictMap, &service)),
        (NODE_PORTS, Set::new(SetKind::VerdictMap, &port)),
        (REFUSED_SERVICES, Set::new(SetKind::Set, &service)),
        (REFUSED_NODE_PORTS, Set::new(SetKind::Set, &port)),
        (CLUSTER_ADDRESSES, Set::new(SetKind::Set, &[address])),
        (ENDPOINTS, Set::new(endpoint.clone(), &numbered)),
        (HOST_PORTS, Set::new(endpoint.clone(), &port)),
        (HOST_PORT_ADDRESSES, Set::new(endpoint, &service)),
        (HAIRPIN, Set::new(SetKind::Set, &[address, address])),
        (NODE_PORT_ADDRESSES, ranges(view, &view.node.node_port_addresses)),
        (CLUSTER_LINKS, links),
    ];
    table.sets.extend(sets.map(|(name, set)| (name.into(), set)));
}

/// A set of ranges of the view's family; those inside others are left out, since ranges of a set
/// must not overlap.
pub(super) fn ranges(view: &View<'_>, ranges: &[IpNet]) -> Set {
    let mut set = Set::new(SetKind::Set, &[view.family.address()]);
    set.interval = true;
    for range in IpNet::aggregate(&ranges.to_vec()).into_iter().filter(|range| view.has(range.addr())) {
        let key = Key::Range(super::rule::octets(range.network()), super::rule::octets(range.broadcast()));
        set.elements.insert(key, Data::None);
    }
    set
}

fn named(set: &str) -> SetReference {
    SetReference::Named(set.into())
}

fn guard(view: &View<'_>) -> Vec<Rule> {
    let mut rules = vec![view.rule().input_link("lo", Comparison::Equal).verdict(Verdict::Accept)];
    // The bridge lets loopback addresses through for node ports' sake, but none is on a wire.
    rules.push(view.rule().address_within(Side::Destination, view.loopback, Match::Inside).drop());
    rules.push(view.rule().address_within(Side::Source, view.loopback, Match::Inside).drop());
    if !view.node.forward_from_outside {
        rules.push(view.rule().over_cluster_link(CLUSTER_LINKS).verdict(Verdict::Accept));
        for range in [view.cluster_range(), view.service_range()].into_iter().flatten() {
            rules.push(view.rule().address_within(Side::Destination, range, Match::Inside).drop());
        }
    }
    rules
}

fn prerouting(view: &View<'_>) -> Vec<Rule> {
    let local = || view.rule().address_local(FibAddress::Destination);
    vec![
        view.rule().service_verdict(SERVICES),
        local().over_cluster_link(CLUSTER_LINKS).port_verdict(NODE_PORTS),
        local().address_in(Side::Destination, named(NODE_PORT_ADDRESSES)).port_verdict(NODE_PORTS),
        view.rule().service_destination(HOST_PORT_ADDRESSES),
        local().port_destination(HOST_PORTS),
    ]
}

fn output(view: &View<'_>) -> Vec<Rule> {
    let local = || {
        let local = view.rule().address_local(FibAddress::Destination);
        match view.family {
            Family::Ipv4 => local,
            // The kernel routes nothing from ::1 to another link.
            Family::Ipv6 => local.address_is(Side::Destination, view.loopback.addr(), Comparison::NotEqual),
        }
    };
    vec![
        view.rule().service_verdict(SERVICES),
        local().port_verdict(NODE_PORTS),
        view.rule().service_destination(HOST_PORT_ADDRESSES),
        local().port_destination(HOST_PORTS),
    ]
}

fn input(view: &View<'_>) -> Vec<Rule> {
    let refused = |rule: RuleBuilder| rule.port_in(REFUSED_NODE_PORTS).goto(REFUSE);
    vec![
        refused(view.rule().over_cluster_link(CLUSTER_LINKS)),
        refused(view.rule().address_in(Side::Destination, named(NODE_PORT_ADDRESSES))),
    ]
}

fn forward(view: &View<'_>) -> Vec<Rule> {
    // Rewriting works on what connection tracking knows; the rest would leave with a wrong source.
    let mut rules = vec![view.rule().untrackable().drop()];
    rules.extend(refusals(view));
    rules.extend(
        view.service_range()
            .map(|range| view.rule().address_within(Side::Destination, range, Match::Inside).goto(REFUSE)),
    );
    rules
}

fn filter_output(view: &View<'_>) -> Vec<Rule> {
    let mut rules = refusals(view);
    let local = view.rule().address_local(FibAddress::Destination);
    rules.push(local.port_in(REFUSED_NODE_PORTS).goto(REFUSE));
    // What goes to the node's own DNS server stays on loopback.
    let leaving = view.rule().output_link("lo", Comparison::NotEqual);
    rules.extend(
        view.service_range()
            .map(|range| leaving.address_within(Side::Destination, range, Match::Inside).goto(REFUSE)),
    );
    rules
}

/// A service without endpoints, or a port that a service does not have, is refused at once rather
/// than left unanswered.
fn refusals(view: &View<'_>) -> Vec<Rule> {
    vec![
        view.rule().service_in(REFUSED_SERVICES).goto(REFUSE),
        view.rule().address_in(Side::Destination, named(CLUSTER_ADDRESSES)).goto(REFUSE),
    ]
}

fn postrouting(view: &View<'_>) -> Vec<Rule> {
    let mut rules = vec![
        // The mark has done its work; encapsulation must not see it again.
        view.rule().marked().mark(false).masquerade(),
        view.rule().redirected().address_pair_in(HAIRPIN).masquerade(),
    ];
    if view.family == Family::Ipv4 {
        let from_loopback = view.rule().address_within(Side::Source, view.loopback, Match::Inside);
        rules.push(from_loopback.output_link("lo", Comparison::NotEqual).masquerade());
    }
    if let (Some(pods), Some(cluster)) = (view.range(view.node.pod_cidr), view.cluster_range()) {
        let mut leaving = view.rule().address_within(Side::Source, pods, Match::Inside).address_within(
            Side::Destination,
            cluster,
            Match::Outside,
        );
        if let Some(services) = view.service_range() {
            leaving = leaving.address_within(Side::Destination, services, Match::Outside);
        }
        rules.push(leaving.output_link(&view.node.bridge, Comparison::NotEqual).masquerade());
    }
    rules
}
