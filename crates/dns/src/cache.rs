//! Answers of upstream servers, for as long as they may be kept, bounded in number and size.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::time::Instant;

/// What makes two questions the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// In lower case.
    pub name: Name,
    pub kind: RecordType,
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
}

/// The longest that an answer is kept.
const LONGEST: Duration = Duration::from_secs(30);
/// Answers kept at most, and the bytes of the longest one: 16 MiB in all at the very worst.
const ANSWERS: usize = 4096;
const ANSWER_BYTES: usize = 4096;

/// The cache. Answers leave in the order in which they came when there are too many.
#[derive(Default)]
pub struct Cache {
    answers: HashMap<Key, Kept>,
    order: VecDeque<(Key, Instant)>,
}

struct Kept {
    /// As it came: a decoded message takes several times the memory.
    bytes: Arc<[u8]>,
    stored: Instant,
    until: Instant,
}

/// An answer from the cache, and its age.
pub struct Hit {
    pub bytes: Arc<[u8]>,
    pub age: Duration,
}

impl Cache {
    pub fn get(&self, key: &Key, now: Instant) -> Option<Hit> {
        let kept = self.answers.get(key).filter(|kept| now < kept.until)?;
        Some(Hit { bytes: kept.bytes.clone(), age: now.duration_since(kept.stored) })
    }

    /// Keeps an answer, unless it says not to or is too long.
    pub fn insert(&mut self, key: Key, bytes: &[u8], message: &Message, now: Instant) {
        let time = lifetime(message);
        if time.is_zero() || bytes.len() > ANSWER_BYTES {
            return;
        }
        while let Some((oldest, stored)) = self.order.front() {
            let current = self.answers.get(oldest).filter(|kept| kept.stored == *stored);
            let room = self.answers.len() < ANSWERS && self.order.len() < 2 * ANSWERS;
            if room && current.is_some_and(|kept| now < kept.until) {
                break;
            }
            if current.is_some() {
                self.answers.remove(oldest);
            }
            self.order.pop_front();
        }
        self.order.push_back((key.clone(), now));
        self.answers.insert(key, Kept { bytes: bytes.into(), stored: now, until: now + time });
    }
}

/// How long an answer may be kept (RFC 2308 for those that tell an absence).
fn lifetime(message: &Message) -> Duration {
    let absent = match message.metadata.response_code {
        ResponseCode::NoError => message.answers.is_empty(),
        ResponseCode::NXDomain => true,
        _ => return Duration::ZERO,
    };
    if message.metadata.truncation {
        return Duration::ZERO;
    }
    let seconds = if absent {
        message.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        })
    } else {
        message.answers.iter().map(|record| record.ttl).min()
    };
    Duration::from_secs(seconds.unwrap_or(0).into()).min(LONGEST)
}
