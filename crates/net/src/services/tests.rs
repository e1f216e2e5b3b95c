use super::*;
use crate::node::NodeNetwork;

fn network() -> NodeNetwork {
    NodeNetwork {
        bridge: "sampan0".to_owned(),
        mtu: 1500,
        pod_cidr: "10.244.1.0/24".parse().expect("a range"),
        cluster_cidr: "10.244.0.0/16".parse().expect("a range"),
        service_cidr: "10.96.0.0/16".parse().expect("a range"),
        dns_ip: Some("10.96.0.10".parse().expect("an address")),
        node_ips: vec!["192.0.2.1".parse().expect("an address")],
        node_port_addresses: Vec::new(),
        cluster_links: Vec::new(),
        forward_from_outside: false,
        table: "sampan".to_owned(),
    }
}

fn service(name: &str, cluster_ip: &str, port: ServicePort) -> Service {
    Service {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        cluster_ips: vec![cluster_ip.parse().expect("an address")],
        ports: vec![port],
        ..Service::default()
    }
}

fn port(protocol: Protocol, port: u16, endpoints: &[&str]) -> ServicePort {
    let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().expect("an endpoint")).collect();
    ServicePort { protocol, port, endpoints, ..ServicePort::default() }
}

/// The lines that services add to the rules of a node without any.
fn check(services: Vec<Service>, expected: &[&str]) {
    let without = plan(&network(), &ServiceTable::default()).ruleset.to_string();
    let with = plan(&network(), &ServiceTable { services, ..ServiceTable::default() }).ruleset.to_string();
    let base: std::collections::BTreeSet<&str> = without.lines().collect();
    let added: Vec<&str> = with.lines().filter(|line| !base.contains(line)).map(str::trim).collect();
    assert_eq!(added, expected, "{with}");
}

#[test]
fn a_node_without_services_has_the_base() {
    let mut network = network();
    network.node_port_addresses =
        ["192.0.2.0/24", "192.0.2.1/32"].map(|range| range.parse().expect("a range")).into();
    network.cluster_links = vec!["overlay0".to_owned()];
    let planned = plan(&network, &ServiceTable::default()).ruleset.to_string();
    assert_eq!(planned, include_str!("base.golden"), "{planned}");
    network.forward_from_outside = true;
    let open = plan(&network, &ServiceTable::default()).ruleset.to_string();
    assert!(
        !open.contains("guard { type filter hook prerouting priority -300 policy accept }\n    iifname @")
    );
    assert!(!open.contains("    ip daddr & 255.255.0.0 10.244.0.0 drop"));
}

#[test]
fn endpoints_are_chosen_by_number() {
    let one = service("one", "10.96.0.1", port(Protocol::Tcp, 80, &["10.244.1.2:8080"]));
    // Twice the same endpoint, out of order, one of them elsewhere.
    let endpoints = ["10.244.2.3:53", "10.244.1.2:53", "10.244.2.3:53"];
    let two = service("two", "10.96.0.2", port(Protocol::Udp, 53, &endpoints));
    check(
        vec![two, one],
        &[
            "10.96.0.1",
            "10.96.0.2",
            "10.96.0.1 . tcp . 80 . 0x0 : 10.244.1.2 . 8080",
            "10.96.0.2 . udp . 53 . 0x0 : 10.244.1.2 . 53",
            "10.96.0.2 . udp . 53 . 0x1 : 10.244.2.3 . 53",
            "10.244.1.2 . 10.244.1.2",
            "10.96.0.1 . tcp . 80 : goto choose-1",
            "10.96.0.2 . udp . 53 : goto choose-2",
            "chain choose-1",
            "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 1 map @endpoints",
            "chain choose-2",
            "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints",
        ],
    );
}

#[test]
fn services_that_claim_one_address_do_not_mix() {
    let endpoints = ["10.244.2.1:80", "10.244.2.2:80"];
    let first = service("first", "10.96.0.1", port(Protocol::Tcp, 80, &endpoints));
    let second = service("second", "10.96.0.1", port(Protocol::Tcp, 80, &["10.244.2.3:80", "10.244.2.4:80"]));
    check(
        vec![second, first],
        &[
            "10.96.0.1",
            "10.96.0.1 . tcp . 80 . 0x0 : 10.244.2.1 . 80",
            "10.96.0.1 . tcp . 80 . 0x1 : 10.244.2.2 . 80",
            "10.96.0.1 . tcp . 80 : goto choose-2",
            "chain choose-2",
            "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints",
            "chain service/default/second/tcp/80",
            "dnat ip to numgen random mod 2 map { 0x0 : 10.244.2.3 . 80, 0x1 : 10.244.2.4 . 80 }",
        ],
    );
}

#[test]
fn services_without_endpoints_are_refused() {
    let node_port = ServicePort { node_port: Some(30080), ..port(Protocol::Sctp, 80, &[]) };
    let mut outer = service("none", "10.96.0.1", node_port);
    outer.external_ips = vec!["198.51.100.1".parse().expect("an address")];
    check(vec![outer], &["10.96.0.1", "sctp . 30080", "10.96.0.1 . sctp . 80", "198.51.100.1 . sctp . 80"]);
}

#[test]
fn policies_choose_among_local_endpoints() {
    let endpoints = ["10.244.1.2:80", "10.244.2.2:80", "192.0.2.1:80"];
    let node_port = ServicePort { node_port: Some(30080), ..port(Protocol::Tcp, 80, &endpoints) };
    let mut local = service("web", "10.96.0.1", node_port);
    local.internal_traffic_policy = TrafficPolicy::Local;
    local.external_traffic_policy = TrafficPolicy::Local;
    check(
        vec![local.clone()],
        &[
            "10.96.0.1",
            "10.244.1.2 . 10.244.1.2",
            "tcp . 30080 : goto external/default/web/tcp/80",
            "10.96.0.1 . tcp . 80 : goto local/default/web/tcp/80",
            "chain external/default/web/tcp/80",
            "ip saddr & 255.255.0.0 10.244.0.0 goto service/default/web/tcp/80",
            "fib saddr type 0x2 jump mark-for-masquerade",
            "fib saddr type 0x2 goto service/default/web/tcp/80",
            "goto local/default/web/tcp/80",
            "chain local/default/web/tcp/80",
            "dnat ip to numgen random mod 2 map { 0x0 : 10.244.1.2 . 80, 0x1 : 192.0.2.1 . 80 }",
            "chain service/default/web/tcp/80",
            "dnat ip to numgen random mod 3 map { 0x0 : 10.244.1.2 . 80, 0x1 : 10.244.2.2 . 80, 0x2 : 192.0.2.1 . 80 }",
        ],
    );
    local.ports[0].endpoints = vec!["10.244.2.2:80".parse().expect("an endpoint")];
    local.ports[0].node_port = None;
    check(vec![local], &["10.96.0.1", "10.96.0.1 . tcp . 80 : drop"]);
}

#[test]
fn load_balancers_know_their_sources() {
    let mut web = service("web", "10.96.0.1", port(Protocol::Tcp, 80, &["10.244.2.2:80"]));
    web.load_balancer_ips = vec!["198.51.100.1".parse().expect("an address")];
    web.load_balancer_source_ranges =
        ["192.0.2.0/25", "192.0.2.128/25", "fd00::/64"].map(|range| range.parse().expect("a range")).into();
    check(
        vec![web],
        &[
            "10.96.0.1",
            "10.96.0.1 . tcp . 80 : goto service/default/web/tcp/80",
            "198.51.100.1 . tcp . 80 : goto balancer/default/web/tcp/80",
            "chain balancer/default/web/tcp/80",
            "ip saddr { 192.0.2.0-192.0.2.255 } goto external/default/web/tcp/80",
            "drop",
            "chain external/default/web/tcp/80",
            "ip saddr & 255.255.0.0 != 10.244.0.0 jump mark-for-masquerade",
            "goto service/default/web/tcp/80",
            "chain service/default/web/tcp/80",
            "dnat ip to 10.244.2.2:80",
        ],
    );
}

#[test]
fn affinity_remembers_clients() {
    let mut web = service("web", "10.96.0.1", port(Protocol::Tcp, 80, &["10.244.2.2:80", "10.244.2.3:80"]));
    web.affinity = Affinity::ClientIp { timeout_seconds: 60 };
    check(
        vec![web],
        &[
            "set clients/default/web/tcp/80/10.244.2.2/80 { type ipv4_addr timeout 60000ms }",
            "set clients/default/web/tcp/80/10.244.2.3/80 { type ipv4_addr timeout 60000ms }",
            "10.96.0.1",
            "10.96.0.1 . tcp . 80 : goto service/default/web/tcp/80",
            "chain endpoint/default/web/tcp/80/10.244.2.2/80",
            "update @clients/default/web/tcp/80/10.244.2.2/80 { ip saddr timeout 60000ms } dnat ip to 10.244.2.2:80",
            "chain endpoint/default/web/tcp/80/10.244.2.3/80",
            "update @clients/default/web/tcp/80/10.244.2.3/80 { ip saddr timeout 60000ms } dnat ip to 10.244.2.3:80",
            "chain service/default/web/tcp/80",
            "ip saddr @clients/default/web/tcp/80/10.244.2.2/80 goto endpoint/default/web/tcp/80/10.244.2.2/80",
            "ip saddr @clients/default/web/tcp/80/10.244.2.3/80 goto endpoint/default/web/tcp/80/10.244.2.3/80",
            "numgen random mod 2 vmap { 0x0 : goto endpoint/default/web/tcp/80/10.244.2.2/80, \
             0x1 : goto endpoint/default/web/tcp/80/10.244.2.3/80 }",
        ],
    );
}

#[test]
fn other_families_and_the_dns_address_are_left_out() {
    let mut web = service("web", "10.96.0.10", port(Protocol::Tcp, 80, &["10.244.2.2:80", "[fd00::2]:80"]));
    web.cluster_ips.push("fd00:96::1".parse().expect("an address"));
    check(
        vec![web],
        &[
            "chain choose-1",
            "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 1 map @endpoints",
        ],
    );
}

#[test]
fn the_order_of_services_does_not_matter_and_names_fit() {
    let long = "x".repeat(250);
    let names = ["a", "b", &long, &format!("{long}y")];
    let mut services: Vec<_> = (1u8..)
        .zip(names)
        .map(|(number, name)| {
            let ports = port(Protocol::Tcp, 80, &["10.244.1.2:80"]);
            let ports = ServicePort { node_port: Some(30_000 + u16::from(number)), ..ports };
            service(name, &format!("10.96.0.{number}"), ports)
        })
        .collect();
    let first = plan(&network(), &ServiceTable { services: services.clone(), ..ServiceTable::default() });
    services.reverse();
    assert_eq!(first, plan(&network(), &ServiceTable { services, ..ServiceTable::default() }));
    let chains = &first.ruleset.tables[0].chains;
    let of_services = chains.keys().filter(|name| name.starts_with("service/"));
    assert_eq!(of_services.clone().count(), 4);
    assert!(of_services.clone().all(|name| name.len() < 256));
}

#[test]
fn udp_frontends_are_noted() {
    let node_port = ServicePort { node_port: Some(30053), ..port(Protocol::Udp, 53, &["10.244.1.2:53"]) };
    let tcp = service("tcp", "10.96.0.2", port(Protocol::Tcp, 53, &["10.244.1.2:53"]));
    let services = vec![service("dns", "10.96.0.1", node_port), tcp];
    let endpoints: std::collections::BTreeSet<_> = ["10.244.1.2:53".parse().expect("an endpoint")].into();
    let expected: UdpFrontends = [
        (Frontend::Address("10.96.0.1:53".parse().expect("an address")), endpoints.clone()),
        (Frontend::NodePort(30053), endpoints),
    ]
    .into();
    assert_eq!(plan(&network(), &ServiceTable { services, ..ServiceTable::default() }).udp, expected);
}

#[test]
fn a_second_family_has_a_table_of_its_own() {
    let mut network = network();
    network.service_cidr = "fd00:96::/112".parse().expect("a range");
    let web = service("web", "fd00:96::1", port(Protocol::Tcp, 80, &["[fd00:244::2]:80", "10.244.1.2:80"]));
    let planned = plan(&network, &ServiceTable { services: vec![web], ..ServiceTable::default() }).ruleset;
    let families: Vec<_> = planned.tables.iter().map(|table| table.family.name()).collect();
    assert_eq!(families, ["ip", "ip6"]);
    let text = planned.tables[1].to_string();
    assert!(text.contains("fd00:96::1 . tcp . 80 : goto choose-1"), "{text}");
    assert!(text.contains("fd00:96::1 . tcp . 80 . 0x0 : fd00:244::2 . 80"), "{text}");
}

#[test]
fn host_ports_lead_to_one_pod() {
    let host_port = |address: Option<&str>, protocol: Protocol, port: u16| HostPort {
        address: address.map(|address| address.parse().expect("an address")),
        protocol,
        port,
        pod: "10.244.1.7:80".parse().expect("an endpoint"),
    };
    let host_ports = vec![
        host_port(None, Protocol::Tcp, 8080),
        host_port(Some("127.0.0.1"), Protocol::Udp, 53),
        // Of a family that the pod has not.
        host_port(Some("::1"), Protocol::Tcp, 81),
    ];
    let table = ServiceTable { host_ports, ..ServiceTable::default() };
    let planned = plan(&network(), &table);
    let sets = &planned.ruleset.tables[0].sets;
    let count = |name: &str| sets.get(name).map(|set| set.elements.len());
    assert_eq!(count("host-ports"), Some(1));
    assert_eq!(count("host-port-addresses"), Some(1));
    assert_eq!(count("hairpin"), Some(1));
    let frontends: Vec<_> = planned.udp.keys().copied().collect();
    assert_eq!(frontends, [Frontend::Address("127.0.0.1:53".parse().expect("an address"))]);
}
