//! The last revision that was acknowledged, in a file beside the store.
//!
//! redb has two slots for its roots, and when what the newer one names is not as it was written, it goes
//! back to the older one: right after a crash that tore a commit, wrong when the disk forgot one that was
//! acknowledged. The two are told apart by this file. It is written after each commit and not synced, so
//! that it says too little after a loss of power, and never too much.
//!
//! 12 bytes: the revision, a little-endian `u64`, and the CRC-32 of those 8 bytes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::beside;
use crate::Revision;

const BYTES: usize = 12;

pub struct Mark {
    file: File,
}

impl Mark {
    /// Opens the mark of a store; answers what it says, 0 where it says nothing.
    pub fn open(store: &Path) -> io::Result<(Self, Revision)> {
        let path = beside(store, "acknowledged");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut bytes = [0; BYTES];
        let revision = match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) => return Err(error),
        };
        Ok((Mark { file }, revision))
    }

    /// Forgets the mark of a store that is to be another one.
    pub fn remove(store: &Path) -> io::Result<()> {
        match std::fs::remove_file(beside(store, "acknowledged")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Notes that everything up to a revision is on disk.
    pub fn set(&self, revision: Revision) -> io::Result<()> {
        self.file.write_all_at(&encode(revision), 0)
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

fn encode(revision: Revision) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&revision.to_le_bytes());
    let sum = crc32fast::hash(&bytes[..8]);
    bytes[8..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// What is torn or damaged says nothing.
fn decode(bytes: &[u8; BYTES]) -> Revision {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[..8]);
    let revision = Revision::from_le_bytes(number);
    if encode(revision) == *bytes { revision } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_kept_or_says_nothing() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let store = dir.path().join("store");
        let read = || Mark::open(&store).expect("opens").1;
        assert_eq!(read(), 0);
        Mark::open(&store).expect("opens").0.set(7).expect("writes");
        assert_eq!(read(), 7);
        std::fs::write(beside(&store, "acknowledged"), [1; BYTES]).expect("writes");
        assert_eq!(read(), 0);
        Mark::remove(&store).expect("removes");
        Mark::remove(&store).expect("there is none");
    }
}
