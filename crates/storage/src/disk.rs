//! The store's file: opening, creating, reading, and coming back after an error.
//!
//! After a failed read or write redb refuses everything until the database is opened again, and
//! after a failed sync the kernel may hold pages in memory that the disk never got. So an error
//! closes the database, drops the kernel's pages of the file, and opens it again; what it then
//! holds is what the disk holds.
//!
//! Format 2: table `entries` maps a key to 24 bytes (revision, revision of creation, version; each
//! a little-endian `u64`) and the value; table `meta` maps `format`, `revision` and `live_bytes` to
//! numbers. Keys are UTF-8, stored as bytes: redb would check texts at each comparison of a search.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::{RwLock, RwLockUpgradableReadGuard};
use redb::{Builder, Database, ReadableDatabase, TableDefinition, TableError};

use crate::{Entry, Revision, StoreError};

pub(crate) const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(crate) const REVISION: &str = "revision";
pub(crate) const LIVE_BYTES: &str = "live_bytes";
const FORMAT: &str = "format";
const FORMAT_VERSION: u64 = 2;

/// A file below this size is never rewritten to make it smaller.
const COMPACT_FROM_BYTES: u64 = 32 << 20;
/// A file is rewritten when it is this many times as large as what it holds.
const COMPACT_RATIO: u64 = 4;

/// The numbers of the meta table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub revision: Revision,
    pub live_bytes: u64,
}

/// An open store file.
pub(crate) struct Disk {
    path: PathBuf,
    cache_bytes: usize,
    state: RwLock<State>,
}

enum State {
    Open(Database),
    /// An operation failed; the next one opens the file again.
    Failed,
    Closed,
}

impl Disk {
    /// Opens the file, creates it where there is none, and shrinks it where most of it is unused.
    pub fn open(path: &Path, cache_bytes: usize) -> Result<(Self, Meta), StoreError> {
        let mut database = open_or_create(path, cache_bytes, Missing::Create)?;
        let meta = guarded(path, "open", || read_meta(&database))?;
        check_format(path, &meta)?;
        let size = file_bytes(path)?;
        if size > COMPACT_FROM_BYTES && size / COMPACT_RATIO > meta.numbers.live_bytes {
            tracing::info!(path = %path.display(), size, live = meta.numbers.live_bytes, "compacting the store");
            guarded(path, "compact", || database.compact().map_err(redb::Error::from))?;
        }
        let disk = Disk { path: path.to_owned(), cache_bytes, state: RwLock::new(State::Open(database)) };
        Ok((disk, meta.numbers))
    }

    /// Runs an operation on the database. After an error of the file it is opened again before the
    /// next operation; `operation` is not repeated.
    pub fn with<T>(
        &self,
        action: &'static str,
        operation: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let state = self.usable()?;
        let State::Open(database) = &*state else {
            return Err(StoreError::Closed);
        };
        let result = guarded(&self.path, action, || operation(database));
        if let Err(StoreError::Io { .. } | StoreError::Corrupt { .. }) = &result {
            drop(state);
            self.fail();
        }
        result
    }

    /// The numbers of the meta table, as the disk holds them.
    pub fn meta(&self) -> Result<Meta, StoreError> {
        self.with("read", read_meta).map(|meta| meta.numbers)
    }

    /// The disk forgot what it had said to have stored.
    pub fn lost(&self, found: Revision, acknowledged: Revision) -> StoreError {
        corrupt(
            &self.path,
            format!("it ends at revision {found}, and revision {acknowledged} was acknowledged"),
        )
    }

    /// The size of the file, in bytes.
    pub fn file_bytes(&self) -> Result<u64, StoreError> {
        file_bytes(&self.path)
    }

    /// Closes the file once running operations have ended.
    pub fn close(&self) {
        *self.state.write() = State::Closed;
    }

    fn fail(&self) {
        let mut state = self.state.write();
        if let State::Open(_) = *state {
            *state = State::Failed;
            drop_kernel_pages(&self.path);
        }
    }

    /// A lock on an open database, opened again if need be.
    fn usable(&self) -> Result<parking_lot::RwLockReadGuard<'_, State>, StoreError> {
        loop {
            let state = self.state.read();
            match *state {
                State::Open(_) => return Ok(state),
                State::Closed => return Err(StoreError::Closed),
                State::Failed => {}
            }
            drop(state);
            let state = self.state.upgradable_read();
            match *state {
                State::Open(_) => return Ok(RwLockUpgradableReadGuard::downgrade(state)),
                State::Closed => return Err(StoreError::Closed),
                State::Failed => {
                    let database = open_or_create(&self.path, self.cache_bytes, Missing::Refuse)?;
                    let meta = guarded(&self.path, "open", || read_meta(&database))?;
                    check_format(&self.path, &meta)?;
                    tracing::info!(path = %self.path.display(), "the store works again");
                    *RwLockUpgradableReadGuard::upgrade(state) = State::Open(database);
                }
            }
        }
    }
}

/// Opens the file, or makes a new one.
///
/// A new database is built beside its place and moved there when it is complete, so that a crash in
/// the middle leaves nothing that looks like a damaged store. The empty file at its place is locked
/// meanwhile; who waits for that lock finds another file there afterwards and looks again.
fn open_or_create(path: &Path, cache_bytes: usize, missing: Missing) -> Result<Database, StoreError> {
    loop {
        let file = open_file(path, missing).map_err(|error| io_error(path, "open", &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(io_error(path, "lock", &error)),
        }
        if !is_at(&file, path).map_err(|error| io_error(path, "open", &error))? {
            continue;
        }
        let size = file.metadata().map_err(|error| io_error(path, "open", &error))?.len();
        if size > 0 {
            return open_database(path, file, cache_bytes);
        }
        match missing {
            Missing::Create => create(path, cache_bytes)?,
            Missing::Refuse => return Err(corrupt(path, "it is empty".to_owned())),
        }
        // `file` stays locked until here: nobody else creates at the same time.
        drop(file);
    }
}

/// What to do where there is no store.
#[derive(Clone, Copy)]
enum Missing {
    Create,
    /// The store was there before: an empty one must not take its place.
    Refuse,
}

fn open_file(path: &Path, missing: Missing) -> io::Result<File> {
    let create = match missing {
        Missing::Create => true,
        Missing::Refuse => false,
    };
    OpenOptions::new().read(true).write(true).create(create).truncate(false).mode(0o600).open(path)
}

/// Whether `file` is the one that the path names now.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((held.dev(), held.ino()) == (named.dev(), named.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn create(path: &Path, cache_bytes: usize) -> Result<(), StoreError> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let prepare = || {
        let file = open_file(&fresh, Missing::Create)?;
        file.set_len(0)?;
        Ok(file)
    };
    let file = prepare().map_err(|error| io_error(&fresh, "create", &error))?;
    let database = open_database(&fresh, file, cache_bytes)?;
    guarded(&fresh, "create", || {
        let transaction = database.begin_write()?;
        transaction.open_table(ENTRIES)?;
        transaction.open_table(META)?.insert(FORMAT, FORMAT_VERSION)?;
        transaction.commit()?;
        Ok(())
    })?;
    drop(database);
    let settle = || {
        std::fs::rename(&fresh, path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    };
    settle().map_err(|error| io_error(path, "create", &error))
}

fn open_database(path: &Path, file: File, cache_bytes: usize) -> Result<Database, StoreError> {
    let mut builder = Builder::new();
    builder.set_cache_size(cache_bytes);
    let name = path.to_owned();
    builder.set_repair_callback(move |repair| {
        tracing::info!(path = %name.display(), progress = repair.progress(), "the store was not closed; checking it");
    });
    guarded(path, "open", || builder.create_file(file).map_err(redb::Error::from))
}

/// What the meta table says, before it is believed.
struct RawMeta {
    format: Option<u64>,
    numbers: Meta,
}

fn read_meta(database: &Database) -> Result<RawMeta, redb::Error> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => {
            return Ok(RawMeta { format: None, numbers: Meta::default() });
        }
        Err(error) => return Err(error.into()),
    };
    let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map(|value| value.value()));
    Ok(RawMeta {
        format: number(FORMAT)?,
        numbers: Meta {
            revision: number(REVISION)?.unwrap_or_default(),
            live_bytes: number(LIVE_BYTES)?.unwrap_or_default(),
        },
    })
}

fn check_format(path: &Path, meta: &RawMeta) -> Result<(), StoreError> {
    match meta.format {
        Some(FORMAT_VERSION) => Ok(()),
        Some(found) => Err(StoreError::Format { path: path.to_owned(), found, supported: FORMAT_VERSION }),
        None => Err(corrupt(path, "it has no format version".to_owned())),
    }
}

/// Makes the next read of the file ask the disk. Advice only: where it is not taken, the pages in
/// memory are what the process wrote.
fn drop_kernel_pages(path: &Path) {
    if let Ok(file) = File::open(path) {
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

fn file_bytes(path: &Path) -> Result<u64, StoreError> {
    Ok(std::fs::metadata(path).map_err(|error| io_error(path, "read", &error))?.len())
}

/// Runs redb's code. It checks what it reads, but a damaged file can still break an assertion of
/// its: that must not take the process down.
fn guarded<T>(
    path: &Path,
    action: &'static str,
    operation: impl FnOnce() -> Result<T, redb::Error>,
) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(operation)) {
        Ok(result) => result.map_err(|error| store_error(path, action, error)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("broken invariant");
            Err(corrupt(path, text.to_owned()))
        }
    }
}

fn store_error(path: &Path, action: &'static str, error: redb::Error) -> StoreError {
    match error {
        redb::Error::Io(error) => io_error(path, action, &error),
        redb::Error::Corrupted(what) => corrupt(path, what),
        redb::Error::DatabaseAlreadyOpen => StoreError::Locked { path: path.to_owned() },
        redb::Error::UpgradeRequired(found) => {
            corrupt(path, format!("redb's file format {found} is not supported"))
        }
        redb::Error::DatabaseClosed => StoreError::Closed,
        redb::Error::PreviousIo | redb::Error::LockPoisoned(_) => {
            StoreError::Io { path: path.to_owned(), action, reason: error.to_string(), full: false }
        }
        error => corrupt(path, error.to_string()),
    }
}

fn io_error(path: &Path, action: &'static str, error: &io::Error) -> StoreError {
    use io::ErrorKind::{FileTooLarge, InvalidData, QuotaExceeded, StorageFull, UnexpectedEof};
    match error.kind() {
        InvalidData | UnexpectedEof => corrupt(path, error.to_string()),
        kind => StoreError::Io {
            path: path.to_owned(),
            action,
            reason: error.to_string(),
            full: matches!(kind, StorageFull | QuotaExceeded | FileTooLarge),
        },
    }
}

fn corrupt(path: &Path, what: String) -> StoreError {
    StoreError::Corrupt { path: path.to_owned(), what }
}

/// A stored key as the text that every key is.
pub(crate) fn text(key: &[u8]) -> Result<&str, redb::Error> {
    std::str::from_utf8(key)
        .map_err(|_| redb::Error::Corrupted(format!("the key {} is no UTF-8", key.escape_ascii())))
}

/// What stands before each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub revision: Revision,
    pub create_revision: Revision,
    pub version: u64,
}

impl Stamp {
    const BYTES: usize = 24;

    /// The stored form of a value.
    pub fn encode(self, value: &[u8]) -> Vec<u8> {
        let mut stored = Vec::with_capacity(Self::BYTES + value.len());
        for number in [self.revision, self.create_revision, self.version] {
            stored.extend_from_slice(&number.to_le_bytes());
        }
        stored.extend_from_slice(value);
        stored
    }

    /// The entry that a stored value is.
    pub fn decode(key: &str, stored: &[u8]) -> Result<Entry, redb::Error> {
        let Some((stamp, value)) = stored.split_at_checked(Self::BYTES) else {
            return Err(redb::Error::Corrupted(format!("the value of {key} is cut short")));
        };
        let number = |index: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&stamp[index * 8..index * 8 + 8]);
            u64::from_le_bytes(bytes)
        };
        Ok(Entry {
            key: key.into(),
            value: Bytes::copy_from_slice(value),
            revision: number(0),
            create_revision: number(1),
            version: number(2),
        })
    }
}
