//! Events for a server elsewhere: an `EventList` of `audit.k8s.io/v1` for each batch, to where a kubeconfig
//! file leads. A delivery that fails for a reason that may pass is tried again, later each time.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use rand::RngExt;
use sampan_base::drain::Shutdown;

use super::queue::BatchConfig;
use crate::webhook::{CallError, Webhook};

/// How often a delivery is tried, and how much longer each pause is.
const ATTEMPTS: u32 = 5;
const FACTOR: f64 = 1.5;
const JITTER: f64 = 0.2;
/// How long one delivery may take, and the one that is left when the process ends.
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WebhookSinkConfig {
    pub batch: BatchConfig,
    /// The longest event, in bytes.
    pub max_event: usize,
    /// The pause after the first failure.
    pub initial_backoff: Duration,
}

/// A server that takes events.
pub struct WebhookSink {
    pub webhook: Webhook,
    pub config: WebhookSinkConfig,
}

impl WebhookSink {
    /// Delivers events, which are JSON each. A process that ends tries once.
    pub async fn send(&self, events: Vec<Bytes>, shutdown: &Shutdown) -> Result<(), CallError> {
        let list = list(&events);
        let mut pause = self.config.initial_backoff;
        let mut attempt = 1;
        loop {
            let error = match self.webhook.post(list.clone(), TIMEOUT).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if attempt == ATTEMPTS || !error.may_pass() || shutdown.is_requested() {
                return Err(error);
            }
            attempt += 1;
            let jitter = rand::rng().random_range(1.0..1.0 + JITTER);
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
                () = shutdown.requested() => {}
            }
            pause = pause.mul_f64(FACTOR);
        }
    }
}

fn list(events: &[Bytes]) -> Bytes {
    let head = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    let length: usize = events.iter().map(|event| event.len() + 1).sum();
    let mut list = BytesMut::with_capacity(head.len() + length + 2);
    list.put_slice(head);
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            list.put_u8(b',');
        }
        list.put_slice(event);
    }
    list.put_slice(b"]}");
    list.freeze()
}
