//! Making a backup's bytes.

use ring::digest::{Context, SHA256};

use super::{ENTRY, FILE, File, HEAD_BYTES, HEADER_BYTES, MAGIC, TRAILER, VERSION};
use crate::{Entry, Revision};

/// Collects bytes that are to be written, and hashes them.
pub struct Encoder {
    bytes: Vec<u8>,
    hash: Context,
    entries: u64,
    files: u64,
}

impl Encoder {
    /// Begins with the header.
    pub fn new(revision: Revision, now_s: u64) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&revision.to_le_bytes());
        bytes.extend_from_slice(&now_s.to_le_bytes());
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        Encoder { bytes, hash: Context::new(&SHA256), entries: 0, files: 0 }
    }

    pub fn entry(&mut self, entry: &Entry) {
        let numbers = [entry.revision, entry.create_revision, entry.version];
        self.record(ENTRY, &entry.key, numbers, &entry.value);
        self.entries += 1;
    }

    pub fn file(&mut self, file: &File) {
        self.record(FILE, &file.path, [0; 3], &file.content);
        self.files += 1;
    }

    /// Entries so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes that [`Encoder::take`] would answer.
    pub fn pending(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.bytes);
        self.hash.update(&bytes);
        bytes
    }

    /// The last bytes, with the trailer.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(TRAILER);
        self.bytes.extend_from_slice(&self.entries.to_le_bytes());
        self.bytes.extend_from_slice(&self.files.to_le_bytes());
        let mut bytes = self.take();
        bytes.extend_from_slice(self.hash.finish().as_ref());
        bytes
    }

    fn record(&mut self, kind: u8, key: &str, numbers: [u64; 3], value: &[u8]) {
        let from = self.bytes.len();
        self.bytes.reserve(HEAD_BYTES + key.len() + value.len() + 4);
        self.bytes.push(kind);
        // What is stored is shorter than these can say, by far.
        self.bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        for number in numbers {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.bytes.extend_from_slice(key.as_bytes());
        self.bytes.extend_from_slice(value);
        let sum = crc32fast::hash(&self.bytes[from..]);
        self.bytes.extend_from_slice(&sum.to_le_bytes());
    }
}
