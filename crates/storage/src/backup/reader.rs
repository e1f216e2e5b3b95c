//! Reading a backup, and refusing what is none.

use std::io::{self, Read};

use ring::digest::{Context, SHA256};

use super::{
    ENTRY, FILE, File, HASH_BYTES, HEAD_BYTES, HEADER_BYTES, MAGIC, MAX_KEY, MAX_VALUE, TRAILER, VERSION,
    entry,
};
use crate::{Entry, Revision};

/// Why bytes are no backup. `at` is where in them.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("cannot read the backup: {0}")]
    Io(io::Error),
    #[error("this is no backup of Sampan")]
    Magic,
    #[error("the backup has format {0}, and this release reads format {VERSION}")]
    Version(u32),
    #[error("the backup is cut off at byte {at}")]
    CutOff { at: u64 },
    #[error("the backup is damaged at byte {at}: {what}")]
    Damaged { at: u64, what: &'static str },
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Entry(Entry),
    File(File),
}

/// What a whole backup holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub revision: Revision,
    /// When it was made, in seconds since 1970.
    pub time_s: u64,
    pub entries: u64,
    pub files: u64,
    pub bytes: u64,
}

/// Reads records one after the other. What it answers before it answered `None` may be of a backup that
/// is damaged further on: [`verify`] comes first.
pub struct Reader<R> {
    input: R,
    hash: Context,
    at: u64,
    summary: Summary,
    last_key: String,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header. `input` should be buffered.
    pub fn new(input: R) -> Result<Self, BackupError> {
        let mut reader = Reader {
            input,
            hash: Context::new(&SHA256),
            at: 0,
            summary: Summary::default(),
            last_key: String::new(),
            ended: false,
        };
        let mut header = [0; HEADER_BYTES];
        match reader.fill(&mut header) {
            Ok(()) => {}
            // Too short even for what it would begin with.
            Err(BackupError::CutOff { .. }) if !MAGIC.starts_with(&header[..reader.at.min(8) as usize]) => {
                return Err(BackupError::Magic);
            }
            Err(error) => return Err(error),
        }
        if header[..8] != *MAGIC {
            return Err(BackupError::Magic);
        }
        if u32_at(&header, 28) != crc32fast::hash(&header[..28]) {
            return Err(BackupError::Damaged { at: 0, what: "the header's checksum does not match" });
        }
        let version = u32_at(&header, 8);
        if version != VERSION {
            return Err(BackupError::Version(version));
        }
        reader.summary.revision = u64_at(&header, 12);
        reader.summary.time_s = u64_at(&header, 20);
        Ok(reader)
    }

    pub fn revision(&self) -> Revision {
        self.summary.revision
    }

    /// What was read so far; of a whole backup, once [`Reader::next_record`] has answered `None`.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The next record; `None` after the last one, when the trailer matches and nothing follows.
    pub fn next_record(&mut self) -> Result<Option<Record>, BackupError> {
        if self.ended {
            return Ok(None);
        }
        let from = self.at;
        let damaged = |what| BackupError::Damaged { at: from, what };
        let mut head = [0; HEAD_BYTES];
        self.fill(&mut head[..1])?;
        match head[0] {
            ENTRY | FILE => {}
            TRAILER => {
                self.trailer(from)?;
                return Ok(None);
            }
            _ => return Err(damaged("there is no such kind of record")),
        }
        self.fill(&mut head[1..])?;
        let (key_bytes, value_bytes) = (u32_at(&head, 1) as usize, u32_at(&head, 5) as usize);
        if key_bytes == 0 || key_bytes > MAX_KEY || value_bytes > MAX_VALUE {
            return Err(damaged("the lengths are not those of a record"));
        }
        let (key, value) = (self.bytes(key_bytes)?, self.bytes(value_bytes)?);
        let mut sum = [0; 4];
        self.fill(&mut sum)?;
        let mut expected = crc32fast::Hasher::new();
        for part in [&head[..], &key, &value] {
            expected.update(part);
        }
        if expected.finalize() != u32::from_le_bytes(sum) {
            return Err(damaged("the record's checksum does not match"));
        }
        let key = String::from_utf8(key).map_err(|_| damaged("the key is not UTF-8"))?;
        let numbers = [u64_at(&head, 9), u64_at(&head, 17), u64_at(&head, 25)];
        if head[0] == FILE {
            self.summary.files += 1;
            return Ok(Some(Record::File(File { path: key, content: value })));
        }
        if self.summary.files > 0 || self.summary.entries > 0 && key <= self.last_key {
            return Err(damaged("the record is out of order"));
        }
        let [revision, create_revision, version] = numbers;
        if version == 0 || create_revision == 0 || create_revision > revision || revision > self.revision() {
            return Err(damaged("the entry's revisions cannot be"));
        }
        self.summary.entries += 1;
        self.last_key.clone_from(&key);
        Ok(Some(Record::Entry(entry(&key, numbers, value))))
    }

    fn trailer(&mut self, from: u64) -> Result<(), BackupError> {
        let damaged = |what| BackupError::Damaged { at: from, what };
        let mut counts = [0; 16];
        self.fill(&mut counts)?;
        let expected = self.hash.clone().finish();
        let mut hash = [0; HASH_BYTES];
        self.fill(&mut hash)?;
        if expected.as_ref() != hash {
            return Err(damaged("the hash does not match"));
        }
        if (u64_at(&counts, 0), u64_at(&counts, 8)) != (self.summary.entries, self.summary.files) {
            return Err(damaged("records are missing"));
        }
        if self.some(&mut [0])? != 0 {
            return Err(damaged("something follows the end"));
        }
        self.summary.bytes = self.at;
        self.ended = true;
        Ok(())
    }

    /// A buffer grows as it is filled, so that a length that is not true costs nothing.
    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, BackupError> {
        let mut bytes = Vec::new();
        let read = (&mut self.input).take(count as u64).read_to_end(&mut bytes).map_err(BackupError::Io)?;
        self.at += read as u64;
        self.hash.update(&bytes);
        if read < count {
            return Err(BackupError::CutOff { at: self.at });
        }
        Ok(bytes)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), BackupError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.some(&mut buffer[filled..])? {
                0 => return Err(BackupError::CutOff { at: self.at }),
                count => filled += count,
            }
        }
        Ok(())
    }

    /// Reads what is there at once; 0 at the end.
    fn some(&mut self, buffer: &mut [u8]) -> Result<usize, BackupError> {
        loop {
            match self.input.read(buffer) {
                Ok(count) => {
                    self.at += count as u64;
                    self.hash.update(&buffer[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BackupError::Io(error)),
            }
        }
    }
}

/// Reads a backup to its end; `look` sees each record.
pub fn verify<R: Read>(input: R, mut look: impl FnMut(&Record)) -> Result<Summary, BackupError> {
    let mut reader = Reader::new(input)?;
    while let Some(record) = reader.next_record()? {
        look(&record);
    }
    Ok(reader.summary)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
