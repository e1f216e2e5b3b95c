//! Readiness: the process is ready when every part that registered has said so.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// The gates of a process. Cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    gates: Arc<watch::Sender<BTreeMap<&'static str, bool>>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Readiness { gates: Arc::new(watch::Sender::new(BTreeMap::new())) }
    }
}

/// One part's say. Dropping it without [`Gate::open`] leaves the process not ready.
#[must_use = "the process is not ready until this is opened"]
pub struct Gate {
    name: &'static str,
    readiness: Readiness,
}

impl Gate {
    /// The part is ready.
    pub fn open(self) {
        self.readiness.gates.send_modify(|gates| {
            gates.insert(self.name, true);
        });
    }
}

impl Readiness {
    /// Registers a part that must be ready first.
    pub fn gate(&self, name: &'static str) -> Gate {
        self.gates.send_modify(|gates| {
            gates.insert(name, false);
        });
        Gate { name, readiness: self.clone() }
    }

    /// Every part and whether it is ready.
    pub fn gates(&self) -> Vec<(&'static str, bool)> {
        self.gates.borrow().iter().map(|(name, open)| (*name, *open)).collect()
    }

    pub fn is_ready(&self) -> bool {
        self.gates.borrow().values().all(|open| *open)
    }

    /// Waits until every part is ready.
    pub async fn ready(&self) {
        // The sender is a field of `self`, so that the channel cannot close here.
        let _ = self.gates.subscribe().wait_for(|gates| gates.values().all(|open| *open)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_every_gate_is_open() {
        let readiness = Readiness::default();
        let (api, node) = (readiness.gate("api"), readiness.gate("node"));
        api.open();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.gates(), [("api", true), ("node", false)]);
        let waiter = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.ready().await }
        });
        node.open();
        waiter.await.expect("no panic");
    }
}
