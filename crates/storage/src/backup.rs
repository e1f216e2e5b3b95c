//! Backups: everything that a store holds at one revision, as one stream of bytes.
//!
//! A backup is made of a [`Store`], whichever it is, while it is written to. Values are in it as they
//! are stored, so that what is encrypted stays so. Neither writing nor reading one needs more memory than
//! its largest record. All numbers are little-endian.
//!
//! | Bytes | Header |
//! | --- | --- |
//! | 8 | `SAMPANBK` |
//! | 4 | version of this format, 1 |
//! | 8 | revision of the store |
//! | 8 | time of the backup, seconds since 1970 |
//! | 4 | CRC-32 (IEEE) of the 28 bytes before |
//!
//! Then records, each of them:
//!
//! | Bytes | Record |
//! | --- | --- |
//! | 1 | kind: 1 an entry, 2 a file |
//! | 4 | length of the key, or of the file's path |
//! | 4 | length of the value, or of the file's content |
//! | 24 | of an entry: revision, revision of creation, version; of a file: zeros |
//! | | the key, which is UTF-8, and the value |
//! | 4 | CRC-32 of the record before this |
//!
//! Entries are in the byte order of their keys, each key once; files follow them. And at the end:
//!
//! | Bytes | Trailer |
//! | --- | --- |
//! | 1 | kind: 255 |
//! | 8 | number of entries |
//! | 8 | number of files |
//! | 32 | SHA-256 of everything before these 32 bytes, from the header on |
//!
//! Nothing follows. A backup without its trailer is none: what was cut off anywhere, or is not as it was
//! written, is refused before anything is restored of it.

use crate::{Entry, MAX_KEY_BYTES, MAX_VALUE_BYTES, Revision, Scan, StoreError};

mod reader;
mod restore;
mod writer;

pub use reader::{BackupError, Reader, Record, Summary, verify};
pub use restore::{BUMP, RestoreError, put_as_is, restore};
pub use writer::Encoder;

const MAGIC: &[u8; 8] = b"SAMPANBK";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;
/// Before a record's key.
const HEAD_BYTES: usize = 33;
const HASH_BYTES: usize = 32;

const ENTRY: u8 = 1;
const FILE: u8 = 2;
const TRAILER: u8 = 255;

/// The longest key and value that a backup holds. Stored values may be larger than plain ones by what
/// their encryption adds.
const MAX_KEY: usize = MAX_KEY_BYTES;
const MAX_VALUE: usize = MAX_VALUE_BYTES + (64 << 10);

/// A file of the data directory that a backup carries along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Relative to the data directory.
    pub path: String,
    pub content: Vec<u8>,
}

/// Why no backup was made.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot write the backup: {0}")]
    Io(#[from] std::io::Error),
}

/// Writes a backup of everything that a scan has, and of some files. Answers the revision and the number of
/// entries.
pub async fn write<W: tokio::io::AsyncWrite + Unpin>(
    mut scan: Scan,
    files: &[File],
    now_s: u64,
    out: &mut W,
) -> Result<(Revision, u64), WriteError> {
    use tokio::io::AsyncWriteExt as _;
    let mut encoder = Encoder::new(scan.revision, now_s);
    while let Some(entries) = scan.next().await {
        for entry in entries? {
            encoder.entry(&entry);
            // A part of a scan is as much as is held at once.
            if encoder.pending() >= crate::scan::PART_BYTES {
                out.write_all(&encoder.take()).await?;
            }
        }
        out.write_all(&encoder.take()).await?;
    }
    for file in files {
        encoder.file(file);
        out.write_all(&encoder.take()).await?;
    }
    let (revision, count) = (scan.revision, encoder.entries());
    out.write_all(&encoder.finish()).await?;
    out.flush().await?;
    Ok((revision, count))
}

/// The stamp and the value of a record, in an entry's form.
fn entry(key: &str, numbers: [u64; 3], value: Vec<u8>) -> Entry {
    let [revision, create_revision, version] = numbers;
    Entry { key: key.into(), value: value.into(), revision, create_revision, version }
}

#[cfg(test)]
mod tests;
