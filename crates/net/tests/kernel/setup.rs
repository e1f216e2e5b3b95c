//! Links, namespaces and the node's set-up.

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use sampan_net::nft::{
    BitwiseMask, Chain, ChainKind, Comparison, CtKey, Data, DynsetOperation, Expression, Family, FibAddress,
    FibResult, Field, Hook, Key, LimitUnit, Match, MetaKey, NatKind, NumgenKind, PayloadBase, Register,
    RejectKind, Rule, Ruleset, Set, SetKind, SetReference, Table, Verdict, replace, update,
};
use sampan_net::{NodeNetwork, ensure_node, link, namespace, teardown_node};

use crate::support::{Node, at, ip, isolated, listed, network, run};

/// Addresses, routes and rules, without the state of carriers, which follows in its own time.
fn state() -> (String, String) {
    let addresses = run(&["ip", "-o", "address"]);
    let routes = run(&["ip", "route", "show", "table", "all"]).replace("linkdown ", "");
    (format!("{addresses}{routes}"), listed())
}

#[test]
fn a_node_is_set_up_twice_and_taken_down_without_a_trace() {
    isolated(|| {
        let before = (run(&["ip", "-o", "link"]), state());
        let network = network();
        teardown_node(&network).expect("nothing to take down");
        ensure_node(&network).expect("set up");
        let first = state();
        ensure_node(&network).expect("set up again");
        let second = state();
        assert_eq!(first, second);
        for route in ["unreachable 10.244.0.0/16", "unreachable 10.96.0.0/16", "10.96.0.0/16 dev sampan0"] {
            assert!(first.0.contains(route), "{route} in {}", first.0);
        }
        // The configuration changes: what it made before goes.
        let moved = NodeNetwork {
            service_cidr: "10.97.0.0/16".parse().expect("a range"),
            dns_ip: Some(ip("10.97.0.10")),
            ..network.clone()
        };
        ensure_node(&moved).expect("set up otherwise");
        let routes = run(&["ip", "route", "show", "table", "all"]);
        assert!(routes.contains("unreachable 10.97.0.0/16") && !routes.contains("10.96.0."), "{routes}");
        teardown_node(&moved).expect("taken down");
        let after = (run(&["ip", "-o", "link"]), state());
        assert_eq!(before, after);
    });
}

#[test]
fn pods_come_and_go() {
    isolated(|| {
        let mut node = Node::new();
        let start = Instant::now();
        let pods: Vec<_> = (0..20).map(|number| node.pod(&format!("pod-{number}"))).collect();
        println!("20 namespaces with their links: {:?}", start.elapsed());
        let start = Instant::now();
        for pod in &pods {
            // As after a crash half way: it starts over.
            let addresses = &pod.attachment.addresses;
            let again = link::attach(&node.network, &pod.attachment.pod_uid, &pod.namespace, addresses);
            assert_eq!(again.expect("attached again"), pod.attachment);
        }
        println!("20 links again: {:?}", start.elapsed());
        let mut listed = link::list(&node.network).expect("a list");
        let mut expected: Vec<_> = pods.iter().map(|pod| pod.attachment.clone()).collect();
        listed.sort_by(|a, b| a.pod_uid.cmp(&b.pod_uid));
        expected.sort_by(|a, b| a.pod_uid.cmp(&b.pod_uid));
        assert_eq!(listed, expected);
        let routes = pods[0].inside(|| run(&["ip", "route"]));
        assert_eq!(
            routes.trim(),
            "default via 10.244.1.1 dev eth0 proto 83 \n10.244.1.1 dev eth0 proto 83 scope link"
        );
        for pod in &pods {
            link::detach(&pod.attachment.pod_uid).expect("detached");
            link::detach(&pod.attachment.pod_uid).expect("nothing to detach");
            namespace::delete(&pod.namespace).expect("deleted");
            namespace::delete(&pod.namespace).expect("nothing to delete");
            assert!(!pod.namespace.exists());
        }
        assert_eq!(link::list(&node.network).expect("a list"), Vec::new());
    });
}

#[test]
fn links_work_where_ipv6_cannot_be() {
    isolated(|| {
        let mut node = Node::with(NodeNetwork { mtu: 1000, ..network() });
        let pod = node.pod("small");
        let address = pod.serve(80);
        assert_eq!(crate::support::greeting(address).expect("an answer").server, "small");
        assert!(!run(&["ip", "address"]).contains("inet6 fe80"));
        assert!(!Node::new().pod("usual").inside(|| run(&["ip", "address"])).contains("inet6 fe80"));
    });
}

#[test]
fn what_cannot_be_attached_says_why() {
    isolated(|| {
        let mut node = Node::new();
        let pod = node.pod("pod");
        let attach = |uid: &str, addresses: &[std::net::IpAddr]| {
            link::attach(&node.network, uid, &pod.namespace, addresses)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        let address = [ip("10.244.1.77")];
        assert_eq!(attach("", &address), Err("pod uid \"\" cannot name a link".to_owned()));
        assert_eq!(attach("a b", &address), Err("pod uid \"a b\" cannot name a link".to_owned()));
        assert_eq!(attach("x", &[]), Err("pod x has no address".to_owned()));
        let missing = pod.namespace.with_file_name("missing");
        assert!(link::attach(&node.network, "x", &missing, &address).is_err());
        // The namespace has its eth0 already: nothing of the attempt stays.
        assert!(attach("other", &address).is_err());
        assert_eq!(link::list(&node.network).expect("a list").len(), 1);
        for bridge in ["", "a/b", "..", "sixteen-bytes-xy"] {
            let network = NodeNetwork { bridge: bridge.to_owned(), ..network() };
            assert!(ensure_node(&network).is_err(), "{bridge:?}");
        }
    });
}

#[test]
fn a_namespace_survives_being_made_twice() {
    isolated(|| {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("deep/below/pod");
        namespace::create(&path).expect("made");
        let name = |path: &std::path::Path| {
            namespace::run_in(path, || std::fs::read_link("/proc/thread-self/ns/net").expect("a link"))
        };
        let first = name(&path).expect("inside");
        namespace::create(&path).expect("there already");
        assert_eq!(name(&path).expect("inside"), first);
        assert_ne!(std::fs::read_link("/proc/thread-self/ns/net").expect("a link"), first);
        namespace::delete(&path).expect("deleted");
        assert!(name(&path).is_err());
        // A file that a crash left without its mount.
        std::fs::write(&path, "").expect("a file");
        assert!(!namespace::exists(&path));
        namespace::create(&path).expect("taken over");
        assert!(namespace::exists(&path));
        namespace::delete(&path).expect("deleted");
    });
}

#[test]
fn the_dns_address_is_the_nodes_own() {
    isolated(|| {
        let mut node = Node::new();
        let client = node.pod("client");
        // Even a service of that address does not take it away.
        let service = crate::support::service(
            "kube-dns",
            "10.96.0.10",
            vec![crate::support::port(sampan_net::Protocol::Udp, 53, &[at("10.244.1.99", 53)])],
        );
        node.apply(vec![service]);
        let dns = at("10.96.0.10", 53);
        let server = UdpSocket::bind(dns).expect("a local address");
        for inside in [true, false] {
            let ask = || {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                socket.connect(dns).expect("an address");
                socket.send(b"?").expect("sent");
                socket
            };
            let socket = if inside { client.inside(ask) } else { ask() };
            let mut buffer = [0; 8];
            let (_, peer) = server.recv_from(&mut buffer).expect("a question");
            if inside {
                assert_eq!(peer.ip(), client.address());
            }
            server.send_to(b"!", peer).expect("sent");
            assert_eq!(socket.recv(&mut buffer).expect("an answer"), 1);
        }
        // Gone from the wire for everybody else: it is not announced as a source.
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect(SocketAddr::new(client.address(), 9)).expect("an address");
        assert_eq!(socket.local_addr().expect("an address").ip(), node.network.gateway());
    });
}

/// Every kind of expression and set, as the kernel understands it.
#[test]
fn the_kernel_reads_what_was_written() {
    isolated(|| {
        let ruleset = every_expression();
        replace(&ruleset).expect("taken");
        let golden = include_str!("every_expression.nft");
        assert_eq!(listed(), golden, "{}", listed());
        // The same again: replaced in one transaction, and no difference to send.
        replace(&ruleset).expect("taken again");
        assert_eq!(listed(), golden);
        assert_eq!(update(&ruleset, &ruleset).expect("nothing to send"), Some(Default::default()));
    });
}

fn every_expression() -> Ruleset {
    let mut table = Table::new(Family::Ipv4, "every");
    let mut ports = Set::new(SetKind::Set, &[Field::Ipv4Address, Field::Port]);
    ports.interval = true;
    let range = Key::Range(vec![10, 0, 0, 0, 0, 80, 0, 0], vec![10, 0, 0, 255, 0, 90, 0, 0]);
    ports.elements.insert(range, Data::None);
    let mut ranges = Set::new(SetKind::VerdictMap, &[Field::Ipv4Address]);
    ranges.interval = true;
    ranges
        .elements
        .insert(Key::Range(vec![10, 0, 0, 0], vec![10, 255, 255, 255]), Data::Verdict(Verdict::Accept));
    ranges.elements.insert(Key::Range(vec![240, 0, 0, 0], vec![255; 4]), Data::Verdict(Verdict::Drop));
    let mut clients = Set::new(SetKind::Set, &[Field::Ipv4Address]);
    clients.timeout_ms = Some(60_000);
    for (name, set) in [("ports", ports), ("ranges", ranges), ("clients", clients)] {
        table.sets.insert(name.into(), set);
    }
    let rule = |expressions: &[Expression]| Rule { expressions: expressions.to_vec() };
    let base = |kind, hook, priority, rules| Chain::base(kind, hook, priority, rules);
    let first = Register(0);
    let source = Expression::Payload { base: PayloadBase::Network, offset: 12, length: 4, to: first };
    let sport = |to| Expression::Payload { base: PayloadBase::Transport, offset: 0, length: 2, to };
    let protocol = Expression::Meta { key: MetaKey::TransportProtocol, to: first };
    let compare =
        |data: &[u8]| Expression::Compare { from: first, comparison: Comparison::Equal, data: data.to_vec() };
    let named = |name: &str| SetReference::Named(name.into());
    let lookup =
        |name: &str, matches| Expression::Lookup { from: first, set: named(name), matches, to: None };
    let raw = vec![
        rule(&[protocol.clone(), compare(&[17]), Expression::Notrack]),
        rule(&[source.clone(), Expression::VerdictLookup { from: first, set: named("ranges") }]),
    ];
    let operation = DynsetOperation::Update;
    let filter = vec![
        rule(&[
            source.clone(),
            Expression::Dynset { operation, set: "clients".into(), key: first, timeout_ms: Some(5000) },
        ]),
        rule(&[
            source.clone(),
            lookup("clients", Match::Outside),
            Expression::Counter,
            Expression::Verdict(Verdict::Return),
        ]),
        rule(&[
            protocol.clone(),
            compare(&[6]),
            source.clone(),
            sport(Register(1)),
            lookup("ports", Match::Inside),
            Expression::Reject(RejectKind::TcpReset),
        ]),
        rule(&[
            Expression::Limit { rate: 10, unit: LimitUnit::Minute, burst: 5 },
            Expression::Reject(RejectKind::PortUnreachable(Family::Ipv4)),
        ]),
        rule(&[
            protocol.clone(),
            compare(&[6]),
            sport(first),
            Expression::Range { from: first, matches: Match::Outside, first: vec![0, 80], last: vec![0, 90] },
            Expression::Verdict(Verdict::Jump("other".into())),
        ]),
        rule(&[
            Expression::Ct { key: CtKey::Mark, direction: None, to: first },
            compare(&7u32.to_ne_bytes()),
            Expression::Verdict(Verdict::Goto("other".into())),
        ]),
        rule(&[
            Expression::Fib { address: FibAddress::Source, result: FibResult::AddressType, to: first },
            compare(&2u32.to_ne_bytes()),
            Expression::Verdict(Verdict::Drop),
        ]),
    ];
    let mark = Expression::Bitwise(BitwiseMask {
        from: first,
        to: first,
        mask: (!1u32).to_ne_bytes().into(),
        xor: 1u32.to_ne_bytes().into(),
    });
    let other = vec![rule(&[
        Expression::Meta { key: MetaKey::Mark, to: first },
        mark,
        Expression::MetaSet { key: MetaKey::Mark, from: first },
    ])];
    let mut choices = Set::new(SetKind::Map(vec![Field::Ipv4Address, Field::Port]), &[Field::Number]);
    for number in 0..2u8 {
        let key = Key::Value(u32::from(number).to_ne_bytes().into());
        choices.elements.insert(key, Data::Value(vec![10, 0, 0, number, 0, 80, 0, 0]));
    }
    let set = SetReference::Anonymous(Box::new(choices));
    let destination = vec![
        rule(&[
            protocol.clone(),
            compare(&[6]),
            Expression::Numgen { kind: NumgenKind::Incremental, modulus: 2, to: first },
            Expression::Lookup { from: first, set, matches: Match::Inside, to: Some(first) },
            Expression::Nat {
                kind: NatKind::Destination,
                family: Family::Ipv4,
                address: first,
                port: Some(Register(1)),
            },
        ]),
        rule(&[
            protocol,
            compare(&[6]),
            Expression::Immediate { data: vec![31, 144], to: first },
            Expression::Redirect { port: Some(first) },
        ]),
    ];
    let source = vec![
        rule(&[
            Expression::Meta { key: MetaKey::OutputLinkName, to: first },
            compare(b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            Expression::Immediate { data: vec![192, 0, 2, 9], to: first },
            Expression::Nat { kind: NatKind::Source, family: Family::Ipv4, address: first, port: None },
        ]),
        rule(&[Expression::Masquerade { random: true }]),
    ];
    let chains = [
        ("destination", base(ChainKind::Nat, Hook::Prerouting, -100, destination)),
        ("filter", base(ChainKind::Filter, Hook::Input, 0, filter)),
        ("other", Chain::regular(other)),
        ("raw", base(ChainKind::Filter, Hook::Prerouting, -300, raw)),
        ("route", base(ChainKind::Route, Hook::Output, -150, Vec::new())),
        ("source", base(ChainKind::Nat, Hook::Postrouting, 100, source)),
    ];
    table.chains.extend(chains.map(|(name, chain)| (name.into(), chain)));
    Ruleset { tables: vec![table] }
}

#[test]
fn a_refused_transaction_names_its_object_and_changes_nothing() {
    isolated(|| {
        let mut table = Table::new(Family::Ipv4, "sampan");
        table.chains.insert("fine".into(), Chain::default());
        let fine = Ruleset { tables: vec![table.clone()] };
        replace(&fine).expect("taken");
        let before = listed();
        let nowhere = Rule { expressions: vec![Expression::Verdict(Verdict::Jump("nowhere".into()))] };
        table.chains.insert("broken".into(), Chain::regular(vec![Rule::default(), nowhere]));
        let broken = Ruleset { tables: vec![table] };
        for error in [replace(&broken).map(|_| ()), update(&fine, &broken).map(|_| ())] {
            let error = error.expect_err("refused");
            assert_eq!(
                error.to_string(),
                "the kernel refuses to add rule 1 of chain broken (0 more refusals)",
                "{error:?}"
            );
        }
        assert_eq!(listed(), before);
    });
}
