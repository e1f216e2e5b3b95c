//! Answers of others that are kept for a while: of webhooks for tokens and for authorisation.
//!
//! Bounded in number. Whoever asks for what somebody else is already asking for waits for that answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use tokio::time::Instant;

/// A digest of what was asked, so that no credential is kept.
pub type Key = [u8; 32];

/// Answers by question.
pub struct Answers<V> {
    limit: usize,
    state: Mutex<State<V>>,
}

struct State<V> {
    known: HashMap<Key, Known<V>>,
    /// Questions that are being asked.
    open: HashMap<Key, Arc<tokio::sync::Mutex<()>>>,
}

struct Known<V> {
    value: V,
    until: Instant,
}

/// The key of a question with several parts.
pub fn key<'a>(parts: impl IntoIterator<Item = &'a str>) -> Key {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, &bytes).as_ref());
    key
}

impl<V: Clone> Answers<V> {
    pub fn new(limit: usize) -> Self {
        Answers { limit, state: Mutex::new(State { known: HashMap::new(), open: HashMap::new() }) }
    }

    /// The known answer, or the one that `ask` gets; kept for as long as `keep` says.
    pub async fn get_or_ask<E>(
        &self,
        key: Key,
        keep: impl Fn(&V) -> Duration,
        ask: impl Future<Output = Result<V, E>>,
    ) -> Result<V, E> {
        let turn = {
            let mut state = self.state.lock();
            if let Some(value) = state.find(&key) {
                return Ok(value);
            }
            state.open.entry(key).or_default().clone()
        };
        let _closing = Closing { answers: self, key, turn: &turn };
        let _turn = turn.lock().await;
        if let Some(value) = self.state.lock().find(&key) {
            return Ok(value);
        }
        let value = ask.await?;
        let until = Instant::now() + keep(&value);
        self.state.lock().insert(key, Known { value: value.clone(), until }, self.limit);
        Ok(value)
    }

    /// How many answers are known.
    pub fn len(&self) -> usize {
        self.state.lock().known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Forgets that a question is being asked, also when its asker goes away.
struct Closing<'a, V> {
    answers: &'a Answers<V>,
    key: Key,
    turn: &'a Arc<tokio::sync::Mutex<()>>,
}

impl<V> Drop for Closing<'_, V> {
    fn drop(&mut self) {
        let mut state = self.answers.state.lock();
        // The map and this asker; anybody else still waits and will need it.
        if Arc::strong_count(self.turn) <= 2 {
            state.open.remove(&self.key);
        }
    }
}

impl<V: Clone> State<V> {
    fn find(&self, key: &Key) -> Option<V> {
        self.known.get(key).filter(|known| known.until > Instant::now()).map(|known| known.value.clone())
    }

    fn insert(&mut self, key: Key, known: Known<V>, limit: usize) {
        if self.known.len() >= limit {
            let now = Instant::now();
            self.known.retain(|_, known| known.until > now);
        }
        if self.known.len() >= limit {
            // Those that end first are worth least.
            let mut ends: Vec<Instant> = self.known.values().map(|known| known.until).collect();
            let (_, middle, _) = ends.select_nth_unstable(limit / 2);
            let middle = *middle;
            self.known.retain(|_, known| known.until > middle);
        }
        if self.known.len() < limit {
            self.known.insert(key, known);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    async fn ask(answers: &Answers<u32>, question: &str, value: u32, asked: &AtomicUsize) -> u32 {
        let asking = async {
            asked.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok::<_, ()>(value)
        };
        answers.get_or_ask(key([question]), |_| MINUTE, asking).await.expect("an answer")
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_its_time() {
        let (answers, asked) = (Answers::new(10), AtomicUsize::new(0));
        assert_eq!(ask(&answers, "a", 1, &asked).await, 1);
        assert_eq!(ask(&answers, "a", 2, &asked).await, 1);
        tokio::time::advance(MINUTE).await;
        assert_eq!(ask(&answers, "a", 3, &asked).await, 3);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_the_same_at_once_asks_once() {
        let (answers, asked) = (Answers::new(10), AtomicUsize::new(0));
        let both = futures_util::future::join(ask(&answers, "a", 1, &asked), ask(&answers, "a", 2, &asked));
        assert_eq!(both.await, (1, 1));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(answers.state.lock().open.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_answers_is_bounded_and_errors_are_not_kept() {
        let (answers, asked) = (Answers::new(10), AtomicUsize::new(0));
        for question in 0..100 {
            ask(&answers, &question.to_string(), 1, &asked).await;
        }
        assert!((1..=10).contains(&answers.len()), "{}", answers.len());
        let failed =
            answers.get_or_ask(key(["x"]), |_| MINUTE, std::future::ready(Err::<u32, _>("no"))).await;
        assert_eq!(failed, Err("no"));
        assert_eq!(ask(&answers, "x", 7, &asked).await, 7);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(key(["ab", "c"]), key(["a", "bc"]));
    }
}
