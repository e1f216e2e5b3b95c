use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::{ForwardError, Forwarder};
use crate::cache::Key;
use crate::upstream::Upstreams;

/// How a server of the test answers each name; others it does not answer.
#[derive(Clone, Copy)]
pub enum Script {
    Address([u8; 4]),
    /// Over UDP cut, over TCP with this many addresses.
    Long(u8),
    Missing,
    Fails,
    /// First an answer with another id, then the right one.
    Forged,
}

/// An upstream server of the test.
pub struct Upstream {
    pub address: SocketAddr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    pub async fn start(script: &[(&str, Script)]) -> Self {
        let (address, tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = tcp.local_addr().expect("an address");
            // Another test may have it.
            if let Ok(udp) = UdpSocket::bind(address).await {
                break (address, tcp, udp);
            }
        };
        let script: HashMap<String, Script> =
            script.iter().map(|(name, script)| ((*name).to_owned(), *script)).collect();
        let asked = Arc::new(Mutex::new(HashMap::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(udp, script.clone(), asked.clone()));
        tasks.spawn(serve_tcp(tcp, script));
        Upstream { address, asked, _tasks: tasks }
    }

    /// How often a name was asked for over UDP.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().get(name).copied().unwrap_or(0)
    }
}

async fn serve_udp(
    socket: UdpSocket,
    script: HashMap<String, Script>,
    asked: Arc<Mutex<HashMap<String, usize>>>,
) {
    let mut buffer = [0; 2048];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await.expect("received");
        let question = Message::from_vec(&buffer[..length]).expect("a question");
        let name = question.queries[0].name().to_ascii();
        *asked.lock().entry(name.clone()).or_default() += 1;
        let Some(script) = script.get(&name) else { continue };
        let mut answer = answer(&question, *script);
        if let Script::Long(_) = script {
            answer.answers.clear();
            answer.metadata.truncation = true;
        }
        if let Script::Forged = script {
            let mut forged = answer.clone();
            forged.metadata.id ^= 1;
            forged.answers[0].data = RData::A(A::new(6, 6, 6, 6));
            socket.send_to(&forged.to_vec().expect("bytes"), client).await.expect("sent");
        }
        socket.send_to(&answer.to_vec().expect("bytes"), client).await.expect("sent");
    }
}

async fn serve_tcp(listener: TcpListener, script: HashMap<String, Script>) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let length = stream.read_u16().await.expect("a length");
        let mut bytes = vec![0; length.into()];
        stream.read_exact(&mut bytes).await.expect("a question");
        let question = Message::from_vec(&bytes).expect("a question");
        let bytes =
            answer(&question, script[&question.queries[0].name().to_ascii()]).to_vec().expect("bytes");
        stream.write_u16(bytes.len() as u16).await.expect("sent");
        stream.write_all(&bytes).await.expect("sent");
    }
}

fn answer(question: &Message, script: Script) -> Message {
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.queries = question.queries.clone();
    let name = question.queries[0].name().clone();
    let mut add = |address: [u8; 4]| {
        answer.answers.push(Record::from_rdata(name.clone(), 60, RData::A(A(address.into()))));
    };
    match script {
        Script::Address(address) => add(address),
        Script::Forged => add([1, 1, 1, 1]),
        Script::Long(count) => (0..count).for_each(|number| add([192, 0, 2, number])),
        Script::Missing => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, 20);
            answer.authorities.push(Record::from_rdata(Name::root(), 60, RData::SOA(soa)));
        }
        Script::Fails => answer.metadata.response_code = ResponseCode::ServFail,
    }
    answer
}

fn key(name: &str) -> Key {
    let name = Name::from_ascii(name).expect("a name");
    Key { name, kind: RecordType::A, dnssec_ok: false, checking_disabled: false }
}

fn forwarder(upstreams: &[SocketAddr]) -> Forwarder {
    Forwarder::new(Upstreams::Fixed(upstreams.to_vec()), Vec::new())
}

async fn first_address(forwarder: &Forwarder, name: &str) -> String {
    let answer = forwarder.ask(&key(name)).await.expect("an answer");
    answer.answers[0].data.to_string()
}

#[tokio::test]
async fn answers_are_kept_with_their_remaining_time() {
    let script = [("a.", Script::Address([192, 0, 2, 1])), ("none.", Script::Missing)];
    let upstream = Upstream::start(&script).await;
    let forwarder = forwarder(&[upstream.address]);
    assert!(forwarder.kept(&key("a.")).is_none());
    assert_eq!(first_address(&forwarder, "a.").await, "192.0.2.1");
    forwarder.ask(&key("none.")).await.expect("an answer");
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    let kept = forwarder.kept(&key("a.")).expect("kept");
    assert_eq!((kept.answers[0].ttl, upstream.asked("a.")), (50, 1));
    assert_eq!(forwarder.kept(&key("none.")).expect("kept").code, ResponseCode::NXDomain);
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    assert!(forwarder.kept(&key("none.")).is_none(), "its SOA says 20 s");
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    assert!(forwarder.kept(&key("a.")).is_none(), "30 s at most");
}

#[tokio::test]
async fn one_question_is_asked_once_by_many() {
    let upstream = Upstream::start(&[("a.", Script::Address([192, 0, 2, 1]))]).await;
    let forwarder = forwarder(&[upstream.address]);
    let key = key("a.");
    let answers = futures_util::future::join_all((0..20).map(|_| forwarder.ask(&key))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(upstream.asked("a."), 1);
}

#[tokio::test]
async fn the_next_server_answers_for_one_that_fails() {
    let failing = Upstream::start(&[("a.", Script::Fails)]).await;
    let good = Upstream::start(&[("a.", Script::Address([192, 0, 2, 1]))]).await;
    assert_eq!(first_address(&forwarder(&[failing.address, good.address]), "a.").await, "192.0.2.1");
    // Nobody is there, and no test takes it.
    let refused = SocketAddr::from(([127, 0, 0, 1], 1));
    assert_eq!(first_address(&forwarder(&[refused, good.address]), "a.").await, "192.0.2.1");
}

#[tokio::test]
async fn a_long_answer_comes_over_tcp_and_a_forged_one_is_ignored() {
    let upstream = Upstream::start(&[("long.", Script::Long(200)), ("forged.", Script::Forged)]).await;
    let forwarder = forwarder(&[upstream.address]);
    let answer = forwarder.ask(&key("long.")).await.expect("an answer");
    assert_eq!(answer.answers.len(), 200);
    assert_eq!(first_address(&forwarder, "forged.").await, "1.1.1.1");
}

#[tokio::test]
async fn without_a_server_that_answers_it_fails() {
    let failing = Upstream::start(&[("a.", Script::Fails)]).await;
    let error = forwarder(&[failing.address]).ask(&key("a.")).await.expect_err("SERVFAIL");
    assert!(matches!(error, ForwardError::Unanswered { .. }), "{error}");
    assert_eq!(failing.asked("a."), 1, "a server that fails at once is not asked again");
    let error = forwarder(&[]).ask(&key("a.")).await.expect_err("nobody to ask");
    assert!(matches!(error, ForwardError::NoUpstream), "{error}");
}
