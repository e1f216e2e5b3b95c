//! Making a store file of a backup.

use std::io::Read;
use std::path::Path;

use super::{BackupError, Reader, Record, Summary};
use crate::disk::Import;
use crate::{Revision, StoreError};

/// How far the counter of revisions is put ahead, as etcd's tools do it: whoever saw a revision that came
/// after the backup must not see it again with another meaning.
pub const BUMP: Revision = 1_000_000_000;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Puts a new store file at `path`, in the place of what is there, when all of the backup is in it and on
/// disk; before that, `path` is left alone. The backup was verified, and is again while it is read; its
/// files are left to the caller.
pub fn restore<R: Read>(input: R, path: &Path) -> Result<Summary, RestoreError> {
    put(input, path, BUMP)
}

/// The same for a store that moves, and that nobody wrote to since: its counter goes on where it was.
pub fn put_as_is<R: Read>(input: R, path: &Path) -> Result<Summary, RestoreError> {
    put(input, path, 0)
}

fn put<R: Read>(input: R, path: &Path, ahead: Revision) -> Result<Summary, RestoreError> {
    let mut reader = Reader::new(input)?;
    let mut import = Import::new(path)?;
    while let Some(record) = reader.next_record()? {
        match record {
            Record::Entry(entry) => import.push(entry)?,
            Record::File(_) => {}
        }
    }
    import.finish(reader.revision().saturating_add(ahead))?;
    Ok(reader.summary().clone())
}
