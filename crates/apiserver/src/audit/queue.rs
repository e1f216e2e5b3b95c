//! Events that wait to be delivered together, within bounds: what does not fit is dropped and counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The most bytes of events that wait, whatever their number.
const MAX_BYTES: usize = 64 << 20;

/// How events are put together, with kube-apiserver's meanings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchConfig {
    /// Events that wait before further ones are dropped.
    pub buffer_size: usize,
    /// Events that are delivered together.
    pub max_size: usize,
    /// Bytes that are delivered together, unless one event has more.
    pub max_bytes: usize,
    /// How long an event waits for others.
    pub max_wait: Duration,
    /// Deliveries in a second, and how many may come at once; none is unlimited.
    pub throttle: Option<Throttle>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttle {
    pub per_second: f32,
    pub burst: u32,
}

/// Events on their way.
pub struct Queue {
    config: BatchConfig,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Bytes>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub fn new(config: BatchConfig) -> Arc<Self> {
        Arc::new(Queue { config, waiting: Mutex::default(), filled: Notify::new() })
    }

    /// Adds an event. Answers whether there was room.
    pub fn push(&self, event: Bytes) -> bool {
        let mut waiting = self.waiting.lock();
        let full = waiting.events.len() >= self.config.buffer_size || waiting.bytes + event.len() > MAX_BYTES;
        if full || waiting.closed {
            return false;
        }
        waiting.bytes += event.len();
        waiting.events.push_back(event);
        let count = waiting.events.len();
        drop(waiting);
        // The first begins the wait for others, a full batch ends it.
        if count == 1 || count == self.config.max_size {
            self.filled.notify_one();
        }
        true
    }

    /// Takes no more; what waits is still delivered, without waiting for others.
    pub fn close(&self) {
        self.waiting.lock().closed = true;
        self.filled.notify_one();
    }

    /// The next batch; none once it is closed and empty.
    async fn next(&self) -> Option<Vec<Bytes>> {
        let mut deadline: Option<Instant> = None;
        loop {
            {
                let mut waiting = self.waiting.lock();
                let (count, closed) = (waiting.events.len(), waiting.closed);
                if count == 0 && closed {
                    return None;
                }
                if count > 0 {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.config.max_wait);
                    if closed || count >= self.config.max_size || Instant::now() >= deadline {
                        return Some(waiting.take(&self.config));
                    }
                }
            }
            match deadline {
                Some(deadline) => {
                    let _ = tokio::time::timeout_at(deadline, self.filled.notified()).await;
                }
                None => self.filled.notified().await,
            }
        }
    }

    /// Delivers batches, one after another, until the queue is closed and empty.
    pub async fn run<F: Future<Output = ()>>(&self, mut deliver: impl FnMut(Vec<Bytes>) -> F) {
        let mut bucket = self.config.throttle.map(Bucket::new);
        while let Some(batch) = self.next().await {
            if let Some(bucket) = &mut bucket {
                bucket.take().await;
            }
            deliver(batch).await;
        }
    }
}

impl Waiting {
    fn take(&mut self, config: &BatchConfig) -> Vec<Bytes> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < config.max_size
            && let Some(event) = self.events.front()
            && (batch.is_empty() || bytes + event.len() <= config.max_bytes)
        {
            bytes += event.len();
            batch.extend(self.events.pop_front());
        }
        self.bytes -= bytes;
        batch
    }
}

/// A token bucket.
struct Bucket {
    throttle: Throttle,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(throttle: Throttle) -> Self {
        Bucket { throttle, tokens: f64::from(throttle.burst), filled: Instant::now() }
    }

    async fn take(&mut self) {
        let rate = f64::from(self.throttle.per_second);
        let now = Instant::now();
        self.tokens += now.duration_since(self.filled).as_secs_f64() * rate;
        self.tokens = self.tokens.min(f64::from(self.throttle.burst));
        self.filled = now;
        if self.tokens < 1.0 {
            tokio::time::sleep(Duration::from_secs_f64((1.0 - self.tokens) / rate)).await;
            self.filled = Instant::now();
            self.tokens = 1.0;
        }
        self.tokens -= 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: BatchConfig = BatchConfig {
        buffer_size: 5,
        max_size: 2,
        max_bytes: 10,
        max_wait: Duration::from_secs(30),
        throttle: None,
    };

    fn event(text: &str) -> Bytes {
        Bytes::from(text.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn batches_are_bounded_by_number_bytes_and_time() {
        let queue = Queue::new(CONFIG);
        for text in ["a", "b", "12345678", "4321", "e"] {
            assert!(queue.push(event(text)), "{text}");
        }
        assert!(!queue.push(event("f")), "there is no room");
        let began = Instant::now();
        let mut batches = Vec::new();
        for _ in 0..3 {
            batches.push(queue.next().await.expect("a batch"));
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(
            batches,
            [vec![event("a"), event("b")], vec![event("12345678")], vec![event("4321"), event("e")]]
        );
        assert!(queue.push(event("g")));
        assert_eq!(queue.next().await, Some(vec![event("g")]));
        assert_eq!(began.elapsed(), CONFIG.max_wait);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_queue_is_emptied_at_once_and_takes_nothing() {
        let queue = Queue::new(CONFIG);
        queue.push(event("a"));
        queue.close();
        assert!(!queue.push(event("b")));
        let began = Instant::now();
        let delivered = Mutex::new(Vec::new());
        queue
            .run(|batch| {
                delivered.lock().extend(batch);
                std::future::ready(())
            })
            .await;
        assert_eq!(*delivered.lock(), [event("a")]);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn deliveries_are_throttled() {
        let throttle = Some(Throttle { per_second: 2.0, burst: 2 });
        let queue = Queue::new(BatchConfig { max_size: 1, throttle, ..CONFIG });
        for text in ["a", "b", "c", "d"] {
            queue.push(event(text));
        }
        queue.close();
        let (began, times) = (Instant::now(), Mutex::new(Vec::new()));
        queue
            .run(|_| {
                times.lock().push(began.elapsed().as_millis());
                std::future::ready(())
            })
            .await;
        assert_eq!(*times.lock(), [0, 0, 500, 1000]);
    }
}
