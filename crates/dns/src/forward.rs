//! Asks upstream servers for what is not the cluster's.
//!
//! A question that is already under way is not asked again: everybody waits for the one answer.
//! That also ends loops: a question that comes back while it is asked waits for itself until its
//! time is over.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::Name;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::cache::{Cache, Key};
use crate::message::Answer;
use crate::upstream::{UpstreamList, Upstreams};

mod exchange;
#[cfg(test)]
pub mod tests;

pub use exchange::ExchangeError;

/// Questions under way at most; further ones fail at once.
const QUESTIONS: usize = 1024;

/// Why there is no answer from upstream. Clients are told `SERVFAIL`.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("no upstream DNS server is known")]
    NoUpstream,
    #[error("{QUESTIONS} questions are under way")]
    Busy,
    #[error("no upstream DNS server answered, the last asked being {server}")]
    Unanswered {
        server: std::net::SocketAddr,
        #[source]
        source: Arc<ExchangeError>,
    },
}

type Outcome = Result<Arc<Message>, ForwardError>;
type Asking = Shared<BoxFuture<'static, Outcome>>;

/// The way to upstream servers. Cheap to clone.
#[derive(Clone)]
pub struct Forwarder {
    shared: Arc<State>,
}

struct State {
    upstreams: UpstreamList,
    cache: Mutex<Cache>,
    under_way: Mutex<HashMap<Key, WeakShared<BoxFuture<'static, Outcome>>>>,
    permits: Semaphore,
}

impl Forwarder {
    /// `own` are this server's own addresses.
    pub fn new(upstreams: Upstreams, own: Vec<std::net::SocketAddr>) -> Self {
        Forwarder {
            shared: Arc::new(State {
                upstreams: UpstreamList::new(upstreams, own),
                cache: Mutex::default(),
                under_way: Mutex::default(),
                permits: Semaphore::new(QUESTIONS),
            }),
        }
    }

    /// The kept answer to a question.
    pub fn kept(&self, key: &Key) -> Option<Answer> {
        let hit = self.shared.cache.lock().get(key, Instant::now())?;
        let mut message = Message::from_vec(&hit.bytes).ok()?;
        let age = u32::try_from(hit.age.as_secs()).unwrap_or(u32::MAX);
        for record in
            message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals)
        {
            record.decrement_ttl(age);
        }
        Some(sections(message))
    }

    /// Asks, or waits for the one who asks already.
    pub async fn ask(&self, key: &Key) -> Result<Answer, ForwardError> {
        let asking = self.asking(key);
        let outcome = asking.clone().await;
        let mut under_way = self.shared.under_way.lock();
        let ours = under_way.get(key).and_then(WeakShared::upgrade).is_none_or(|other| other.ptr_eq(&asking));
        if ours {
            under_way.remove(key);
        }
        drop(under_way);
        outcome.map(|message| sections(Message::clone(&message)))
    }

    /// Takes what an upstream server sent, whatever the number that it bears, as the answer to a question.
    pub(crate) fn received(&self, key: &Key, bytes: &[u8]) -> Result<Answer, ExchangeError> {
        let mut question = exchange::question(key, true);
        if let Some(id) = bytes.first_chunk() {
            question.metadata.id = u16::from_be_bytes(*id);
        }
        let message = exchange::check(&question, bytes)?;
        self.shared.cache.lock().insert(key.clone(), bytes, &message, Instant::now());
        Ok(self.kept(key).unwrap_or_else(|| sections(message)))
    }

    fn asking(&self, key: &Key) -> Asking {
        let mut under_way = self.shared.under_way.lock();
        if let Some(asking) = under_way.get(key).and_then(WeakShared::upgrade) {
            return asking;
        }
        let (state, asked) = (self.shared.clone(), key.clone());
        let asking = async move { state.ask(asked).await }.boxed().shared();
        if let Some(weak) = asking.downgrade() {
            under_way.insert(key.clone(), weak);
        }
        asking
    }
}

impl State {
    async fn ask(&self, key: Key) -> Outcome {
        let servers = self.upstreams.servers();
        if servers.is_empty() {
            return Err(ForwardError::NoUpstream);
        }
        let _permit = self.permits.try_acquire().map_err(|_| ForwardError::Busy)?;
        let (bytes, message) = exchange::ask(&servers, &key).await?;
        self.cache.lock().insert(key, &bytes, &message, Instant::now());
        Ok(Arc::new(message))
    }
}

/// The sections of an upstream's answer.
fn sections(message: Message) -> Answer {
    Answer {
        code: message.metadata.response_code,
        authoritative: false,
        answers: message.answers,
        authorities: message.authorities,
        additionals: message.additionals,
    }
}

/// The name of a question as it is in a key.
pub fn key_name(name: &Name) -> Name {
    let mut name = name.to_lowercase();
    name.set_fqdn(true);
    name
}

/// What a client is told when there is no answer.
pub fn failure() -> Answer {
    Answer::code(ResponseCode::ServFail)
}
