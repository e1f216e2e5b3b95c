//! The one watch that follows all that happens, and begins anew wherever it breaks off.

use std::sync::Arc;

use super::cluster::Pause;
use super::messages::{RANGE, Range, WATCH, WatchAnswer, WatchEvent, watch_all};
use super::{FIRST_KEY, Shared, is_own, shift};
use crate::grpc::{CallError, Code};
use crate::{Event, EventKind, Revision, StoreError};

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("etcd ended the watch: {0}")]
    Canceled(String),
    #[error("what happened after revision {0} was compacted before it was seen")]
    Compacted(Revision),
    #[error("another state was put into etcd, whose revisions go on elsewhere")]
    Shifted,
    #[error("an answer is no message: {0}")]
    Answer(#[from] crate::grpc::wire::WireError),
}

/// Fills the window for as long as the store is open.
pub async fn follow(shared: Arc<Shared>) {
    let mut pause = Pause::default();
    loop {
        let before = shared.history.revision();
        let ended = run(&shared).await;
        if shared.history.revision() > before {
            pause = Pause::default();
        }
        match ended {
            Ok(()) => {}
            Err(error @ FeedError::Compacted(_)) => {
                tracing::warn!(%error, "the caches begin anew");
                if let Err(error) = begin_anew(&shared).await {
                    tracing::warn!(%error, "etcd cannot be followed yet");
                }
            }
            Err(error @ FeedError::Shifted) => {
                tracing::error!(%error, "this process must not go on with the store");
                shared.close();
                return;
            }
            Err(error) => tracing::warn!(%error, "the watch of etcd broke off; going on with another one"),
        }
        pause.wait().await;
    }
}

/// Gives up what cannot be known any more.
async fn begin_anew(shared: &Shared) -> Result<(), StoreError> {
    let revision = shared.current_revision().await?;
    shared.history.restart(revision);
    shared.arrived.send_replace(revision);
    Ok(())
}

/// One watch, from what was seen last to its end.
async fn run(shared: &Shared) -> Result<(), FeedError> {
    let from = shared.shift.etcds(shared.history.revision()).unwrap_or_default() + 1;
    let (member, _sender, mut answers) = shared.cluster.open(WATCH, &watch_all(from)).await?;
    let ended = async {
        // Of the last revision, of which more may follow.
        let mut pending: Vec<WatchEvent> = Vec::new();
        let mut checked = false;
        while let Some(answer) = answers.next().await? {
            let answer = WatchAnswer::decode(&answer)?;
            if answer.canceled {
                return Err(match answer.compact_revision {
                    0 => FeedError::Canceled(answer.reason),
                    _ => FeedError::Compacted(from - 1),
                });
            }
            if !answer.events.is_empty() && !std::mem::replace(&mut checked, true) {
                check_history(shared, from - 1).await?;
            }
            if answer.events.iter().any(|event| event.now.key == shift::KEY.as_bytes()) {
                return Err(FeedError::Shifted);
            }
            pending.extend(answer.events.into_iter().map(|event| shared.shift.event(event)));
            let complete = if answer.fragment { complete(&pending) } else { pending.len() };
            publish(shared, pending.drain(..complete).collect());
        }
        Ok(())
    };
    let ended = ended.await;
    shared.cluster.broke_off(member);
    ended
}

/// Makes sure that history still reaches back to what was seen last. etcd also watches from the very
/// revision that was compacted, of which it has then forgotten the deletions.
async fn check_history(shared: &Shared, seen: Revision) -> Result<(), FeedError> {
    let then = Range { key: FIRST_KEY, revision: seen, count_only: true, ..Range::default() };
    match shared.cluster.ask(RANGE, &then.encode()).await {
        Ok(_) => Ok(()),
        Err(CallError::Status { code: Code::OutOfRange, .. }) => Err(FeedError::Compacted(seen)),
        Err(error) => Err(error.into()),
    }
}

/// How many events, from the first on, are of revisions of which nothing is missing.
fn complete(events: &[WatchEvent]) -> usize {
    let Some(last) = events.last() else { return 0 };
    events.partition_point(|event| event.now.mod_revision < last.now.mod_revision)
}

fn publish(shared: &Shared, events: Vec<WatchEvent>) {
    let seen = shared.history.revision();
    let Some(revision) = events.last().map(|event| event.now.mod_revision).filter(|last| *last > seen) else {
        return;
    };
    let events = events.into_iter().filter(|event| event.now.mod_revision > seen);
    shared.history.publish_to(revision, events.filter_map(event).map(Arc::new).collect());
    shared.arrived.send_replace(revision);
}

/// The event as this store has it; `None` for keys that no reader sees.
fn event(event: WatchEvent) -> Option<Event> {
    if is_own(&event.now.key) {
        return None;
    }
    let kind = if event.deleted {
        EventKind::Delete
    } else {
        EventKind::Put { created: event.now.create_revision == event.now.mod_revision }
    };
    Some(Event {
        revision: event.now.mod_revision,
        key: String::from_utf8(event.now.key).ok()?.into(),
        kind,
        value: event.now.value,
        previous: event.before.map(|before| before.value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::messages::KeyValue;

    #[test]
    fn a_revision_is_complete_when_another_one_follows() {
        let at = |revision| WatchEvent {
            now: KeyValue { mod_revision: revision, ..KeyValue::default() },
            ..WatchEvent::default()
        };
        assert_eq!(complete(&[]), 0);
        assert_eq!(complete(&[at(1), at(1)]), 0);
        assert_eq!(complete(&[at(1), at(2), at(2)]), 1);
    }
}
