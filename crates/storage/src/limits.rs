//! What a commit may hold.

use std::collections::HashSet;

use crate::writer::write_bytes;
use crate::{
    Change, CommitError, MAX_COMMIT_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES, MAX_WRITES, Write, WriteFault,
};

/// The bounds of one commit to a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub writes: usize,
    pub value_bytes: usize,
    /// Keys and values together.
    pub commit_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { writes: MAX_WRITES, value_bytes: MAX_VALUE_BYTES, commit_bytes: MAX_COMMIT_BYTES }
    }
}

impl Limits {
    /// Refuses what the store does not take; answers the bytes of keys and values.
    pub fn check(self, writes: &[Write]) -> Result<usize, CommitError> {
        if writes.is_empty() || writes.len() > self.writes {
            return Err(CommitError::Count { count: writes.len(), limit: self.writes });
        }
        let mut keys = HashSet::with_capacity(writes.len());
        let mut bytes = 0;
        for (index, write) in writes.iter().enumerate() {
            let key = write.key.len();
            let value = match &write.change {
                Change::Put(value) => value.len(),
                Change::Delete | Change::Keep => 0,
            };
            let fault = if key == 0 {
                Some(WriteFault::EmptyKey)
            } else if key > MAX_KEY_BYTES {
                Some(WriteFault::KeyTooLong { size: key, limit: MAX_KEY_BYTES })
            } else if value > self.value_bytes {
                Some(WriteFault::ValueTooLarge { size: value, limit: self.value_bytes })
            } else if !keys.insert(&*write.key) {
                Some(WriteFault::DuplicateKey)
            } else {
                None
            };
            if let Some(fault) = fault {
                return Err(CommitError::Invalid { index, fault });
            }
            bytes += write_bytes(write);
        }
        if bytes > self.commit_bytes {
            return Err(CommitError::Size { bytes, limit: self.commit_bytes });
        }
        if writes.iter().all(|write| write.change == Change::Keep) {
            return Err(CommitError::Invalid { index: 0, fault: WriteFault::NoChange });
        }
        Ok(bytes)
    }
}
