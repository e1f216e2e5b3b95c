//! What can go wrong, by operation.

use std::path::PathBuf;
use std::sync::Arc;

use crate::{Entry, Revision};

/// The store itself does not work.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// A read or a write of the file failed; later calls may succeed. Whether a commit that got
    /// this is stored is only known by reading: it is either whole or not at all, and watches hold
    /// its events if it is.
    #[error("the store {path} cannot {action}: {reason}")]
    Io {
        path: PathBuf,
        action: &'static str,
        reason: String,
        /// The file system is full: room must be made before a write can succeed.
        full: bool,
    },
    /// The file's content is not what was written, or not a store of ours.
    #[error("the store {path} is corrupted: {what}")]
    Corrupt { path: PathBuf, what: String },
    /// The file was written by a release with another format.
    #[error("the store {path} has format {found}, and this release reads format {supported}")]
    Format { path: PathBuf, found: u64, supported: u64 },
    /// A value cannot be encrypted or decrypted; in upstream's words.
    #[error("unable to transform key {key:?}: {reason}")]
    Transform { key: Arc<str>, reason: String },
    #[error("the store {path} is in use by another process")]
    Locked { path: PathBuf },
    /// The etcd cluster cannot be asked; nothing was changed.
    #[error("etcd cannot {action}: {reason}")]
    Unavailable { action: &'static str, reason: String },
    /// Nobody knows whether a commit happened; only reading tells.
    #[error("etcd did not say whether a write happened, and may still do it: {reason}")]
    Unknown { reason: String },
    /// etcd's space quota is used up; nothing was changed.
    #[error("etcd has no space left: {reason}")]
    Full { reason: String },
    /// Something is missing of what was read part by part: its reader took none of it for too long.
    #[error("the reading of the store was cut off before its end")]
    CutOff,
    #[error("the store is closed")]
    Closed,
}

/// Why a commit did not happen. Nothing of it is stored, save as [`StoreError::Io`] says.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// The expectation of the write at `index` does not hold; `current` is what the key holds.
    #[error("write {index} does not match: {}", Current(current.as_deref()))]
    Mismatch { index: usize, current: Option<Box<Entry>> },
    /// The same of a write that only checks ([`crate::Change::Keep`]): what the whole commit depends on.
    #[error("what the commit depends on does not hold: {}", Current(current.as_deref()))]
    Check { index: usize, current: Option<Box<Entry>> },
    #[error("write {index} is invalid: {fault}")]
    Invalid { index: usize, fault: WriteFault },
    /// A commit has between one and `limit` writes.
    #[error("{count} writes in one commit, of which there may be 1 to {limit}")]
    Count { count: usize, limit: usize },
    #[error("{bytes} bytes in one commit, of which there may be {limit}")]
    Size { bytes: usize, limit: usize },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What no store takes, whatever it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteFault {
    #[error("the key is empty")]
    EmptyKey,
    #[error("the key has {size} bytes, of which there may be {limit}")]
    KeyTooLong { size: usize, limit: usize },
    #[error("the value has {size} bytes, of which there may be {limit}")]
    ValueTooLarge { size: usize, limit: usize },
    #[error("the key occurs twice in the commit")]
    DuplicateKey,
    #[error("nothing in the commit changes anything")]
    NoChange,
}

/// Why a watch could not start, or ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WatchError {
    /// The revision lies before the history window, which reaches back to `oldest`.
    #[error("the required revision has been compacted; the oldest is {oldest}")]
    Compacted { oldest: Revision },
    /// The watch was not read fast enough and missed events after `after`, the last revision whose
    /// events it delivers. A new watch from there goes on while the history reaches back to it.
    #[error("the watch lags behind and ends after revision {after}")]
    Lagged { after: Revision },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Says what a key holds, without its value.
struct Current<'a>(Option<&'a Entry>);

impl std::fmt::Display for Current<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(entry) => write!(f, "{} is at revision {}", entry.key, entry.revision),
            None => f.write_str("the key does not exist"),
        }
    }
}
