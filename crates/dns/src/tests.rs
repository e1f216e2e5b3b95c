use bytes::Bytes;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use sampan_api::Gvr;
use sampan_base::drain::Tasks;
use sampan_client::testing::MemoryBackend;
use sampan_client::{Client, SharedBackend, Target};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::forward::tests::{Script, Upstream};
use crate::message::{Question, Rejected};
use crate::{Dns, DnsConfig, DnsError, Upstreams};

async fn create(backend: &SharedBackend, gvr: Gvr, namespace: Option<&str>, value: Value) {
    let target = Target { gvr: &gvr, namespace, name: "", subresource: None };
    backend.create(target, Bytes::from(value.to_string())).await.expect("created");
}

/// A server for a small cluster, and its upstream.
struct Fixture {
    dns: Dns,
    upstream: Upstream,
    backend: SharedBackend,
    _tasks: Tasks,
}

async fn start() -> Fixture {
    let backend = MemoryBackend::new();
    create(&backend, Gvr::new("", "v1", "namespaces"), None, json!({"metadata": {"name": "shop"}})).await;
    let services = Gvr::new("", "v1", "services");
    let web = json!({"metadata": {"name": "web"}, "spec": {"clusterIP": "10.43.0.7"}});
    create(&backend, services.clone(), Some("shop"), web).await;
    let away = json!({"type": "ExternalName", "externalName": "example.org"});
    create(&backend, services.clone(), Some("shop"), json!({"metadata": {"name": "away"}, "spec": away}))
        .await;
    let many = json!({"metadata": {"name": "many"}, "spec": {"clusterIP": "None"}});
    create(&backend, services, Some("shop"), many).await;
    let endpoints: Vec<Value> =
        (0..200).map(|number| json!({"addresses": [format!("10.42.0.{number}")]})).collect();
    let slice = json!({
        "metadata": {"name": "many-1", "labels": {"kubernetes.io/service-name": "many"}},
        "endpoints": endpoints,
    });
    create(&backend, Gvr::new("discovery.k8s.io", "v1", "endpointslices"), Some("shop"), slice).await;
    let upstream = Upstream::start(&[("example.org.", Script::Address([192, 0, 2, 1]))]).await;
    let tasks = Tasks::default();
    let dns = loop {
        let config = DnsConfig {
            upstreams: Upstreams::Fixed(vec![upstream.address]),
            ..DnsConfig::new(vec!["127.0.0.1:0".parse().expect("an address")])
        };
        match Dns::start(config, Client::new(backend.clone()), tasks.shutdown()).await {
            // Another test may have the port that one transport got for the other one.
            Err(DnsError::Bind { transport: "UDP", .. }) => {}
            started => break started.expect("it listens"),
        }
    };
    dns.ready().await;
    Fixture { dns, upstream, backend, _tasks: tasks }
}

fn query(name: &str, kind: RecordType, payload: Option<u16>) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.queries.push(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.edns = payload.map(|payload| {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        edns
    });
    message
}

impl Fixture {
    async fn udp(&self, bytes: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        socket.send_to(bytes, self.dns.addresses()[0]).await.expect("sent");
        let mut buffer = vec![0; 65_536];
        let length = socket.recv(&mut buffer).await.expect("received");
        buffer.truncate(length);
        buffer
    }

    async fn ask(&self, message: &Message) -> Message {
        let bytes = self.udp(&message.to_vec().expect("bytes")).await;
        Message::from_vec(&bytes).expect("an answer")
    }

    async fn ask_tcp(&self, messages: &[Message]) -> Vec<Message> {
        let mut stream = TcpStream::connect(self.dns.addresses()[0]).await.expect("a connection");
        let mut answers = Vec::new();
        for message in messages {
            let bytes = message.to_vec().expect("bytes");
            stream.write_u16(bytes.len() as u16).await.expect("sent");
            stream.write_all(&bytes).await.expect("sent");
            let mut bytes = vec![0; stream.read_u16().await.expect("a length").into()];
            stream.read_exact(&mut bytes).await.expect("an answer");
            answers.push(Message::from_vec(&bytes).expect("an answer"));
        }
        answers
    }
}

fn records(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| format!("{} {}", record.name, record.data)).collect()
}

#[tokio::test]
async fn cluster_names_and_others_are_answered() {
    let fixture = start().await;
    let answer = fixture.ask(&query("WEB.shop.svc.cluster.local.", RecordType::A, None)).await;
    assert_eq!(records(&answer), ["WEB.shop.svc.cluster.local. 10.43.0.7"]);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available && answer.edns.is_none());
    assert_eq!(answer.answers[0].ttl, 5);
    let answer = fixture.ask(&query("Example.org.", RecordType::A, Some(4096))).await;
    assert_eq!(records(&answer), ["Example.org. 192.0.2.1"]);
    assert!(!answer.metadata.authoritative && answer.edns.is_some());
    let answer = fixture.ask(&query("away.shop.svc.cluster.local.", RecordType::A, None)).await;
    let expected = ["away.shop.svc.cluster.local. example.org.", "example.org. 192.0.2.1"];
    assert_eq!(records(&answer), expected);
    assert_eq!(fixture.upstream.asked("example.org."), 1, "the second time it is kept");
}

#[tokio::test]
async fn search_paths_end_here() {
    let fixture = start().await;
    for suffix in ["shop.svc.cluster.local.", "svc.cluster.local.", "cluster.local."] {
        let name = format!("example.org.{suffix}");
        let answer = fixture.ask(&query(&name, RecordType::A, None)).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{name}");
        assert!(matches!(&answer.authorities[0].data, RData::SOA(soa) if soa.minimum == 5), "{name}");
        assert_eq!(fixture.upstream.asked(&name), 0, "{name}");
    }
}

#[tokio::test]
async fn new_services_are_answered() {
    let fixture = start().await;
    let late = json!({"metadata": {"name": "late"}, "spec": {"clusterIP": "10.43.0.8"}});
    create(&fixture.backend, Gvr::new("", "v1", "services"), Some("shop"), late).await;
    let question = query("late.shop.svc.cluster.local.", RecordType::A, None);
    // The event is under way: each answer lets the server's tasks go on.
    for _ in 0..1000 {
        let answer = fixture.ask(&question).await;
        if answer.metadata.response_code == ResponseCode::NoError {
            assert_eq!(records(&answer), ["late.shop.svc.cluster.local. 10.43.0.8"]);
            return;
        }
    }
    panic!("the service is not answered");
}

#[tokio::test]
async fn answers_over_udp_are_cut_and_whole_over_tcp() {
    let fixture = start().await;
    let name = "many.shop.svc.cluster.local.";
    for (payload, limit) in [(None, 512), (Some(900), 900), (Some(4096), 1232)] {
        let bytes = fixture.udp(&query(name, RecordType::A, payload).to_vec().expect("bytes")).await;
        let answer = Message::from_vec(&bytes).expect("an answer");
        assert!(bytes.len() <= limit && bytes.len() > limit - 32, "{} of {limit}", bytes.len());
        assert!(answer.metadata.truncation && !answer.answers.is_empty());
        assert_eq!(answer.edns.is_some(), payload.is_some());
    }
    let questions = [query(name, RecordType::A, None), query("example.org.", RecordType::A, None)];
    let answers = fixture.ask_tcp(&questions).await;
    assert_eq!((answers[0].answers.len(), answers[1].answers.len()), (200, 1));
    assert!(!answers[0].metadata.truncation);
}

#[tokio::test]
async fn what_is_no_question_is_told_so() {
    let fixture = start().await;
    let code = async |bytes: Vec<u8>| {
        let answer = Message::from_vec(&fixture.udp(&bytes).await).expect("an answer");
        assert_eq!(answer.metadata.id, 7);
        answer.metadata.response_code
    };
    let good = query("example.org.", RecordType::A, None);
    let bytes = |message: &Message| message.to_vec().expect("bytes");
    let mut two = good.clone();
    two.queries.push(good.queries[0].clone());
    assert_eq!(code(bytes(&two)).await, ResponseCode::FormErr);
    let mut cut = bytes(&good);
    cut.truncate(20);
    assert_eq!(code(cut).await, ResponseCode::FormErr);
    let mut many = bytes(&good);
    many[4..6].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(code(many).await, ResponseCode::FormErr);
    let mut update = good.clone();
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(bytes(&update)).await, ResponseCode::NotImp);
    let transfer = query("cluster.local.", RecordType::AXFR, None);
    assert_eq!(code(bytes(&transfer)).await, ResponseCode::NotImp);
    let mut chaos = good.clone();
    chaos.queries[0].set_query_class(hickory_proto::rr::DNSClass::CH);
    assert_eq!(code(bytes(&chaos)).await, ResponseCode::Refused);
}

#[tokio::test]
async fn it_ends_with_the_process() {
    let fixture = start().await;
    let Fixture { dns, _tasks: tasks, .. } = fixture;
    let address = dns.addresses()[0];
    let running = tokio::spawn(dns.run());
    assert_eq!(tasks.stop(std::time::Duration::from_secs(5)).await, 0);
    running.await.expect("it ended");
    UdpSocket::bind(address).await.expect("the port is free");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        check_read(&bytes);
    }

    #[test]
    fn any_change_of_a_question_is_read(
        at in 0_usize..40,
        byte in proptest::num::u8::ANY,
        length in 0_usize..60,
    ) {
        let mut bytes = query("a.shop.svc.cluster.local.", RecordType::A, Some(1232)).to_vec().expect("bytes");
        bytes[at] = byte;
        bytes.truncate(length.max(1));
        check_read(&bytes);
    }
}

/// Reading never fails otherwise than it says, and what is answered has the id of the question.
fn check_read(bytes: &[u8]) {
    match Question::read(bytes) {
        Ok(_) => {}
        Err(Rejected::Drop) => assert!(bytes.len() < 12 || bytes[2] & 0x80 != 0),
        Err(Rejected::Answer(answer)) => {
            assert_eq!(answer[..2], bytes[..2]);
            assert!(answer[2] & 0x80 != 0);
        }
    }
}
