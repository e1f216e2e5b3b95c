//! Making a whole store file at once, with the revisions that its entries had.

use std::path::{Path, PathBuf};

use super::{
    Access, ENTRIES, FORMAT, FORMAT_VERSION, Held, LIVE_BYTES, META, Mark, REVISION, Stamp, beside, guarded,
    io_error, move_to, open_database, open_file,
};
use crate::{Entry, Revision, StoreError};

/// Entries and bytes of one transaction.
const AT_ONCE: usize = 4096;
const BYTES_AT_ONCE: usize = 16 << 20;

/// A store file that is being made beside its place.
pub struct Import {
    path: PathBuf,
    fresh: PathBuf,
    database: Held,
    waiting: Vec<Entry>,
    waiting_bytes: usize,
    live_bytes: u64,
}

impl Import {
    pub fn new(path: &Path) -> Result<Self, StoreError> {
        let fresh = beside(path, "import");
        let prepare = || {
            let file = open_file(&fresh, super::Missing::Create)?;
            file.set_len(0)?;
            Ok(file)
        };
        let file = prepare().map_err(|error| io_error(&fresh, "create", &error))?;
        let (database, _) = open_database(&fresh, file, &Access { cache_bytes: 32 << 20, faults: None })?;
        Ok(Import {
            path: path.to_owned(),
            fresh,
            database,
            waiting: Vec::new(),
            waiting_bytes: 0,
            live_bytes: 0,
        })
    }

    pub fn push(&mut self, entry: Entry) -> Result<(), StoreError> {
        let bytes = entry.key.len() + entry.value.len();
        self.live_bytes += bytes as u64;
        self.waiting_bytes += bytes;
        self.waiting.push(entry);
        if self.waiting.len() >= AT_ONCE || self.waiting_bytes >= BYTES_AT_ONCE {
            self.flush()?;
        }
        Ok(())
    }

    /// Moves the file to its place, durably.
    pub fn finish(mut self, revision: Revision) -> Result<(), StoreError> {
        self.flush()?;
        guarded(&self.fresh, "write", || {
            let transaction = self.database.get().begin_write()?;
            {
                transaction.open_table(ENTRIES)?;
                let mut meta = transaction.open_table(META)?;
                meta.insert(FORMAT, FORMAT_VERSION)?;
                meta.insert(REVISION, revision)?;
                meta.insert(LIVE_BYTES, self.live_bytes)?;
            }
            transaction.commit()?;
            Ok(())
        })?;
        let Import { path, fresh, database, .. } = self;
        drop(database);
        Mark::remove(&path).map_err(|error| io_error(&path, "forget the mark of", &error))?;
        move_to(&fresh, &path)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        guarded(&self.fresh, "write", || {
            let transaction = self.database.get().begin_write()?;
            {
                let mut entries = transaction.open_table(ENTRIES)?;
                for entry in &waiting {
                    let stored = Stamp::of(entry).encode(&entry.key, &entry.value);
                    entries.insert(entry.key.as_bytes(), stored.as_slice())?;
                }
            }
            transaction.commit()?;
            Ok(())
        })
    }
}
