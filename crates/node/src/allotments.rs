//! What the pods of this node have been given of it: who asks for more learns what is left.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::amounts::Amounts;
use crate::node_object::Capacity;
use crate::worker::resize::Room;

/// CPU and memory that pods asked for and were given, by uid.
#[derive(Debug)]
pub struct Allotments {
    pods: Mutex<HashMap<String, Amounts>>,
    changed: watch::Sender<()>,
}

impl Default for Allotments {
    fn default() -> Self {
        Allotments { pods: Mutex::default(), changed: watch::channel(()).0 }
    }
}

impl Allotments {
    /// Counts a pod with what it has now.
    pub fn set(&self, uid: &str, amounts: Amounts) {
        self.pods.lock().insert(uid.to_owned(), amounts);
        self.changed.send_replace(());
    }

    /// Counts a pod no more.
    pub fn remove(&self, uid: &str) {
        if self.pods.lock().remove(uid).is_some() {
            self.changed.send_replace(());
        }
    }

    /// What the node has, and what all pods but this one have of it.
    pub fn room(&self, uid: &str, capacity: &Capacity) -> Room {
        let mut room = Room { cpu_millis: capacity.cpu_millis, memory: capacity.memory, ..Room::default() };
        for (_, amounts) in self.pods.lock().iter().filter(|(other, _)| *other != uid) {
            room.used_cpu_millis += amounts.cpu_request_millis.unwrap_or(0);
            room.used_memory += amounts.memory_request.unwrap_or(0);
        }
        room
    }

    /// Changes when the room for others does.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
