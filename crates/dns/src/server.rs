//! The sockets: questions come in over UDP and TCP, answers go out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Record;
use parking_lot::RwLock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::cache::Key;
use crate::forward::{self, Forwarder};
use crate::index::Index;
use crate::message::{Answer, Question, Rejected, Transport};
use crate::zone::{Reply, Zone};

/// Questions over UDP that wait for upstream at most, per socket; further ones fail at once.
const WAITING: usize = 2048;
/// TCP connections at most, per socket; further ones wait to be accepted.
const CONNECTIONS: usize = 256;
/// How long a TCP connection may be silent, or slow with one message.
const IDLE: Duration = Duration::from_secs(10);

/// What answers questions, over whatever transport.
pub struct Handler {
    pub zone: Zone,
    pub index: Arc<RwLock<Index>>,
    pub forwarder: Forwarder,
    pub rotation: AtomicUsize,
}

/// A question that is answered, or that needs an upstream server.
pub(crate) enum Immediate {
    Answered(Answer),
    Ask {
        key: Key,
        /// Aliases that lead from the question to what is asked.
        aliases: Vec<Record>,
    },
}

impl Handler {
    /// Answers from the index or the cache.
    pub(crate) fn immediate(&self, question: &Question) -> Immediate {
        let rotation = self.rotation.fetch_add(1, Ordering::Relaxed);
        let reply = self.zone.answer(&self.index.read(), question.name(), question.kind(), rotation);
        let own = |code, answers, authorities, additionals| {
            Immediate::Answered(Answer { code, authoritative: true, answers, authorities, additionals })
        };
        let (name, aliases) = match reply {
            Reply::Found { answers, additionals } => {
                return own(ResponseCode::NoError, answers, Vec::new(), additionals);
            }
            Reply::Empty(soa) => return own(ResponseCode::NoError, Vec::new(), vec![soa], Vec::new()),
            Reply::Missing(soa) => return own(ResponseCode::NXDomain, Vec::new(), vec![soa], Vec::new()),
            Reply::Alias { answers, target } => (target, answers),
            Reply::Elsewhere => (question.name().clone(), Vec::new()),
        };
        if !question.recursion_desired && aliases.is_empty() {
            return Immediate::Answered(Answer::code(ResponseCode::Refused));
        }
        let key = Key {
            name: forward::key_name(&name),
            kind: question.kind(),
            dnssec_ok: question.dnssec_ok(),
            checking_disabled: question.checking_disabled,
        };
        match self.forwarder.kept(&key) {
            Some(answer) => Immediate::Answered(complete(question, aliases, answer)),
            None => Immediate::Ask { key, aliases },
        }
    }

    /// Answers with an upstream's help.
    async fn ask(&self, question: &Question, key: &Key, aliases: Vec<Record>) -> Answer {
        match self.forwarder.ask(key).await {
            Ok(answer) => complete(question, aliases, answer),
            // An alias is worth telling also when what it stands for is not known.
            Err(_) if !aliases.is_empty() => {
                Answer { answers: aliases, authoritative: true, ..Answer::code(ResponseCode::NoError) }
            }
            Err(error) => {
                tracing::debug!(name = %key.name, error = &error as &dyn std::error::Error, "not resolved");
                forward::failure()
            }
        }
    }
}

/// An upstream's answer behind the aliases that led to it, in the case of the question.
pub(crate) fn complete(question: &Question, aliases: Vec<Record>, mut answer: Answer) -> Answer {
    if aliases.is_empty() {
        for record in answer.answers.iter_mut().filter(|record| record.name == *question.name()) {
            record.name = question.name().clone();
        }
        return answer;
    }
    let mut answers = aliases;
    answers.append(&mut answer.answers);
    // The name asked for exists, whatever becomes of its alias.
    Answer { answers, authoritative: true, code: ResponseCode::NoError, ..answer }
}

/// Serves UDP for ever.
pub async fn serve_udp(handler: Arc<Handler>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let mut buffer = vec![0; 4096];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            Some(_) = waiting.join_next() => continue,
        };
        let (length, client) = match received {
            Ok(received) => received,
            Err(error) => {
                // Of an earlier answer that could not be delivered, or of no memory.
                tracing::debug!(%error, "cannot receive over UDP");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let question = match Question::read(&buffer[..length]) {
            Ok(question) => question,
            Err(Rejected::Drop) => continue,
            Err(Rejected::Answer(bytes)) => {
                send(&socket, &bytes, client).await;
                continue;
            }
        };
        let answer = match handler.immediate(&question) {
            Immediate::Answered(answer) => answer,
            Immediate::Ask { .. } if waiting.len() >= WAITING => forward::failure(),
            Immediate::Ask { key, aliases } => {
                let (handler, socket) = (handler.clone(), socket.clone());
                waiting.spawn(async move {
                    let answer = handler.ask(&question, &key, aliases).await;
                    send(&socket, &question.encode(answer, Transport::Udp), client).await;
                });
                continue;
            }
        };
        send(&socket, &question.encode(answer, Transport::Udp), client).await;
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, client).await {
        tracing::debug!(%client, %error, "an answer cannot be sent");
    }
}

/// Serves TCP for ever.
pub async fn serve_tcp(handler: Arc<Handler>, listener: TcpListener) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = loop {
            tokio::select! {
                accepted = listener.accept() => break accepted,
                Some(_) = connections.join_next() => {}
            }
        };
        match accepted {
            Ok((stream, client)) => {
                let handler = handler.clone();
                connections.spawn(async move {
                    if let Err(error) = serve_connection(&handler, stream).await {
                        tracing::debug!(%client, %error, "a connection ended");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // Out of file descriptors, most likely; they come back as connections end.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers the questions of one connection, in their order.
async fn serve_connection(handler: &Handler, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let Some(bytes) = timeout(IDLE, receive(&mut stream)).await?? else { return Ok(()) };
        let bytes = match Question::read(&bytes) {
            Ok(question) => {
                let answer = match handler.immediate(&question) {
                    Immediate::Answered(answer) => answer,
                    Immediate::Ask { key, aliases } => handler.ask(&question, &key, aliases).await,
                };
                question.encode(answer, Transport::Tcp)
            }
            Err(Rejected::Drop) => return Ok(()),
            Err(Rejected::Answer(bytes)) => bytes,
        };
        let length = u16::try_from(bytes.len()).expect("messages are cut to what a length can tell");
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&bytes);
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

/// One message; `None` at the end of the stream.
async fn receive(stream: &mut TcpStream) -> std::io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(Some(bytes))
}
