//! Traffic to services.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use sampan_net::Protocol::{Tcp, Udp};
use sampan_net::{Affinity, Service, ServicePort, TrafficPolicy};

use crate::support::{
    Node, at, greet, greeting, handles, isolated, listed, port, refusal, service, set_bridge_filter,
};

const CLUSTER: &str = "10.96.0.20";

fn web(endpoints: &[SocketAddr]) -> Service {
    let port = ServicePort { node_port: Some(30080), ..port(Tcp, 80, endpoints) };
    service("web", CLUSTER, vec![port])
}

#[test]
fn a_cluster_ip_spreads_over_its_endpoints() {
    // With and without bridged packets passing the IP hooks: both are common settings.
    for bridge_filter in ["0", "1"] {
        isolated(move || {
            set_bridge_filter(bridge_filter);
            let mut node = Node::new();
            let (one, two, client) = (node.pod("one"), node.pod("two"), node.pod("client"));
            let endpoints = [one.serve(8080), two.serve(8081)];
            let plain = service("plain", "10.96.0.21", vec![port(Tcp, 80, &endpoints)]);
            node.apply(vec![web(&endpoints), plain]);
            for address in [at(CLUSTER, 80), at("10.96.0.21", 80)] {
                let mut servers: BTreeMap<String, u32> = BTreeMap::new();
                for _ in 0..64 {
                    let greeting = client.inside(|| greeting(address)).expect("an answer");
                    assert_eq!(greeting.seen_as, client.address(), "a pod's source is its own");
                    *servers.entry(greeting.server).or_default() += 1;
                }
                // Each endpoint is missed with a chance of 2^-64.
                assert_eq!(servers.len(), 2, "{servers:?}");
                let from_node = greeting(address).expect("an answer to the node itself");
                assert_eq!(from_node.seen_as, node.network.gateway());
            }
        });
    }
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    for bridge_filter in ["0", "1"] {
        isolated(move || {
            set_bridge_filter(bridge_filter);
            let mut node = Node::new();
            let one = node.pod("one");
            node.apply(vec![web(&[one.serve(8080)])]);
            for address in [at(CLUSTER, 80), SocketAddr::new(node.network.gateway(), 30080)] {
                let greeting = one.inside(|| greeting(address)).expect("an answer");
                assert_eq!(greeting.seen_as, node.network.gateway(), "{address}");
            }
        });
    }
}

#[test]
fn node_ports_answer_on_loopback_and_to_pods() {
    isolated(|| {
        let mut node = Node::new();
        let (one, client) = (node.pod("one"), node.pod("client"));
        node.apply(vec![web(&[one.serve(8080)])]);
        let gateway = node.network.gateway();
        for address in [at("127.0.0.1", 30080), at("127.5.6.7", 30080), SocketAddr::new(gateway, 30080)] {
            let greeting = greeting(address).expect("an answer");
            assert_eq!((greeting.server.as_str(), greeting.seen_as), ("one", gateway), "{address}");
        }
        let greeting = client.inside(|| greeting(SocketAddr::new(gateway, 30080))).expect("an answer");
        assert_eq!(greeting.seen_as, client.address());
        // A pod's own loopback is its own.
        assert_eq!(client.inside(|| refusal(at("127.0.0.1", 30080))), Some(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn the_node_itself_may_be_an_endpoint() {
    // As the API server is of the service `kubernetes`: on the bridge's address, or on loopback alone.
    for bridge_filter in ["0", "1"] {
        isolated(move || {
            set_bridge_filter(bridge_filter);
            let mut node = Node::new();
            let client = node.pod("client");
            for address in [SocketAddr::new(node.network.gateway(), 6443), at("127.0.0.1", 6443)] {
                let listener = std::net::TcpListener::bind(address).expect("a listener");
                std::thread::spawn(move || {
                    listener.incoming().flatten().take(4).try_for_each(|stream| greet(stream, "api"))
                });
                let plain = service("kubernetes", "10.96.0.1", vec![port(Tcp, 443, &[address])]);
                node.apply(vec![plain, web(&[address])]);
                for service in [at("10.96.0.1", 443), at(CLUSTER, 80)] {
                    let greeting = client.inside(|| greeting(service)).expect("an answer to the pod");
                    assert_eq!(greeting.seen_as, client.address(), "{service} at {address}");
                    drop(greeting);
                    let from_node = crate::support::greeting(service).expect("an answer to the node");
                    assert_eq!(from_node.server, "api");
                }
            }
        });
    }
}

#[test]
fn what_nobody_serves_is_refused_at_once_or_dies() {
    isolated(|| {
        let mut node = Node::new();
        let client = node.pod("client");
        let udp = service("dns", "10.96.0.30", vec![port(Udp, 53, &[])]);
        node.apply(vec![web(&[]), udp]);
        let gateway = SocketAddr::new(node.network.gateway(), 30080);
        // No endpoint, no such port, no endpoint behind the node port: the same for pods and node.
        for address in [at(CLUSTER, 80), at(CLUSTER, 81), gateway] {
            assert_eq!(refusal(address), Some(ErrorKind::ConnectionRefused), "node to {address}");
            let answer = client.inside(|| refusal(address));
            assert_eq!(answer, Some(ErrorKind::ConnectionRefused), "pod to {address}");
        }
        assert_eq!(refusal(at("127.0.0.1", 30080)), Some(ErrorKind::ConnectionRefused));
        let answer = client.inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            socket.connect("10.96.0.30:53").expect("an address");
            socket.send(b"x").expect("sent");
            socket.recv(&mut [0; 8]).expect_err("no answer").kind()
        });
        assert_eq!(answer, ErrorKind::ConnectionRefused, "UDP");
        // Addresses that no service and no pod has.
        for (address, kind) in [
            (at("10.96.7.7", 80), ErrorKind::ConnectionRefused),
            (at("10.244.9.9", 80), ErrorKind::HostUnreachable),
        ] {
            assert_eq!(client.inside(|| refusal(address)), Some(kind), "pod to {address}");
            assert_eq!(refusal(address), Some(kind), "node to {address}");
        }
    });
}

#[test]
fn a_removed_endpoint_keeps_its_connections_and_others_notice_nothing() {
    isolated(|| {
        let mut node = Node::new();
        let (one, two, client) = (node.pod("one"), node.pod("two"), node.pod("client"));
        let endpoints = [one.serve(8080), two.serve(8080)];
        let other = || service("other", "10.96.0.21", vec![port(Tcp, 80, &endpoints)]);
        assert!(node.apply(vec![web(&endpoints[..1]), other()]).replaced);
        let mut connection = client.inside(|| greeting(at(CLUSTER, 80))).expect("an answer");
        let before = handles();
        let applied = node.apply(vec![web(&endpoints[1..]), other()]);
        assert!(!applied.replaced && applied.messages <= 10, "{applied:?}");
        let after = handles();
        let changed: BTreeSet<&String> = before.symmetric_difference(&after).collect();
        assert!(changed.iter().all(|line| line.contains("service/default/web/tcp/80")), "{changed:?}");
        assert!(!changed.is_empty());
        assert!(connection.echoes(), "the old connection");
        for _ in 0..8 {
            let greeting = client.inside(|| greeting(at(CLUSTER, 80))).expect("an answer");
            assert_eq!(greeting.server, "two");
        }
        // Down to none, up again, and away.
        node.apply(vec![web(&[]), other()]);
        assert_eq!(client.inside(|| refusal(at(CLUSTER, 80))), Some(ErrorKind::ConnectionRefused));
        assert!(!node.apply(vec![web(&endpoints), other()]).replaced);
        assert!(client.inside(|| greeting(at(CLUSTER, 80))).is_ok());
        assert!(!node.apply(vec![other()]).replaced);
        assert_eq!(client.inside(|| refusal(at(CLUSTER, 80))), Some(ErrorKind::ConnectionRefused));
        assert!(connection.echoes(), "the old connection");
        let unchanged = node.apply(vec![other()]);
        assert_eq!((unchanged.replaced, unchanged.messages), (false, 0));
    });
}

#[test]
fn rules_that_somebody_removed_are_replaced() {
    isolated(|| {
        let mut node = Node::new();
        let one = node.pod("one");
        let endpoint = one.serve(8080);
        node.apply(vec![web(&[endpoint])]);
        sampan_net::nft::delete_table("sampan").expect("removed");
        assert!(node.apply(vec![web(&[endpoint, at("10.244.1.99", 1)])]).replaced);
        node.rules.forget();
        assert!(node.apply(vec![web(&[endpoint])]).replaced);
        assert!(greeting(at(CLUSTER, 80)).is_ok());
    });
}

#[test]
fn udp_clients_move_over_when_their_endpoint_goes() {
    isolated(|| {
        let mut node = Node::new();
        let (one, two, client) = (node.pod("one"), node.pod("two"), node.pod("client"));
        let endpoints = [one.serve_udp(5353), two.serve_udp(5353)];
        let dns = |endpoints: &[SocketAddr]| {
            let port = ServicePort { node_port: Some(30053), ..port(Udp, 53, endpoints) };
            vec![service("dns", "10.96.0.30", vec![port])]
        };
        node.apply(dns(&endpoints[..1]));
        let ask = |socket: &UdpSocket| {
            socket.send(b"?").expect("sent");
            let mut buffer = [0; 16];
            let count = socket.recv(&mut buffer).expect("an answer");
            String::from_utf8_lossy(&buffer[..count]).into_owned()
        };
        let connect = |address: SocketAddr| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
            socket.connect(address).expect("an address");
            socket
        };
        let from_pod = client.inside(|| connect(at("10.96.0.30", 53)));
        let from_node = connect(at("127.0.0.1", 30053));
        assert_eq!((ask(&from_pod), ask(&from_node)), ("one".to_owned(), "one".to_owned()));
        let applied = node.apply(dns(&endpoints));
        assert_eq!(applied.flows_forgotten, 0, "flows of endpoints that stay");
        assert_eq!(ask(&from_pod), "one");
        let applied = node.apply(dns(&endpoints[1..]));
        assert_eq!(applied.flows_forgotten, 2);
        assert_eq!((ask(&from_pod), ask(&from_node)), ("two".to_owned(), "two".to_owned()));
        // A restarted process knows of no past, and still finds them.
        node.rules.forget();
        assert_eq!(node.apply(dns(&endpoints[..1])).flows_forgotten, 2);
        assert_eq!((ask(&from_pod), ask(&from_node)), ("one".to_owned(), "one".to_owned()));
    });
}

#[test]
fn a_client_keeps_its_endpoint_with_affinity() {
    isolated(|| {
        let mut node = Node::new();
        let pods = ["a", "b", "c"].map(|uid| node.pod(uid));
        let client = node.pod("client");
        let endpoints: Vec<_> = pods.iter().map(|pod| pod.serve(8080)).collect();
        let sticky = |endpoints: &[SocketAddr]| {
            vec![Service { affinity: Affinity::ClientIp { timeout_seconds: 10_800 }, ..web(endpoints) }]
        };
        node.apply(sticky(&endpoints));
        let ask = || client.inside(|| greeting(at(CLUSTER, 80))).expect("an answer").server;
        let chosen = ask();
        assert!((0..24).all(|_| ask() == chosen));
        // Endpoints come and go; the client's stays, until it goes itself.
        let kept: usize = pods.iter().position(|pod| pod.attachment.pod_uid == chosen).expect("a pod");
        let two = [endpoints[kept], endpoints[(kept + 1) % 3]];
        assert!(!node.apply(sticky(&two)).replaced);
        assert!((0..24).all(|_| ask() == chosen));
        node.apply(sticky(&[endpoints[(kept + 1) % 3], endpoints[(kept + 2) % 3]]));
        let next = ask();
        assert_ne!(next, chosen);
        assert!((0..24).all(|_| ask() == next));
    });
}

#[test]
fn five_thousand_services_fit_one_transaction() {
    isolated(|| {
        let mut node = Node::new();
        let one = node.pod("one");
        let endpoint = one.serve(8080);
        let many = |last: &[SocketAddr]| {
            let some = |number: u32| {
                let [_, _, high, low] = number.to_be_bytes();
                let endpoints = [endpoint, at("10.244.1.200", 80), at("10.244.1.201", 80)];
                let endpoints = if number == 4999 { last } else { &endpoints[..] };
                service(
                    &format!("s{number}"),
                    &format!("10.96.{}.{low}", high + 1),
                    vec![port(Tcp, 80, endpoints)],
                )
            };
            (0..5000).map(some).collect::<Vec<_>>()
        };
        let full = Instant::now();
        let applied = node.apply(many(&[endpoint]));
        println!("5000 services: {:?}, {applied:?}", full.elapsed());
        assert!(applied.replaced);
        let [_, _, high, low] = 4999u32.to_be_bytes();
        let last = at(&format!("10.96.{}.{low}", high + 1), 80);
        assert_eq!(greeting(last).expect("an answer").server, "one");
        let small = Instant::now();
        let applied = node.apply(many(&[endpoint, at("10.244.1.200", 80)]));
        println!("one endpoint more: {:?}, {applied:?}", small.elapsed());
        assert!(!applied.replaced && applied.messages < 10, "{applied:?}");
        let again = Instant::now();
        node.rules.forget();
        node.apply(many(&[endpoint]));
        println!("again: {:?}", again.elapsed());
    });
}

/// Whatever the order of changes, sending differences leads to the rules that a replacement makes.
#[test]
fn differences_lead_where_a_replacement_does() {
    isolated(|| {
        let mut node = Node::new();
        let mut state = 7u32;
        let mut draw = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        for step in 0..40 {
            let mut services = Vec::new();
            for number in 0..6 {
                if draw(4) == 0 {
                    continue;
                }
                let count = draw(4);
                let endpoints: Vec<_> =
                    (0..count).map(|_| at(&format!("10.244.{}.{}", draw(3), 2 + draw(4)), 8080)).collect();
                let protocol = if draw(3) == 0 { Udp } else { Tcp };
                let node_port = (draw(2) == 0).then_some(30_000 + number);
                let mut service = service(
                    &format!("s{number}"),
                    &format!("10.96.1.{number}"),
                    vec![ServicePort { node_port, ..port(protocol, 80, &endpoints) }],
                );
                let policy =
                    |draw: u32| if draw == 0 { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
                service.internal_traffic_policy = policy(draw(3));
                service.external_traffic_policy = policy(draw(3));
                if draw(3) == 0 {
                    service.affinity = Affinity::ClientIp { timeout_seconds: 60 };
                }
                if draw(3) == 0 {
                    service.load_balancer_ips = vec![at(&format!("198.51.100.{number}"), 0).ip()];
                    service.load_balancer_source_ranges = vec!["192.0.2.0/24".parse().expect("a range")];
                }
                services.push(service);
            }
            let applied = node.apply(services.clone());
            assert_eq!(applied.replaced, step == 0, "step {step}");
            let incremental = words();
            node.rules.forget();
            assert!(node.apply(services).replaced);
            assert_eq!(incremental, words(), "step {step}");
        }
    });
}

/// The kernel's rules without the order of elements, which hash tables do not keep.
fn words() -> Vec<String> {
    let listed = listed();
    let mut lines: Vec<String> = listed
        .lines()
        .filter(|line| !line.contains("elements = {") && (line.contains('\t') && !line.trim().ends_with(',')))
        .map(|line| line.trim().to_owned())
        .collect();
    let mut elements: Vec<String> =
        listed.split([',', '{', '}', '\n']).map(|word| word.trim().to_owned()).collect();
    elements.sort();
    lines.sort();
    lines.extend(elements);
    lines
}
