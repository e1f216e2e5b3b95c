//! One question, put to one server after the other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::ForwardError;
use crate::cache::Key;
use crate::message::UDP_PAYLOAD;

/// How long one server has, and how often one is asked in all: together less than the five
/// seconds after which clients give up.
const TRY: Duration = Duration::from_millis(1500);
const TRIES: usize = 3;

/// Why one server gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error("it cannot be reached over {transport}")]
    Unreachable {
        transport: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("no answer within {} ms", TRY.as_millis())]
    Timeout,
    #[error("its answer is not to the question")]
    Mismatch,
    #[error("its answer cannot be read")]
    Decode(#[source] hickory_proto::serialize::binary::DecodeError),
    #[error("the question cannot be written")]
    Encode(#[source] hickory_proto::ProtoError),
    #[error("it answered {0}")]
    Refused(ResponseCode),
}

/// An answer as bytes and read.
type Received = (Vec<u8>, Message);

/// Asks until one server answers. Codes that tell of a fault of the server count as no answer.
pub async fn ask(servers: &[SocketAddr], key: &Key) -> Result<Received, ForwardError> {
    let mut last = Err(ForwardError::NoUpstream);
    let mut unreachable = vec![false; servers.len()];
    for attempt in 0..TRIES.max(servers.len()) {
        let at = attempt % servers.len();
        if unreachable[at] {
            continue;
        }
        // Servers beyond the tries are asked only while those before fail at once.
        let server = servers[at];
        match timeout(TRY, ask_one(server, key)).await.unwrap_or(Err(ExchangeError::Timeout)) {
            Ok(received) => return Ok(received),
            Err(error) => {
                tracing::debug!(%server, name = %key.name, error = &error as &dyn std::error::Error, "no answer");
                unreachable[at] = !matches!(error, ExchangeError::Timeout);
                last = Err(ForwardError::Unanswered { server, source: Arc::new(error) });
            }
        }
    }
    last
}

async fn ask_one(server: SocketAddr, key: &Key) -> Result<Received, ExchangeError> {
    let received = match ask_with(server, key, true).await? {
        // Servers from before EDNS.
        (_, message)
            if matches!(message.metadata.response_code, ResponseCode::FormErr | ResponseCode::NotImp) =>
        {
            ask_with(server, key, false).await?
        }
        received => received,
    };
    match received.1.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(received),
        code => Err(ExchangeError::Refused(code)),
    }
}

async fn ask_with(server: SocketAddr, key: &Key, edns: bool) -> Result<Received, ExchangeError> {
    let question = question(key, edns);
    let bytes = question.to_vec().map_err(ExchangeError::Encode)?;
    let received = over_udp(server, &question, &bytes).await?;
    if received.1.metadata.truncation {
        return over_tcp(server, &question, &bytes).await;
    }
    Ok(received)
}

pub(super) fn question(key: &Key, edns: bool) -> Message {
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.metadata.checking_disabled = key.checking_disabled;
    message.queries.push(Query::query(key.name.clone(), key.kind));
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD);
        edns.set_dnssec_ok(key.dnssec_ok);
        message.edns = Some(edns);
    }
    message
}

/// Over a socket of its own, so that the kernel chooses a random port for each question.
async fn over_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Received, ExchangeError> {
    let unreachable = |source| ExchangeError::Unreachable { transport: "UDP", source };
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await.map_err(unreachable)?;
    socket.connect(server).await.map_err(unreachable)?;
    socket.send(bytes).await.map_err(unreachable)?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(unreachable)?;
        // What does not fit may be forged: the answer may still come.
        if let Ok(message) = check(question, &buffer[..length]) {
            buffer.truncate(length);
            return Ok((buffer, message));
        }
    }
}

async fn over_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> Result<Received, ExchangeError> {
    let unreachable = |source| ExchangeError::Unreachable { transport: "TCP", source };
    let mut stream = TcpStream::connect(server).await.map_err(unreachable)?;
    // A question is at most a name of 255 bytes and some records of known size.
    let length = u16::try_from(bytes.len()).expect("a question is short");
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await.map_err(unreachable)?;
    let length = stream.read_u16().await.map_err(unreachable)?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await.map_err(unreachable)?;
    let message = check(question, &buffer)?;
    Ok((buffer, message))
}

/// Reads an answer and holds it against its question.
pub(super) fn check(question: &Message, bytes: &[u8]) -> Result<Message, ExchangeError> {
    let counts = bytes.get(4..6).ok_or(ExchangeError::Mismatch)?;
    if bytes[..2] != question.metadata.id.to_be_bytes() || counts != [0, 1] {
        return Err(ExchangeError::Mismatch);
    }
    let message = Message::from_vec(bytes).map_err(ExchangeError::Decode)?;
    let (asked, answered) = (&question.queries[0], message.queries.first());
    // Names are equal without regard to case.
    let fits = answered.is_some_and(|answered| answered == asked)
        && message.metadata.message_type == MessageType::Response
        // Messages of other kinds may hold records that no answer may.
        && message.metadata.op_code == OpCode::Query;
    if fits { Ok(message) } else { Err(ExchangeError::Mismatch) }
}
