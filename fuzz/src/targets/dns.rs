//! DNS messages: questions of clients, answers of upstream servers.

use std::cell::RefCell;

use bytes::Bytes;
use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::Name;
use sampan_api::Object;
use sampan_dns::fuzzing::Resolver;
use sampan_dns::zone::Zone;
use serde_json::{Value, json};

use crate::input;

thread_local! {
    static RESOLVER: RefCell<Resolver> = RefCell::new(resolver());
}

/// A cluster with a service of each kind, one of them with more endpoints than fit over UDP.
fn resolver() -> Resolver {
    let object = |value: Value| Object::parse(Bytes::from(value.to_string())).expect("an object");
    let service = |name: &str, spec: Value| {
        object(json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec}))
    };
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let endpoints: Vec<Value> = (0..200)
        .map(|number| json!({"addresses": [format!("10.42.0.{number}")], "hostname": format!("h{number}")}))
        .collect();
    let labels = json!({"kubernetes.io/service-name": "many"});
    let objects = [
        service("web", json!({"clusterIPs": ["10.43.0.7", "fd00::7"], "ports": ports})),
        service("many", json!({"clusterIP": "None", "ports": ports})),
        service("away", json!({"type": "ExternalName", "externalName": "example.org"})),
        service("near", json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"})),
        object(json!({"metadata": {"name": "many-1", "namespace": "shop", "labels": labels},
            "endpoints": endpoints, "ports": ports})),
    ];
    let domain = Name::from_ascii("cluster.local").expect("a name");
    let servers = vec!["10.43.0.10".parse().expect("an address")];
    let ranges = vec!["10.42.0.0/16".parse().expect("a network"), "10.43.0.0/16".parse().expect("a network")];
    Resolver::new(Zone::new(&domain, 5, servers, ranges, 1), "shop", &objects).expect("objects of the API")
}

/// The length of a client's message, the message, an upstream's.
pub fn run(data: &[u8]) {
    let Some((length, rest)) = input::choice(data) else { return };
    let (question, upstream) = rest.split_at(usize::from(length).min(rest.len()));
    let answers = RESOLVER.with_borrow_mut(|resolver| resolver.answer(question, upstream));
    let Some(answers) = answers else { return };
    for (bytes, limit) in answers.iter().zip([1232, 65_535]) {
        assert!(bytes.len() <= limit, "{} bytes", bytes.len());
        let message = Message::from_vec(bytes).expect("what is answered can be read");
        assert_eq!(message.metadata.message_type, MessageType::Response);
        assert_eq!(bytes[..2], question[..2], "the number of the question");
    }
}
