use std::sync::Arc;

use sampan_api::table::Table;

use super::*;
use crate::cache::Caches;
use crate::fields::FieldReader;

fn resource() -> Resource {
    let def = Table::builtin().get_gvr(&SERVICES).expect("services are built in").clone();
    let cache = Caches::default().register("/registry/services/specs", FieldReader::default());
    Resource::unserved(Arc::clone(&def), cache)
}

fn allocators() -> Allocators {
    Allocators::new("10.43.0.0/24".parse().expect("valid"), 30000..=30001)
}

fn service(name: &str, spec: Value) -> Value {
    json!({"metadata": {"namespace": "n", "name": name}, "spec": spec})
}

#[test]
fn ranges_are_checked() {
    for wrong in ["10.43.0.1/16", "10.43.0.0/8", "10.43.0.0", "x/16", "10.43.0.0/33"] {
        assert!(wrong.parse::<ServiceRange>().is_err(), "{wrong}");
    }
}

#[test]
fn an_address_is_taken_once_and_comes_back() {
    let (allocators, resource) = (allocators(), resource());
    let mut seen = HashSet::new();
    for index in 0..254 {
        let mut one = service(&index.to_string(), json!({"type": "ClusterIP"}));
        allocators.reserve(&resource, &mut one, None).expect("room").keep();
        assert!(seen.insert(one["spec"]["clusterIP"].to_string()));
    }
    let mut more = service("more", json!({"type": "ClusterIP"}));
    assert!(allocators.reserve(&resource, &mut more, None).is_err());
    allocators.deleted("/registry/services/specs/n/7");
    allocators.reserve(&resource, &mut more, None).expect("one came back").keep();
}

#[test]
fn what_is_not_committed_is_given_back() {
    let (allocators, resource) = (allocators(), resource());
    let spec =
        json!({"type": "NodePort", "clusterIP": "10.43.0.9", "ports": [{"port": 80, "nodePort": 30000}]});
    drop(allocators.reserve(&resource, &mut service("a", spec.clone()), None).expect("free"));
    allocators.reserve(&resource, &mut service("b", spec.clone()), None).expect("free again").keep();
    let refused = allocators.reserve(&resource, &mut service("c", spec), None).err().expect("taken");
    assert_eq!(refused.code, 422);
    assert!(refused.message.contains("provided IP is already allocated"), "{refused}");
}

#[test]
fn node_ports_are_checked_and_shared_by_protocols_of_one_service() {
    let (allocators, resource) = (allocators(), resource());
    let ports = json!([{"port": 53, "protocol": "TCP", "nodePort": 30000}, {"port": 53, "protocol": "UDP", "nodePort": 30000}]);
    allocators
        .reserve(&resource, &mut service("a", json!({"type": "NodePort", "ports": ports})), None)
        .expect("free")
        .keep();
    let mut wrong = service("b", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}));
    let refused = allocators.reserve(&resource, &mut wrong, None).err().expect("out of range");
    assert!(
        refused
            .message
            .contains("provided port is not in the valid range. The range of valid ports is 30000-30001"),
        "{refused}"
    );
}

#[test]
fn a_type_without_node_ports_gives_them_back() {
    let old = service(
        "a",
        json!({"type": "NodePort", "clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]}),
    );
    let mut plain = service(
        "a",
        json!({"type": "ClusterIP", "clusterIP": "10.43.0.9", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}]}),
    );
    release(&mut plain, &old);
    assert_eq!(plain["spec"]["ports"], json!([{"port": 80, "protocol": "TCP"}]));
    let (allocators, resource) = (allocators(), resource());
    allocators.reserve(&resource, &mut old.clone(), None).expect("free").keep();
    allocators.reserve(&resource, &mut plain, Some(&old)).expect("its own").keep();
    let mut other = service("b", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30000}]}));
    allocators.reserve(&resource, &mut other, None).expect("the port was given back").keep();
}
