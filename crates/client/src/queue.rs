//! Work queues: keys to reconcile, each at most once at a time, with back-off for the ones that fail.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

mod metrics;

pub use metrics::QueueFamilies;

use metrics::Observed;

/// The first delay after a failure; it doubles with each further one.
const BASE_DELAY: Duration = Duration::from_millis(5);
/// The longest delay after failures.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Keys that an empty queue keeps room for.
const KEPT_ROOM: usize = 4096;

/// A queue of keys.
///
/// Guarantees: a key that is added while it waits is handed out once; a key that is added while it
/// is worked on is handed out again after [`WorkQueue::done`]; no key is worked on twice at a time.
pub struct WorkQueue<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        WorkQueue { shared: self.shared.clone() }
    }
}

struct Shared<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// In `ready`, or to be put there when `done`.
    dirty: HashSet<K>,
    working: HashSet<K>,
    /// The earliest time at which a key becomes ready.
    later: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
    closed: bool,
    observed: Option<Observed<K>>,
}

impl<K: Clone + Eq + Hash> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    pub fn new() -> Self {
        Self::with(None)
    }

    /// A queue that tells about itself under a name.
    pub fn observed(families: &QueueFamilies, name: &str) -> Self {
        Self::with(Some(families.of(name)))
    }

    fn with(observed: Option<Observed<K>>) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            later: HashMap::new(),
            failures: HashMap::new(),
            closed: false,
            observed,
        };
        WorkQueue { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// Makes a key ready now.
    pub fn add(&self, key: K) {
        let mut state = self.shared.state.lock();
        state.later.remove(&key);
        state.enqueue(key);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Makes a key ready after a delay, or earlier if it is added in the meantime.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + delay;
        let mut state = self.shared.state.lock();
        let due = state.later.entry(key).or_insert(at);
        *due = at.min(*due);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Makes a key ready again after a delay that doubles with each call until
    /// [`WorkQueue::forget`].
    pub fn retry(&self, key: K) {
        let delay = {
            let mut state = self.shared.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            let delay = BASE_DELAY.saturating_mul(1 << (*failures).min(16)).min(MAX_DELAY);
            *failures = failures.saturating_add(1);
            if let Some(observed) = &state.observed {
                observed.retried();
            }
            delay
        };
        self.add_after(key, delay);
    }

    /// Clears the failures of a key.
    pub fn forget(&self, key: &K) {
        self.shared.state.lock().failures.remove(key);
    }

    /// The next key to work on; `None` when the queue is closed. Call [`WorkQueue::done`] after it.
    pub async fn next(&self) -> Option<K> {
        loop {
            let changed = self.shared.changed.notified();
            let due = {
                let mut state = self.shared.state.lock();
                if state.closed {
                    self.shared.changed.notify_one();
                    return None;
                }
                state.promote(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.working.insert(key.clone());
                    if let Some(observed) = &mut state.observed {
                        observed.begun(&key);
                    }
                    if state.ready.is_empty() {
                        state.shrink();
                    } else {
                        self.shared.changed.notify_one();
                    }
                    return Some(key);
                }
                state.later.values().min().copied()
            };
            match due {
                Some(due) => {
                    tokio::select! {
                        () = changed => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Ends the work on a key.
    pub fn done(&self, key: &K) {
        let mut state = self.shared.state.lock();
        state.working.remove(key);
        if let Some(observed) = &mut state.observed {
            observed.done(key);
        }
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    /// Makes every [`WorkQueue::next`] return `None`.
    pub fn close(&self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_waiters();
        self.shared.changed.notify_one();
    }

    /// Keys that wait to be worked on now.
    pub fn len(&self) -> usize {
        self.shared.state.lock().ready.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn enqueue(&mut self, key: K) {
        if !self.dirty.insert(key.clone()) {
            return;
        }
        if let Some(observed) = &mut self.observed {
            observed.added(&key);
        }
        if !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// Gives back what a flood of keys took, such as the first list of a large cluster.
    fn shrink(&mut self) {
        if self.ready.capacity() > KEPT_ROOM {
            self.ready.shrink_to(KEPT_ROOM);
            self.dirty.shrink_to(KEPT_ROOM);
        }
    }

    fn promote(&mut self, now: Instant) {
        let due: Vec<K> =
            self.later.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            self.later.remove(&key);
            self.enqueue(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_added_twice_is_worked_once() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_while_worked_on_comes_again_after_done() {
        let queue = WorkQueue::new();
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        queue.add("a");
        assert!(queue.is_empty());
        queue.done(&"a");
        assert_eq!(queue.next().await, Some("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_each_time() {
        let queue = WorkQueue::new();
        let start = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..3 {
            queue.retry("a");
            queue.next().await;
            queue.done(&"a");
            waits.push(start.elapsed());
        }
        assert!(waits[1] - waits[0] > waits[0], "{waits:?}");
        queue.forget(&"a");
        let before = Instant::now();
        queue.retry("a");
        queue.next().await;
        assert!(before.elapsed() <= BASE_DELAY + Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_tells_how_long_its_keys_wait_and_are_worked_on() {
        let registry = sampan_base::metrics::Registry::default();
        let queue = WorkQueue::observed(&QueueFamilies::new(&registry), "q");
        queue.add("a");
        queue.add("a");
        queue.add("b");
        tokio::time::advance(Duration::from_secs(3)).await;
        queue.next().await;
        queue.add("a");
        tokio::time::advance(Duration::from_secs(2)).await;
        queue.done(&"a");
        queue.retry("b");
        let told = registry.encode(sampan_base::metrics::Format::Text);
        for line in [
            "workqueue_adds_total{name=\"q\"} 3",
            "workqueue_depth{name=\"q\"} 2",
            "workqueue_retries_total{name=\"q\"} 1",
            "workqueue_queue_duration_seconds_sum{name=\"q\"} 3",
            "workqueue_work_duration_seconds_sum{name=\"q\"} 2",
        ] {
            assert!(told.contains(line), "{line} is in\n{told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn closing_wakes_everyone() {
        let queue: WorkQueue<&str> = WorkQueue::new();
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for waiter in waiters {
            assert_eq!(waiter.await.expect("no panic"), None);
        }
    }
}
