//! The planner: services in, rules out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::base::{
    self, CLUSTER_ADDRESSES, ENDPOINTS, HAIRPIN, HOST_PORT_ADDRESSES, HOST_PORTS, MARK, NODE_PORTS,
    REFUSED_NODE_PORTS, REFUSED_SERVICES, SERVICES, View,
};
use super::rule::{RuleBuilder, ServiceKey, Side, octets, port_key};
use super::{Affinity, HostPort, Protocol, Service, ServicePort, ServiceTable, TrafficPolicy};
use crate::nft::{
    Chain, Data, Expression, Family, FibAddress, Field, Key, Match, Name, NumgenKind, Register, Rule,
    Ruleset, Set, SetKind, SetReference, Table, Verdict,
};
use crate::node::NodeNetwork;

/// Bytes of a name that the kernel takes, less the prefixes and suffixes that are put around it.
const IDENTITY_LIMIT: usize = 160;

/// The rules for a table of services, and what their UDP flows may lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub ruleset: Ruleset,
    pub udp: UdpFrontends,
}

/// Where clients send UDP, and the endpoints that may receive it there. Connection tracking
/// remembers flows to endpoints that are gone; what is not here is stale.
pub type UdpFrontends = BTreeMap<Frontend, BTreeSet<SocketAddr>>;

/// Where clients send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Frontend {
    Address(SocketAddr),
    /// On any address of the node.
    NodePort(u16),
}

/// Plans the rules that carry a node's services. The result depends only on what is in the table,
/// not on its order.
pub fn plan(node: &NodeNetwork, services: &ServiceTable) -> Plan {
    let mut plan = Plan::default();
    for family in [Family::Ipv4, Family::Ipv6] {
        let view = View::new(node, family);
        let ranges = [node.pod_cidr, node.service_cidr];
        if !ranges.iter().any(|range| view.has(range.addr())) {
            continue;
        }
        let mut planner = Planner { table: base::table(&view), view, udp: &mut plan.udp };
        let mut sorted: Vec<&Service> = services.services.iter().collect();
        sorted.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        for service in sorted {
            planner.add_service(service);
        }
        let mut host_ports = services.host_ports.clone();
        host_ports.sort_unstable();
        for host_port in &host_ports {
            planner.add_host_port(host_port);
        }
        plan.ruleset.tables.push(planner.table);
    }
    plan
}

struct Planner<'a> {
    view: View<'a>,
    table: Table,
    udp: &'a mut UdpFrontends,
}

/// One port of a service in one address family.
struct PortView<'a> {
    service: &'a Service,
    port: &'a ServicePort,
    /// `namespace/name/protocol/port`: what chains are named after.
    identity: String,
    /// The service's cluster IPs of this family.
    cluster: Vec<IpAddr>,
    endpoints: Vec<SocketAddr>,
    local_endpoints: Vec<SocketAddr>,
}

/// Which endpoints are chosen from.
#[derive(Clone, Copy)]
enum Choice {
    Everywhere,
    Here,
}

impl PortView<'_> {
    fn key(&self, address: IpAddr) -> ServiceKey {
        ServiceKey { address, protocol: self.port.protocol, port: self.port.port }
    }
}

impl Planner<'_> {
    fn add_service(&mut self, service: &Service) {
        let cluster: Vec<IpAddr> = self.addresses(&service.cluster_ips).collect();
        for address in &cluster {
            self.insert(CLUSTER_ADDRESSES, octets(*address), Data::None);
        }
        for port in &service.ports {
            let mut endpoints: Vec<SocketAddr> =
                port.endpoints.iter().copied().filter(|endpoint| self.view.has(endpoint.ip())).collect();
            endpoints.sort_unstable();
            endpoints.dedup();
            let local = endpoints.iter().copied().filter(|endpoint| self.view.node.is_local(endpoint.ip()));
            let local_endpoints = local.collect();
            let identity = identity(service, port);
            let cluster = cluster.clone();
            let port = PortView { service, port, identity, cluster, endpoints, local_endpoints };
            self.add_port(&port);
        }
    }

    /// A port of the node that leads to one pod. The pod may come to itself by it.
    fn add_host_port(&mut self, host_port: &HostPort) {
        let HostPort { address, protocol, port, pod } = *host_port;
        if !self.view.has(pod.ip()) || address.is_some_and(|address| !self.view.has(address)) {
            return;
        }
        let target = Data::Value(endpoint_data(pod));
        match address {
            Some(address) => {
                let key = ServiceKey { address, protocol, port };
                self.insert(HOST_PORT_ADDRESSES, key.bytes(), target);
            }
            None => self.insert(HOST_PORTS, port_key(protocol, port), target),
        }
        self.insert(HAIRPIN, [octets(pod.ip()), octets(pod.ip())].concat(), Data::None);
        if protocol == Protocol::Udp {
            let frontend = match address {
                Some(address) => Frontend::Address(SocketAddr::new(address, port)),
                None => Frontend::NodePort(port),
            };
            self.udp.entry(frontend).or_default().insert(pod);
        }
    }

    /// Those addresses that are of this family and not the node's own DNS server's.
    fn addresses<'s>(&self, addresses: &'s [IpAddr]) -> impl Iterator<Item = IpAddr> + use<'s> {
        let (family, dns) = (self.view.family, self.view.node.dns_ip);
        let ours = move |address: &&IpAddr| (family == Family::Ipv4) == address.is_ipv4();
        addresses.iter().filter(ours).copied().filter(move |address| Some(*address) != dns)
    }

    fn add_port(&mut self, port: &PortView<'_>) {
        let outer = [&port.service.external_ips, &port.service.load_balancer_ips];
        let addresses = port.cluster.iter().copied();
        let addresses: Vec<IpAddr> =
            addresses.chain(outer.into_iter().flat_map(|list| self.addresses(list))).collect();
        self.note_udp(port, &addresses);
        if port.endpoints.is_empty() {
            for address in addresses {
                self.insert(REFUSED_SERVICES, port.key(address).bytes(), Data::None);
            }
            if let Some(node_port) = port.port.node_port {
                self.insert(REFUSED_NODE_PORTS, port_key(port.port.protocol, node_port), Data::None);
            }
            return;
        }
        let pods = self.view.node.pod_cidr;
        for endpoint in port.endpoints.iter().filter(|endpoint| pods.contains(&endpoint.ip())) {
            self.insert(HAIRPIN, [octets(endpoint.ip()), octets(endpoint.ip())].concat(), Data::None);
        }
        if self.is_plain(port) {
            return self.add_plain(port);
        }
        let everywhere = self.choice(Choice::Everywhere, port);
        let internal = match port.service.internal_traffic_policy {
            TrafficPolicy::Cluster => Verdict::Goto(everywhere.clone()),
            TrafficPolicy::Local => self.local_choice(port),
        };
        for address in &port.cluster {
            self.insert(SERVICES, port.key(*address).bytes(), Data::Verdict(internal.clone()));
        }
        self.add_outer_ways(port, &everywhere);
    }

    /// Whether the port is reached by cluster IPs alone, that no other service claims, and any
    /// packet may choose anew.
    fn is_plain(&self, port: &PortView<'_>) -> bool {
        let service = port.service;
        let outer = [&service.external_ips, &service.load_balancer_ips];
        let claimed = |address: &IpAddr| {
            self.table.sets[SERVICES].elements.contains_key(&Key::Value(port.key(*address).bytes()))
        };
        service.affinity == Affinity::None
            && port.port.node_port.is_none()
            && outer.into_iter().all(|addresses| self.addresses(addresses).next().is_none())
            && !port.cluster.iter().any(claimed)
    }

    /// Plain ports have no rules of their own: all with as many endpoints share a chain, which
    /// finds the endpoint by the packet's destination and a number.
    fn add_plain(&mut self, port: &PortView<'_>) {
        let endpoints = match port.service.internal_traffic_policy {
            TrafficPolicy::Cluster => &port.endpoints,
            TrafficPolicy::Local => &port.local_endpoints,
        };
        let verdict = if endpoints.is_empty() {
            Verdict::Drop
        } else {
            let count = endpoints.len() as u32;
            let rule = self.view.rule().numbered_destination(count, ENDPOINTS);
            Verdict::Goto(self.add_chain(format!("choose-{count}"), vec![rule]))
        };
        for address in &port.cluster {
            let key = port.key(*address).bytes();
            for (number, endpoint) in (0u32..).zip(endpoints) {
                let numbered = [key.as_slice(), &number.to_ne_bytes()].concat();
                self.insert(ENDPOINTS, numbered, Data::Value(endpoint_data(*endpoint)));
            }
            self.insert(SERVICES, key, Data::Verdict(verdict.clone()));
        }
    }

    /// Node port, external and load-balancer addresses.
    fn add_outer_ways(&mut self, port: &PortView<'_>, everywhere: &Name) {
        let external: Vec<IpAddr> = self.addresses(&port.service.external_ips).collect();
        let balancers: Vec<IpAddr> = self.addresses(&port.service.load_balancer_ips).collect();
        if external.is_empty() && balancers.is_empty() && port.port.node_port.is_none() {
            return;
        }
        let chain = self.external_chain(port, everywhere);
        let verdict = Data::Verdict(Verdict::Goto(chain.clone()));
        for address in &external {
            self.insert(SERVICES, port.key(*address).bytes(), verdict.clone());
        }
        if let Some(node_port) = port.port.node_port {
            self.insert(NODE_PORTS, port_key(port.port.protocol, node_port), verdict);
        }
        if !balancers.is_empty() {
            let verdict = Data::Verdict(Verdict::Goto(self.balancer_chain(port, chain)));
            for address in &balancers {
                self.insert(SERVICES, port.key(*address).bytes(), verdict.clone());
            }
        }
    }

    /// The choice among this node's endpoints; none here means that the packet is dropped.
    fn local_choice(&mut self, port: &PortView<'_>) -> Verdict {
        if port.local_endpoints.is_empty() {
            return Verdict::Drop;
        }
        Verdict::Goto(self.choice(Choice::Here, port))
    }

    /// The chain for packets from outside the cluster, or from inside to an outer address.
    fn external_chain(&mut self, port: &PortView<'_>, everywhere: &Name) -> Name {
        let mut rules = Vec::new();
        match port.service.external_traffic_policy {
            TrafficPolicy::Cluster => {
                // The endpoint may be on another node, which must answer through this one.
                let rule = match self.view.cluster_range() {
                    Some(range) => self.view.rule().address_within(Side::Source, range, Match::Outside),
                    None => self.view.rule(),
                };
                rules.push(rule.verdict(Verdict::Jump(MARK.into())));
                rules.push(self.view.rule().goto(everywhere));
            }
            TrafficPolicy::Local => {
                // Inside the cluster the outer address is but another name of the service.
                if let Some(range) = self.view.cluster_range() {
                    let inside = self.view.rule().address_within(Side::Source, range, Match::Inside);
                    rules.push(inside.goto(everywhere));
                }
                let own = || self.view.rule().address_local(FibAddress::Source);
                rules.push(own().verdict(Verdict::Jump(MARK.into())));
                rules.push(own().goto(everywhere));
                let verdict = self.local_choice(port);
                rules.push(self.view.rule().verdict(verdict));
            }
        }
        self.add_chain(format!("external/{}", port.identity), rules)
    }

    /// In front of the external chain for load-balancer addresses: who may come at all.
    fn balancer_chain(&mut self, port: &PortView<'_>, behind: Name) -> Name {
        let allowed = &port.service.load_balancer_source_ranges;
        if allowed.is_empty() {
            return behind;
        }
        let set = base::ranges(&self.view, allowed);
        let mut rules = Vec::new();
        if !set.elements.is_empty() {
            let inside = self.view.rule().address_in(Side::Source, SetReference::Anonymous(Box::new(set)));
            rules.push(inside.goto(&behind));
        }
        rules.push(self.view.rule().drop());
        self.add_chain(format!("balancer/{}", port.identity), rules)
    }

    /// A chain that chooses among endpoints.
    fn choice(&mut self, choice: Choice, port: &PortView<'_>) -> Name {
        let (kind, endpoints) = match choice {
            Choice::Everywhere => ("service", &port.endpoints),
            Choice::Here => ("local", &port.local_endpoints),
        };
        let rules = match port.service.affinity {
            Affinity::None => vec![self.random_endpoint(endpoints)],
            Affinity::ClientIp { timeout_seconds } => {
                self.sticky_endpoint(port, endpoints, u64::from(timeout_seconds) * 1000)
            }
        };
        self.add_chain(format!("{kind}/{}", port.identity), rules)
    }

    fn random_endpoint(&self, endpoints: &[SocketAddr]) -> Rule {
        if let [endpoint] = endpoints {
            return self.view.rule().destination(endpoint.ip(), endpoint.port());
        }
        let kind = SetKind::Map(vec![self.view.family.address(), Field::Port]);
        let held = endpoints.iter().map(|endpoint| Data::Value(endpoint_data(*endpoint)));
        let lookup = |from, set| Expression::Lookup { from, set, matches: Match::Inside, to: Some(from) };
        choose(self.view.rule(), kind, held, lookup).rewrite_destination()
    }

    /// Each endpoint has a chain, and a set of the clients that it served lately.
    fn sticky_endpoint(
        &mut self,
        port: &PortView<'_>,
        endpoints: &[SocketAddr],
        timeout_ms: u64,
    ) -> Vec<Rule> {
        let mut rules = Vec::new();
        let mut verdicts = Vec::new();
        for endpoint in endpoints {
            let place = format!("{}/{}/{}", port.identity, endpoint.ip(), endpoint.port());
            let clients: Name = format!("clients/{place}").into();
            let mut set = Set::new(SetKind::Set, &[self.view.family.address()]);
            set.timeout_ms = Some(timeout_ms);
            self.table.sets.insert(clients.clone(), set);
            let remember = self.view.rule().remember_source(&clients, timeout_ms);
            let rule = remember.destination(endpoint.ip(), endpoint.port());
            let chain = self.add_chain(format!("endpoint/{place}"), vec![rule]);
            let known = self.view.rule().address_in(Side::Source, SetReference::Named(clients));
            rules.push(known.goto(&chain));
            verdicts.push(Verdict::Goto(chain));
        }
        let rule = match verdicts.as_slice() {
            [verdict] => self.view.rule().verdict(verdict.clone()),
            _ => choose(
                self.view.rule(),
                SetKind::VerdictMap,
                verdicts.into_iter().map(Data::Verdict),
                |from, set| Expression::VerdictLookup { from, set },
            )
            .done(),
        };
        rules.push(rule);
        rules
    }

    fn note_udp(&mut self, port: &PortView<'_>, addresses: &[IpAddr]) {
        if port.port.protocol != Protocol::Udp {
            return;
        }
        let addresses =
            addresses.iter().map(|address| Frontend::Address(SocketAddr::new(*address, port.port.port)));
        for frontend in addresses.chain(port.port.node_port.map(Frontend::NodePort)) {
            self.udp.entry(frontend).or_default().extend(&port.endpoints);
        }
    }

    fn add_chain(&mut self, name: String, rules: Vec<Rule>) -> Name {
        let name: Name = name.into();
        self.table.chains.insert(name.clone(), Chain::regular(rules));
        name
    }

    /// The first one wins where two services claim the same address and port.
    fn insert(&mut self, set: &str, key: Vec<u8>, data: Data) {
        let set = self.table.sets.get_mut(set).expect("the base table has this set");
        set.elements.entry(Key::Value(key)).or_insert(data);
    }
}

/// Rolls a die and looks the number up in a map.
fn choose(
    rule: RuleBuilder,
    kind: SetKind,
    choices: impl ExactSizeIterator<Item = Data>,
    lookup: impl FnOnce(Register, SetReference) -> Expression,
) -> RuleBuilder {
    let modulus = choices.len() as u32;
    let mut set = Set::new(kind, &[Field::Number]);
    for (number, data) in (0u32..).zip(choices) {
        set.elements.insert(Key::Value(number.to_ne_bytes().into()), data);
    }
    let to = Register(0);
    rule.expressions([
        Expression::Numgen { kind: NumgenKind::Random, modulus, to },
        lookup(to, SetReference::Anonymous(Box::new(set))),
    ])
}

fn identity(service: &Service, port: &ServicePort) -> String {
    let identity = format!("{}/{}/{}/{}", service.namespace, service.name, port.protocol.name(), port.port);
    if identity.len() <= IDENTITY_LIMIT {
        return identity;
    }
    let kept: String = identity.chars().take(IDENTITY_LIMIT / 4 - 17).collect();
    format!("{kept}/{:016x}", crate::hash(identity.as_bytes()))
}

fn endpoint_data(endpoint: SocketAddr) -> Vec<u8> {
    let [high, low] = endpoint.port().to_be_bytes();
    [octets(endpoint.ip()), vec![high, low, 0, 0]].concat()
}
