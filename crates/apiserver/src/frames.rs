//! Events as they go to clients, encoded once for all watchers that want the same form.
//!
//! A frame is made when the first watcher asks and lies in its event. The memory of all frames of a
//! cache is bounded: the oldest are forgotten first, and made again should somebody still want them.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use sampan_api::table::ResourceDef;

use self::batches::Batches;
pub use self::batches::{Batch, Stand};
use crate::cache::Event;
use crate::http::FormKey;
use crate::watch::Look;

mod batches;

/// The most bytes of frames that one cache keeps.
const BYTES: usize = 1 << 20;
/// How long a frame that tells ages is right.
const AGES: Duration = Duration::from_secs(1);

/// What makes two frames of one event equal.
#[derive(Clone)]
pub struct FrameKey {
    pub look: Look,
    pub form: FormKey,
    /// The version that is served, with its columns.
    pub def: Arc<ResourceDef>,
}

impl PartialEq for FrameKey {
    fn eq(&self, other: &Self) -> bool {
        self.look == other.look && self.form == other.form && Arc::ptr_eq(&self.def, &other.def)
    }
}

/// The frames of one event.
#[derive(Default)]
pub struct Frames {
    made: Mutex<Vec<(FrameKey, Bytes, Instant)>>,
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frames({})", self.made.lock().len())
    }
}

/// Which events of a cache have frames, oldest first.
#[derive(Default)]
pub struct FrameBudget {
    kept: Mutex<Kept>,
    pub batches: Batches,
}

#[derive(Default)]
struct Kept {
    events: VecDeque<(Weak<Event>, usize)>,
    bytes: usize,
}

impl FrameBudget {
    /// The frame of an event, made unless it is there. While one watcher makes it others wait.
    pub fn frame<E>(
        &self,
        event: &Arc<Event>,
        key: FrameKey,
        make: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let frame = {
            let mut made = event.frames.made.lock();
            if let Some(at) = made.iter().position(|(known, ..)| *known == key) {
                let (_, frame, since) = &made[at];
                if !key.form.tells_ages() || since.elapsed() < AGES {
                    return Ok(frame.clone());
                }
                made.swap_remove(at);
            }
            let frame = make()?;
            made.push((key, frame.clone(), Instant::now()));
            frame
        };
        self.charge(event, frame.len());
        Ok(frame)
    }

    fn charge(&self, event: &Arc<Event>, bytes: usize) {
        let mut kept = self.kept.lock();
        kept.events.push_back((Arc::downgrade(event), bytes));
        kept.bytes += bytes;
        while kept.bytes > BYTES {
            let Some((event, bytes)) = kept.events.pop_front() else { return };
            kept.bytes -= bytes;
            if let Some(event) = event.upgrade() {
                event.frames.made.lock().clear();
            }
        }
    }
}

#[cfg(test)]
mod tests;
