//! Pods that wait for a node: those to be decided on now, those that back off after a failure, and
//! those that wait for something to change.
//!
//! A pod that no node takes is not tried again until an event could have changed the mind of a
//! plugin that refused it; and then not before its back-off is over, which doubles from one second
//! to ten.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::framework::Refusers;
use crate::pod::PodInfo;

const BACKOFF_FROM: Duration = Duration::from_secs(1);
const BACKOFF_TO: Duration = Duration::from_secs(10);

/// Who comes first: priority, then age.
type Order = (Reverse<i32>, Box<str>, Box<str>);

#[derive(Default)]
pub struct Queue {
    pods: HashMap<Box<str>, Waiting>,
    ready: BTreeSet<Order>,
    backoff: BTreeSet<(Instant, Box<str>)>,
    gated: usize,
    refused: usize,
}

/// How many pods wait, and for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub active: usize,
    pub backoff: usize,
    pub unschedulable: usize,
    pub gated: usize,
}

struct Waiting {
    pod: Arc<PodInfo>,
    attempts: u32,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The pod has scheduling gates.
    Gated,
    Ready,
    Backoff(Instant),
    /// Waits for an event.
    Refused {
        refusers: Refusers,
        until: Instant,
    },
    /// Taken by [`Queue::next`].
    Taken,
}

fn order(pod: &PodInfo) -> Order {
    (Reverse(pod.priority), pod.created.clone(), pod.uid.clone())
}

impl Queue {
    /// Adds a pod, or its newer state. A change that plugins can see makes it ready.
    pub fn set(&mut self, pod: Arc<PodInfo>) {
        let place = if pod.gated { Place::Gated } else { Place::Ready };
        let Some(old) = self.pods.get(&pod.uid) else {
            self.insert(Waiting { pod, attempts: 0, place });
            return;
        };
        let same = old.pod.class == pod.class && old.pod.gated == pod.gated;
        let (attempts, kept) = (old.attempts, old.place.clone());
        self.remove(&pod.uid.clone());
        self.insert(Waiting { pod, attempts, place: if same { kept } else { place } });
    }

    pub fn remove(&mut self, uid: &str) {
        let Some(waiting) = self.pods.remove(uid) else { return };
        match waiting.place {
            Place::Ready => drop(self.ready.remove(&order(&waiting.pod))),
            Place::Backoff(until) => drop(self.backoff.remove(&(until, uid.into()))),
            Place::Gated => self.gated -= 1,
            Place::Refused { .. } => self.refused -= 1,
            Place::Taken => {}
        }
    }

    fn insert(&mut self, waiting: Waiting) {
        match &waiting.place {
            Place::Ready => drop(self.ready.insert(order(&waiting.pod))),
            Place::Backoff(until) => drop(self.backoff.insert((*until, waiting.pod.uid.clone()))),
            Place::Gated => self.gated += 1,
            Place::Refused { .. } => self.refused += 1,
            Place::Taken => {}
        }
        self.pods.insert(waiting.pod.uid.clone(), waiting);
    }

    fn place(&mut self, uid: &str, place: impl FnOnce(&mut Waiting) -> Place) {
        let Some(mut waiting) = self.pods.get(uid).map(|waiting| Waiting {
            pod: waiting.pod.clone(),
            attempts: waiting.attempts,
            place: waiting.place.clone(),
        }) else {
            return;
        };
        self.remove(uid);
        waiting.place = place(&mut waiting);
        self.insert(waiting);
    }

    /// The next pod to decide on. It must be given back, or removed.
    pub fn next(&mut self, now: Instant) -> Option<Arc<PodInfo>> {
        while let Some((until, uid)) = self.backoff.first().cloned()
            && until <= now
        {
            self.place(&uid, |_| Place::Ready);
        }
        let (_, _, uid) = self.ready.pop_first()?;
        let waiting = self.pods.get_mut(&uid)?;
        waiting.place = Place::Taken;
        waiting.attempts += 1;
        Some(waiting.pod.clone())
    }

    /// When the next back-off is over.
    pub fn due(&self) -> Option<Instant> {
        self.backoff.first().map(|(until, _)| *until)
    }

    /// No node took the pod.
    pub fn refused(&mut self, uid: &str, refusers: Refusers, now: Instant) {
        self.place(uid, |waiting| Place::Refused { refusers, until: now + backoff(waiting.attempts) });
    }

    /// Something failed that has nothing to do with the nodes.
    pub fn failed(&mut self, uid: &str, now: Instant) {
        self.place(uid, |waiting| Place::Backoff(now + backoff(waiting.attempts)));
    }

    /// Something happened that could change the minds of these plugins.
    pub fn wake(&mut self, minds: Refusers, now: Instant) {
        let woken: Vec<(Box<str>, Instant)> = self
            .pods
            .iter()
            .filter_map(|(uid, waiting)| match &waiting.place {
                Place::Refused { refusers, until } if refusers.is_empty() || refusers.meets(minds) => {
                    Some((uid.clone(), *until))
                }
                Place::Gated | Place::Ready | Place::Backoff(_) | Place::Refused { .. } | Place::Taken => {
                    None
                }
            })
            .collect();
        for (uid, until) in woken {
            self.place(&uid, |_| if until <= now { Place::Ready } else { Place::Backoff(until) });
        }
    }

    /// The latest state of a pod that waits.
    pub fn get(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.pods.get(uid).map(|waiting| &waiting.pod)
    }

    pub fn counts(&self) -> Counts {
        Counts {
            active: self.ready.len(),
            backoff: self.backoff.len(),
            unschedulable: self.refused,
            gated: self.gated,
        }
    }

    pub fn len(&self) -> usize {
        self.pods.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }
}

fn backoff(attempts: u32) -> Duration {
    BACKOFF_FROM.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(BACKOFF_TO)
}

#[cfg(test)]
#[path = "queue/tests.rs"]
mod tests;
