use std::net::IpAddr;

use hickory_proto::rr::{Name, Record, RecordType};
use sampan_api::object::Object;
use serde_json::{Value, json};

use super::{Reply, Zone};
use crate::index::Index;
use crate::index::objects::{Service, Slice};

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("a name");
    name.set_fqdn(true);
    name
}

fn object(value: &Value) -> Object {
    Object::parse(value.to_string().into()).expect("an object")
}

fn service(name: &str, spec: Value) -> Service {
    let value = json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec});
    Service::read(&object(&value)).expect("a service")
}

fn slice(service: &str, name: &str, endpoints: Value, ports: Value) -> Slice {
    let value = json!({
        "metadata": {"namespace": "shop", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": endpoints,
        "ports": ports,
    });
    Slice::read(&object(&value)).expect("a slice").expect("of a service")
}

fn zone() -> Zone {
    let servers = vec!["10.43.0.10".parse().expect("an address")];
    let ranges = vec!["10.42.0.0/15".parse().expect("a network")];
    Zone::new(&name("cluster.local"), 5, servers, ranges, 1)
}

/// A cluster with a service of each kind in the namespace `shop`.
fn cluster() -> Index {
    let mut index = Index::default();
    index.apply_namespace("shop");
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    index.apply_service(service("web", json!({"clusterIP": "10.43.0.7", "ports": ports})));
    let both = json!(["10.43.0.8", "fd00::8"]);
    index.apply_service(service(
        "dual",
        json!({"clusterIP": "10.43.0.8", "clusterIPs": both, "ports": [{"port": 1}]}),
    ));
    index.apply_service(service("db", json!({"clusterIP": "None"})));
    index.apply_service(service("all", json!({"clusterIP": "None", "publishNotReadyAddresses": true})));
    index.apply_service(service("idle", json!({"clusterIP": "None"})));
    let external = |target: &str| json!({"type": "ExternalName", "externalName": target});
    index.apply_service(service("away", external("example.org")));
    index.apply_service(service("near", external("web.shop.svc.cluster.local")));
    index.apply_service(service("lost", external("none.shop.svc.cluster.local")));
    index.apply_service(service("round", external("round.shop.svc.cluster.local")));
    index.apply_service(service("number", external("192.0.2.1")));
    let endpoints = json!([
        {"addresses": ["10.42.0.1"], "hostname": "db-0", "conditions": {"ready": true}},
        {"addresses": ["10.42.0.2"], "conditions": {}},
        {"addresses": ["10.42.0.3"], "hostname": "db-2", "conditions": {"ready": false}},
    ]);
    for service in ["db", "all", "web"] {
        let ports = json!([{"name": "Sql", "port": 5432, "protocol": "TCP"}]);
        index.apply_slice(slice(service, service, endpoints.clone(), ports));
    }
    let endpoints = json!([{"addresses": ["fd00::1"], "hostname": "db-0"}]);
    index.apply_slice(slice("db", "db-6", endpoints, json!([])));
    index
}

/// Writes a reply as text: its records, or what else it is.
fn text(reply: &Reply) -> Vec<String> {
    let mut lines = match reply {
        Reply::Found { answers, additionals } => {
            let more = additionals.iter().map(|record| format!("+ {}", line(record)));
            answers.iter().map(line).chain(more).collect()
        }
        Reply::Alias { answers, target } => {
            let mut lines: Vec<_> = answers.iter().map(line).collect();
            lines.push(format!("ask {target}"));
            lines
        }
        Reply::Empty(soa) => vec![format!("no data {}", soa.name)],
        Reply::Missing(soa) => vec![format!("no name {}", soa.name)],
        Reply::Elsewhere => vec!["elsewhere".to_owned()],
    };
    lines.sort();
    lines
}

fn line(record: &Record) -> String {
    format!("{} {}", record.record_type(), record.data)
}

#[track_caller]
fn check(index: &Index, question: &str, kind: RecordType, expected: &[&str]) {
    let reply = zone().answer(index, &name(question), kind, 0);
    assert_eq!(text(&reply), expected, "{question} {kind}");
}

#[test]
fn names_of_services() {
    use RecordType::{A, AAAA, ANY, CNAME, SRV, TXT};
    let index = cluster();
    let check = |question: &str, kind, expected: &[&str]| {
        check(&index, &format!("{question}.svc.cluster.local"), kind, expected);
    };
    let none = &["no name cluster.local."][..];
    let empty = &["no data cluster.local."][..];
    check("web.shop", A, &["A 10.43.0.7"]);
    check("WEB.Shop", A, &["A 10.43.0.7"]);
    check("web.shop", AAAA, empty);
    check("web.shop", TXT, empty);
    check("web.other", A, none);
    check("other.shop", A, none);
    check("dual.shop", AAAA, &["AAAA fd00::8"]);
    check("dual.shop", ANY, &["A 10.43.0.8", "AAAA fd00::8"]);
    check("db.shop", A, &["A 10.42.0.1", "A 10.42.0.2"]);
    check("db.shop", AAAA, &["AAAA fd00::1"]);
    check("all.shop", A, &["A 10.42.0.1", "A 10.42.0.2", "A 10.42.0.3"]);
    check("idle.shop", A, empty);
    check("db-0.db.shop", A, &["A 10.42.0.1"]);
    check("db-0.db.shop", AAAA, &["AAAA fd00::1"]);
    check("10-42-0-2.db.shop", A, &["A 10.42.0.2"]);
    check("10-42-0-1.db.shop", A, none);
    check("db-2.db.shop", A, none);
    check("db-2.all.shop", A, &["A 10.42.0.3"]);
    check("db-0.web.shop", A, none);
    check("away.shop", A, &["CNAME example.org.", "ask example.org."]);
    check("away.shop", CNAME, &["CNAME example.org."]);
    check("near.shop", A, &["A 10.43.0.7", "CNAME web.shop.svc.cluster.local."]);
    check("near.shop", AAAA, &["CNAME web.shop.svc.cluster.local."]);
    check("lost.shop", A, &["CNAME none.shop.svc.cluster.local."]);
    check("round.shop", A, &["CNAME round.shop.svc.cluster.local."; 8]);
    check("number.shop", A, empty);
    check("*.shop", A, none);
    check("a.b.c.web.shop", A, none);
    check("a.b.c.d.web.shop", A, none);
    check("shop", A, empty);
    check("other", A, none);
    check("_http._tcp.web.shop", A, empty);
    check("_tcp.web.shop", SRV, empty);
    check("_sctp.web.shop", SRV, none);
}

#[test]
fn servers_of_services() {
    let index = cluster();
    let check = |question: &str, expected: &[&str]| {
        check(&index, &format!("{question}.svc.cluster.local"), RecordType::SRV, expected);
    };
    check("_http._tcp.web.shop", &["+ A 10.43.0.7", "SRV 0 100 80 web.shop.svc.cluster.local."]);
    check("_dns._udp.web.shop", &["+ A 10.43.0.7", "SRV 0 100 53 web.shop.svc.cluster.local."]);
    check("_http._udp.web.shop", &["no name cluster.local."]);
    check(
        "web.shop",
        &[
            "+ A 10.43.0.7",
            "SRV 0 50 53 web.shop.svc.cluster.local.",
            "SRV 0 50 80 web.shop.svc.cluster.local.",
        ],
    );
    check("dual.shop", &["+ A 10.43.0.8", "+ AAAA fd00::8", "SRV 0 100 1 dual.shop.svc.cluster.local."]);
    check(
        "_sql._tcp.db.shop",
        &[
            "+ A 10.42.0.1",
            "+ A 10.42.0.2",
            "+ AAAA fd00::1",
            "SRV 0 50 5432 10-42-0-2.db.shop.svc.cluster.local.",
            "SRV 0 50 5432 db-0.db.shop.svc.cluster.local.",
        ],
    );
    check("idle.shop", &["no data cluster.local."]);
}

#[test]
fn names_of_the_zone_and_of_pods() {
    use RecordType::{A, AAAA, NS, SOA, TXT};
    let index = cluster();
    let check = |question: &str, kind, expected: &[&str]| check(&index, question, kind, expected);
    let none = &["no name cluster.local."][..];
    let empty = &["no data cluster.local."][..];
    check("dns-version.cluster.local", TXT, &["TXT 1.1.0"]);
    check("dns-version.cluster.local", A, empty);
    check("cluster.local", NS, &["+ A 10.43.0.10", "NS ns.dns.cluster.local."]);
    check("ns.dns.cluster.local", A, &["A 10.43.0.10"]);
    check("cluster.local", A, empty);
    for parent in ["svc", "pod", "dns"] {
        check(&format!("{parent}.cluster.local"), A, empty);
    }
    check("other.cluster.local", A, none);
    check("10-42-0-9.shop.pod.cluster.local", A, &["A 10.42.0.9"]);
    check("10-42-0-9.shop.pod.cluster.local", AAAA, empty);
    check("fd00--9.shop.pod.cluster.local", AAAA, &["AAAA fd00::9"]);
    check("10-42-0-9.other.pod.cluster.local", A, none);
    check("10-42-0-256.shop.pod.cluster.local", A, none);
    check("web.shop.pod.cluster.local", A, none);
    check("shop.pod.cluster.local", A, empty);
    check("x.10-42-0-9.shop.pod.cluster.local", A, none);
    check("example.org", A, &["elsewhere"]);
    check("notcluster.local", A, &["elsewhere"]);
    let Reply::Found { answers, .. } = zone().answer(&index, &name("cluster.local"), SOA, 0) else {
        panic!("the zone has an SOA");
    };
    assert_eq!((answers[0].record_type(), answers[0].ttl), (SOA, 5));
}

#[test]
fn addresses_are_called_by_their_services() {
    let mut index = cluster();
    let ask = |index: &Index, question: &str, kind, expected: &[&str]| check(index, question, kind, expected);
    let ptr = RecordType::PTR;
    ask(&index, "7.0.43.10.in-addr.arpa", ptr, &["PTR web.shop.svc.cluster.local."]);
    ask(&index, "7.0.43.10.IN-ADDR.arpa", RecordType::A, &["no data in-addr.arpa."]);
    ask(
        &index,
        "1.0.42.10.in-addr.arpa",
        ptr,
        &["PTR db-0.all.shop.svc.cluster.local.", "PTR db-0.db.shop.svc.cluster.local."],
    );
    ask(&index, "9.9.43.10.in-addr.arpa", ptr, &["no name in-addr.arpa."]);
    ask(&index, "1.2.0.192.in-addr.arpa", ptr, &["elsewhere"]);
    ask(&index, "0.43.10.in-addr.arpa", ptr, &["elsewhere"]);
    let v6 = "8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
    ask(&index, v6, ptr, &["PTR dual.shop.svc.cluster.local."]);
    index.remove_service("shop", "all");
    ask(&index, "1.0.42.10.in-addr.arpa", ptr, &["PTR db-0.db.shop.svc.cluster.local."]);
    index.remove_slice("shop", "db", "db");
    ask(&index, "1.0.42.10.in-addr.arpa", ptr, &["no name in-addr.arpa."]);
}

#[test]
fn names_follow_their_objects() {
    let mut index = cluster();
    let ask = |index: &Index, expected: &[&str]| {
        check(index, "web.shop.svc.cluster.local", RecordType::A, expected);
    };
    index.apply_service(service("web", json!({"clusterIP": "10.43.0.99"})));
    ask(&index, &["A 10.43.0.99"]);
    assert!(index.names_of("10.43.0.7".parse::<IpAddr>().expect("an address")).is_empty());
    index.apply_service(service("web", json!({"clusterIP": "None"})));
    ask(&index, &["A 10.42.0.1", "A 10.42.0.2"]);
    index.remove_service("shop", "web");
    ask(&index, &["no name cluster.local."]);
    index.apply_service(service("web", json!({"clusterIP": "None"})));
    ask(&index, &["A 10.42.0.1", "A 10.42.0.2"]);
    index.remove_slice("shop", "web", "web");
    ask(&index, &["no data cluster.local."]);
    index.remove_service("shop", "web");
    index.remove_namespace("shop");
    check(&index, "shop.svc.cluster.local", RecordType::A, &["no name cluster.local."]);
}

#[test]
fn the_order_of_addresses_rotates() {
    let index = cluster();
    let first = |rotation| {
        let reply = zone().answer(&index, &name("all.shop.svc.cluster.local"), RecordType::A, rotation);
        let Reply::Found { answers, .. } = reply else { panic!("addresses") };
        assert_eq!(answers.len(), 3);
        answers[0].data.to_string()
    };
    let firsts: Vec<_> = (0..4).map(first).collect();
    assert_eq!(firsts, ["10.42.0.1", "10.42.0.2", "10.42.0.3", "10.42.0.1"]);
}

proptest::proptest! {
    #[test]
    fn any_name_is_answered(
        labels in proptest::collection::vec("[-a-zA-Z0-9_.*:]{1,63}", 0..7),
        domain in proptest::bool::ANY,
    ) {
        let mut labels: Vec<&[u8]> = labels.iter().map(|label| label.as_bytes()).collect();
        if domain {
            labels.extend([&b"svc"[..], b"Cluster", b"LOCAL"]);
        }
        if let Ok(name) = Name::from_labels(labels) {
            let reply = zone().answer(&cluster(), &name, RecordType::A, 0);
            proptest::prop_assert_eq!(reply == Reply::Elsewhere, !domain);
        }
    }
}
