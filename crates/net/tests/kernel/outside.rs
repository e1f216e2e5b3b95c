//! Traffic from and to a machine outside of the cluster.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::thread;

use sampan_net::Protocol::Tcp;
use sampan_net::{NodeNetwork, Service, ServicePort, TrafficPolicy, namespace};

use crate::support::{
    Node, at, greet, greeting, ip, is_silent, isolated, network, port, refusal, run, service,
};

const NODE: &str = "192.0.2.1";
const OUTSIDE: &str = "192.0.2.2";

/// Another machine: a namespace with a link to the node, and routes to the cluster's ranges.
struct Outside {
    namespace: PathBuf,
    _directory: tempfile::TempDir,
}

impl Outside {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let namespace = directory.path().join("outside");
        namespace::create(&namespace).expect("a namespace");
        run(&["ip", "link", "add", "up0", "type", "veth", "peer", "name", "far0"]);
        run(&["ip", "address", "add", "192.0.2.1/24", "dev", "up0"]);
        run(&["ip", "link", "set", "up0", "up"]);
        let file = std::fs::File::open(&namespace).expect("the namespace");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        let path = format!("/proc/{}/fd/{fd}", std::process::id());
        run(&["ip", "link", "set", "far0", "netns", &path]);
        let outside = Outside { namespace, _directory: directory };
        outside.inside(|| {
            run(&["ip", "address", "add", "192.0.2.2/24", "dev", "far0"]);
            run(&["ip", "link", "set", "far0", "up"]);
            run(&["ip", "route", "add", "10.0.0.0/8", "via", NODE]);
            run(&["ip", "route", "add", "198.51.100.0/24", "via", NODE]);
        });
        outside
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        namespace::run_in(&self.namespace, work).expect("inside")
    }

    fn serve(&self, port: u16) -> SocketAddr {
        let address = at(OUTSIDE, port);
        let listener = self.inside(|| TcpListener::bind(address).expect("a listener"));
        thread::spawn(move || listener.incoming().flatten().try_for_each(|stream| greet(stream, "outside")));
        address
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = namespace::delete(&self.namespace);
    }
}

fn web(policy: TrafficPolicy, endpoints: &[SocketAddr]) -> Service {
    Service {
        external_ips: vec![ip("198.51.100.7")],
        load_balancer_ips: vec![ip("198.51.100.8")],
        load_balancer_source_ranges: vec!["192.0.2.128/25".parse().expect("a range")],
        external_traffic_policy: policy,
        ..service(
            "web",
            "10.96.0.20",
            vec![ServicePort { node_port: Some(30080), ..port(Tcp, 80, endpoints) }],
        )
    }
}

fn open_to_outside() -> NodeNetwork {
    let node_port_addresses =
        vec!["192.0.2.0/24".parse().expect("a range"), "192.0.2.1/32".parse().expect("a range")];
    NodeNetwork { node_port_addresses, ..network() }
}

#[test]
fn nothing_inside_is_reached_from_outside_unless_asked() {
    isolated(|| {
        let outside = Outside::new();
        let mut node = Node::new();
        let one = node.pod("one");
        let endpoint = one.serve(8080);
        node.apply(vec![web(TrafficPolicy::Cluster, &[endpoint])]);
        // Routed here, but the ranges are the cluster's own business, as are the node's addresses in them.
        let gateway = SocketAddr::new(node.network.gateway(), 30080);
        for address in [endpoint, at("10.96.0.20", 80), gateway] {
            assert!(outside.inside(|| is_silent(address)), "{address}");
        }
        // Nothing listens there.
        assert_eq!(outside.inside(|| refusal(at(NODE, 30080))), Some(ErrorKind::ConnectionRefused));
        assert!(outside.inside(|| greeting(at("198.51.100.7", 80))).is_ok(), "an external IP was asked for");
    });
}

#[test]
fn forwarding_can_be_asked_for() {
    isolated(|| {
        let outside = Outside::new();
        let mut node = Node::with(NodeNetwork { forward_from_outside: true, ..network() });
        let one = node.pod("one");
        let endpoint = one.serve(8080);
        node.apply(vec![web(TrafficPolicy::Cluster, &[endpoint])]);
        assert_eq!(outside.inside(|| greeting(endpoint)).expect("an answer").seen_as, ip(OUTSIDE));
    });
}

#[test]
fn node_ports_open_where_asked() {
    isolated(|| {
        let outside = Outside::new();
        let mut node = Node::with(open_to_outside());
        let one = node.pod("one");
        let endpoint = one.serve(8080);
        let gateway = node.network.gateway();
        for (policy, seen_as) in [(TrafficPolicy::Cluster, gateway), (TrafficPolicy::Local, ip(OUTSIDE))] {
            node.apply(vec![web(policy, &[endpoint])]);
            for address in [at(NODE, 30080), at("198.51.100.7", 80)] {
                let greeting = outside.inside(|| greeting(address)).expect("an answer");
                assert_eq!(greeting.seen_as, seen_as, "{policy:?} {address}");
            }
            let balancer = at("198.51.100.8", 80);
            assert!(outside.inside(|| is_silent(balancer)), "not from this source");
        }
        // Only an endpoint elsewhere: inside still reaches it by the outer address, outside does not.
        node.apply(vec![web(TrafficPolicy::Local, &[at("10.244.7.7", 80)])]);
        assert!(outside.inside(|| is_silent(at(NODE, 30080))));
        node.apply(vec![web(TrafficPolicy::Local, &[])]);
        assert_eq!(outside.inside(|| refusal(at(NODE, 30080))), Some(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn pods_leave_under_the_nodes_address() {
    isolated(|| {
        let outside = Outside::new();
        let mut node = Node::new();
        let one = node.pod("one");
        let server = outside.serve(80);
        assert_eq!(one.inside(|| greeting(server)).expect("an answer").seen_as, ip(NODE));
    });
}

#[test]
fn loopback_addresses_on_a_wire_are_dropped() {
    isolated(|| {
        let mut node = Node::new();
        let one = node.pod("one");
        let socket = UdpSocket::bind("127.0.0.1:9999").expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        let witness = UdpSocket::bind(SocketAddr::new(node.network.gateway(), 9999)).expect("a socket");
        one.inside(|| {
            // A pod may route loopback addresses to the node on purpose.
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").expect("a setting");
            run(&["ip", "address", "delete", "127.0.0.1/8", "dev", "lo"]);
            run(&[
                "ip",
                "route",
                "add",
                "127.0.0.1/32",
                "via",
                "10.244.1.1",
                "dev",
                "eth0",
                "src",
                "10.244.1.2",
            ]);
            let sender = UdpSocket::bind("10.244.1.2:0").expect("a socket");
            let gateway = "10.244.1.1:9999";
            let _ = sender.send_to(b"evil", "127.0.0.1:9999");
            sender.send_to(b"good", gateway).expect("sent");
        });
        let mut buffer = [0; 16];
        // Packets of one link stay in order: once the second one is here, the first one has been judged.
        let (count, _) = witness.recv_from(&mut buffer).expect("the witness");
        assert_eq!(&buffer[..count], b"good");
        let nothing = socket.recv_from(&mut buffer).expect_err("nothing came through");
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    });
}
