//! A watch and its bounded queue.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{Batch, Revision, StoreError, WatchError};

/// How far a watch may lag before it ends with [`WatchError::Lagged`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchBound {
    pub events: usize,
    /// Bytes of keys and values.
    pub bytes: usize,
}

impl Default for WatchBound {
    fn default() -> Self {
        WatchBound { events: 16_384, bytes: 16 << 20 }
    }
}

/// The reading end. Dropping it ends the watch.
pub struct Watch {
    queue: Arc<Queue>,
    opener: Option<Arc<dyn OpenBatch>>,
    /// Taken from the queue, and not opened yet.
    sealed: Option<Batch>,
}

/// What a batch goes through on its way to the reader.
#[async_trait]
pub(crate) trait OpenBatch: Send + Sync {
    async fn open(&self, batch: &Batch) -> Batch;

    /// The same if it needs no waiting.
    fn open_now(&self, batch: &Batch) -> Option<Batch>;
}

/// The writing end, for the backends of [`crate::Store`]. Dropping it ends the watch with
/// [`StoreError::Closed`].
pub struct WatchSender {
    queue: Arc<Queue>,
    bound: WatchBound,
}

struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    batches: VecDeque<Batch>,
    events: usize,
    bytes: usize,
    /// The last revision that was queued, or after which the watch began.
    last: Revision,
    ending: Ending,
}

/// How the queue goes on once it is empty.
enum Ending {
    Open,
    Failed(WatchError),
    /// The error was delivered, or the reader has gone.
    Over,
}

impl Watch {
    /// A watch that delivers what its sender is given. `after` is where it begins.
    pub fn channel(after: Revision, bound: WatchBound) -> (WatchSender, Watch) {
        let state =
            State { batches: VecDeque::new(), events: 0, bytes: 0, last: after, ending: Ending::Open };
        let queue = Arc::new(Queue { state: Mutex::new(state), changed: Notify::new() });
        (WatchSender { queue: queue.clone(), bound }, Watch { queue, opener: None, sealed: None })
    }

    /// The same watch, with every batch going through `opener`.
    pub(crate) fn opened_by(mut self, opener: Arc<dyn OpenBatch>) -> Watch {
        self.opener = Some(opener);
        self
    }

    /// The next batch; the error that ended the watch, once; then `None`. Cancel safe.
    pub async fn next(&mut self) -> Option<Result<Batch, WatchError>> {
        loop {
            if let (Some(batch), Some(opener)) = (&self.sealed, &self.opener) {
                let opened = opener.open(batch).await;
                self.sealed = None;
                return Some(Ok(opened));
            }
            // There is one reader, and `notify_one` keeps its permit: no wake-up is lost.
            match self.take() {
                Taken::Item(Ok(batch)) if self.opener.is_some() => self.sealed = Some(batch),
                Taken::Item(item) => return Some(item),
                Taken::Over => return None,
                Taken::Nothing => self.queue.changed.notified().await,
            }
        }
    }

    /// What [`Watch::next`] would return at once; `None` when that is nothing.
    pub fn try_next(&mut self) -> Option<Result<Batch, WatchError>> {
        let Some(opener) = self.opener.clone() else { return self.take().item() };
        if self.sealed.is_none() {
            match self.take().item()? {
                Ok(batch) => self.sealed = Some(batch),
                Err(error) => return Some(Err(error)),
            }
        }
        let opened = opener.open_now(self.sealed.as_ref()?)?;
        self.sealed = None;
        Some(Ok(opened))
    }

    fn take(&mut self) -> Taken {
        let mut state = self.queue.state.lock();
        if let Some(batch) = state.batches.pop_front() {
            state.events -= batch.len();
            state.bytes -= weight(&batch);
            return Taken::Item(Ok(batch));
        }
        match std::mem::replace(&mut state.ending, Ending::Over) {
            Ending::Open => {
                state.ending = Ending::Open;
                Taken::Nothing
            }
            Ending::Failed(error) => Taken::Item(Err(error)),
            Ending::Over => Taken::Over,
        }
    }
}

enum Taken {
    Item(Result<Batch, WatchError>),
    Nothing,
    Over,
}

impl Taken {
    fn item(self) -> Option<Result<Batch, WatchError>> {
        match self {
            Taken::Item(item) => Some(item),
            Taken::Over | Taken::Nothing => None,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.ending = Ending::Over;
        state.batches = VecDeque::new();
        state.events = 0;
        state.bytes = 0;
    }
}

impl WatchSender {
    /// Queues a batch, never waits. Answers whether the watch goes on.
    ///
    /// An empty queue takes any batch, so that one larger than the bound is still delivered.
    pub fn send(&self, batch: Batch) -> bool {
        let Some(last) = batch.last().map(|event| event.revision) else { return true };
        let mut state = self.queue.state.lock();
        match state.ending {
            Ending::Open => {}
            Ending::Failed(_) | Ending::Over => return false,
        }
        let (events, bytes) = (state.events + batch.len(), state.bytes + weight(&batch));
        let fits = state.batches.is_empty() || (events <= self.bound.events && bytes <= self.bound.bytes);
        if fits {
            (state.events, state.bytes, state.last) = (events, bytes, last);
            state.batches.push_back(batch);
        } else {
            state.ending = Ending::Failed(WatchError::Lagged { after: state.last });
        }
        drop(state);
        self.queue.changed.notify_one();
        fits
    }

    /// Ends the watch with an error, after what is queued.
    pub fn fail(&self, error: WatchError) {
        let mut state = self.queue.state.lock();
        if let Ending::Open = state.ending {
            state.ending = Ending::Failed(error);
        }
        drop(state);
        self.queue.changed.notify_one();
    }

    /// Whether the reader still wants events.
    pub fn is_open(&self) -> bool {
        matches!(self.queue.state.lock().ending, Ending::Open)
    }
}

impl Drop for WatchSender {
    fn drop(&mut self) {
        self.fail(StoreError::Closed.into());
    }
}

/// Bytes that a batch keeps alive, its keys and values.
fn weight(batch: &Batch) -> usize {
    batch.iter().map(|event| event.weight()).sum()
}
