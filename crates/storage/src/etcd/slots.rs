//! How a commit happens once, although its answer may be lost.
//!
//! Each transaction also writes a number of its own into a key of this process, its slot, provided that
//! nobody wrote the slot since this process last did. A slot has one transaction at a time. When no answer
//! comes, a second transaction tries to write the slot under the same condition:
//!
//! - It succeeds: the first one did not happen, and never can, since its condition does not hold any more.
//! - It fails: what the slot holds tells whether it was the first one that wrote it.
//!
//! Either way what became of the commit is known, and it can be done again where it was not.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::OWN_PREFIX;
use crate::{Revision, StoreError};

/// Transactions that are on their way at once.
const SLOTS: usize = 256;

pub struct Slots {
    /// Differs from that of every other process.
    owner: String,
    free: Mutex<Vec<Slot>>,
    permits: Semaphore,
    made: AtomicU64,
    numbers: AtomicU64,
}

/// One key, as this process knows it to be.
pub struct Slot {
    pub key: String,
    /// Of its last write; zero while it does not exist.
    pub revision: Revision,
}

/// A slot in use. One that is not given back is never used again: what it holds is not known.
pub struct Taken<'a> {
    pub slot: Slot,
    slots: &'a Slots,
    _permit: SemaphorePermit<'a>,
}

impl Slots {
    pub fn new() -> Self {
        let mut random = [0u8; 12];
        let rng = ring::rand::SystemRandom::new();
        ring::rand::SecureRandom::fill(&rng, &mut random).expect("the kernel gives random bytes");
        let owner = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Slots {
            owner,
            free: Mutex::default(),
            permits: Semaphore::new(SLOTS),
            made: AtomicU64::new(0),
            numbers: AtomicU64::new(0),
        }
    }

    pub async fn take(&self) -> Result<Taken<'_>, StoreError> {
        let permit = self.permits.acquire().await.map_err(|_| StoreError::Closed)?;
        let slot = self.free.lock().pop().unwrap_or_else(|| {
            let index = self.made.fetch_add(1, Ordering::Relaxed);
            Slot { key: format!("{OWN_PREFIX}commits/{}/{index}", self.owner), revision: 0 }
        });
        Ok(Taken { slot, slots: self, _permit: permit })
    }

    /// A number that no other transaction writes into a slot.
    pub fn number(&self) -> String {
        self.numbers.fetch_add(1, Ordering::Relaxed).to_string()
    }
}

impl Taken<'_> {
    /// Gives the slot back, as it was last written.
    pub fn give_back(self, revision: Revision) {
        self.slots.free.lock().push(Slot { revision, ..self.slot });
    }
}
