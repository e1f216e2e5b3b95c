//! What the store's revision is at this moment: one question to etcd for all who ask meanwhile.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Shared;
use crate::{Revision, StoreError};

/// The most that wait for one question.
const QUEUE: usize = 4096;

type Reply = oneshot::Sender<Result<Revision, StoreError>>;

/// The door to the task that asks.
pub struct Fresh(mpsc::Sender<Reply>);

impl Fresh {
    /// The door, and what must run behind it.
    pub fn new(shared: Arc<Shared>) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Fresh(sender), answer(shared, receiver))
    }

    /// A revision that was current after this was called.
    pub async fn ask(&self) -> Result<Revision, StoreError> {
        let (reply, answer) = oneshot::channel();
        if self.0.send(reply).await.is_err() {
            return Err(StoreError::Closed);
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

async fn answer(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Reply>) {
    let mut replies = Vec::new();
    // Who comes while a question is on its way waits for the next one: this one may be answered with
    // what was before them.
    while waiting.recv_many(&mut replies, QUEUE).await > 0 {
        let revision = shared.current_revision().await;
        for reply in replies.drain(..) {
            // Who is gone does not want to know.
            let _ = reply.send(revision.clone());
        }
    }
}
