//! Reading everything below a prefix in parts, for what must not hold it all in memory.

use tokio::sync::mpsc;

use crate::{Entry, Revision, Snapshot, StoreError};

/// About as many bytes of keys and values, or as many entries, as one part has.
pub const PART_BYTES: usize = 1 << 20;
pub const PART_ENTRIES: usize = 4096;
/// Parts that are read ahead of the reader.
const AHEAD: usize = 2;

/// One part, or why there are no more.
pub type Part = Result<Vec<Entry>, StoreError>;

/// Every entry below a prefix at one revision, in the byte order of their keys, part by part. Dropping
/// it ends the reading.
pub struct Scan {
    pub revision: Revision,
    parts: mpsc::Receiver<Part>,
}

impl Scan {
    /// A scan of what its sender is given.
    pub fn channel(revision: Revision) -> (mpsc::Sender<Part>, Scan) {
        let (sender, parts) = mpsc::channel(AHEAD);
        (sender, Scan { revision, parts })
    }

    /// A scan of what was read already.
    pub fn of(snapshot: Snapshot) -> Scan {
        let (sender, scan) = Scan::channel(snapshot.revision);
        // One part fits into an empty queue.
        let _ = sender.try_send(Ok(snapshot.entries));
        scan
    }

    /// The next part; after an error, and after the last one, `None`. Cancel safe.
    pub async fn next(&mut self) -> Option<Part> {
        let part = self.parts.recv().await;
        if let Some(Err(_)) = part {
            self.parts.close();
        }
        part
    }
}

/// Collects entries into parts.
#[derive(Default)]
pub struct Parts {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Parts {
    /// Adds an entry; answers a part when it is full.
    pub fn push(&mut self, entry: Entry) -> Option<Vec<Entry>> {
        self.bytes += entry.key.len() + entry.value.len();
        self.entries.push(entry);
        (self.bytes >= PART_BYTES || self.entries.len() >= PART_ENTRIES).then(|| {
            self.bytes = 0;
            std::mem::take(&mut self.entries)
        })
    }

    /// What is left.
    pub fn finish(self) -> Vec<Entry> {
        self.entries
    }
}
