//! What clients of a store did and were answered, in the order in which it can have happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{Change, CommitError, Entry, Expect, Revision, Snapshot, Store, Write};

/// An instant of a history: who ended before another began has the smaller one.
pub type Tick = u64;

/// One call of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    pub begun: Tick,
    /// Absent where no answer came: it may take effect at any later time, or never.
    pub ended: Option<Tick>,
    pub call: Call,
}

#[derive(Clone, Debug)]
pub enum Call {
    Write { key: Arc<str>, expect: Expect, put: Option<Bytes>, outcome: Outcome },
    Get { key: Arc<str>, found: Option<Entry> },
    List { prefix: String, snapshot: Snapshot },
}

/// What the writer was told.
#[derive(Clone, Debug)]
pub enum Outcome {
    Done(Revision),
    /// The expectation was not met by what is there.
    Refused(Option<Entry>),
    /// The store failed: it may have happened.
    Unknown,
}

/// Writes down what is done through it. Several may share one history, each before a store of its own.
#[derive(Clone)]
pub struct Recorder {
    store: Arc<dyn Store>,
    history: Arc<History>,
}

#[derive(Default)]
pub struct History {
    clock: AtomicU64,
    operations: Mutex<Vec<Operation>>,
}

impl History {
    pub fn now(&self) -> Tick {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    pub fn add(&self, operation: Operation) {
        self.operations.lock().push(operation);
    }

    /// Everything so far, in the order in which it began.
    pub fn operations(&self) -> Vec<Operation> {
        let mut operations = self.operations.lock().clone();
        operations.sort_by_key(|operation| operation.begun);
        operations
    }
}

impl Recorder {
    pub fn new(store: Arc<dyn Store>, history: Arc<History>) -> Self {
        Recorder { store, history }
    }

    /// Does one write; what it answers tells whether, as far as is known.
    pub async fn write(&self, write: Write) -> Outcome {
        let Write { key, expect, change } = write.clone();
        let put = match change {
            Change::Put(value) => Some(value),
            Change::Delete => None,
            Change::Keep => panic!("a check alone is no operation"),
        };
        let begun = self.history.now();
        let outcome = match self.store.commit(write).await {
            Ok(revision) => Outcome::Done(revision),
            Err(CommitError::Mismatch { current, .. }) => Outcome::Refused(current.map(|entry| *entry)),
            Err(_) => Outcome::Unknown,
        };
        let ended = (!matches!(outcome, Outcome::Unknown)).then(|| self.history.now());
        let call = Call::Write { key, expect, put, outcome: outcome.clone() };
        self.history.add(Operation { begun, ended, call });
        outcome
    }

    /// Reads a key; a failure says nothing and is not written down.
    pub async fn get(&self, key: &str) -> Option<Entry> {
        let begun = self.history.now();
        let found = self.store.get(key).await.ok()?;
        let ended = Some(self.history.now());
        let call = Call::Get { key: key.into(), found: found.clone() };
        self.history.add(Operation { begun, ended, call });
        found
    }

    pub async fn list(&self, prefix: &str) {
        let begun = self.history.now();
        let Ok(snapshot) = self.store.list(prefix).await else { return };
        let ended = Some(self.history.now());
        let call = Call::List { prefix: prefix.to_owned(), snapshot };
        self.history.add(Operation { begun, ended, call });
    }
}
