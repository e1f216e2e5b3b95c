//! The real kernel, in namespaces that each test makes for itself. Needs root.

mod support;

use std::collections::BTreeMap;
use std::io::ErrorKind;

use sampan_net::Protocol::Tcp;
use support::{Node, at, greeting, isolated, port, refusal, service};

#[test]
fn a_cluster_ip_spreads_over_its_endpoints() {
    isolated(|| {
        let mut node = Node::new();
        let (one, two, client) = (node.pod("one"), node.pod("two"), node.pod("client"));
        let endpoints = [one.serve(8080), two.serve(8081)];
        node.apply(vec![service("web", "10.96.0.20", vec![port(Tcp, 80, &endpoints)])]);
        let mut from_pod: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..64 {
            let greeting = client.inside(|| greeting(at("10.96.0.20", 80))).expect("an answer");
            assert_eq!(greeting.seen_as, client.address(), "a pod's source is its own");
            *from_pod.entry(greeting.server).or_default() += 1;
        }
        // Each endpoint is missed with a chance of 2^-64.
        assert_eq!(from_pod.len(), 2, "{from_pod:?}");
        let from_node = greeting(at("10.96.0.20", 80)).expect("an answer to the node itself");
        assert_eq!(from_node.seen_as, node.network.gateway());
        assert_eq!(refusal(at("10.96.0.20", 81)), Some(ErrorKind::ConnectionRefused));
    });
}
