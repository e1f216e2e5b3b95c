//! The store's file: opening, creating, reading, and coming back after an error.
//!
//! After a failed read or write redb refuses everything until the database is opened again, and
//! after a failed sync the kernel may hold pages in memory that the disk never got. So an error
//! closes the database, drops the kernel's pages of the file, and opens it again; what it then
//! holds is what the disk holds.
//!
//! Format 3: table `entries` maps a key to 28 bytes ([`Stamp`]) and the value; table `meta` maps `format`,
//! `revision` and `live_bytes` to numbers. Keys are UTF-8, stored as bytes: redb would check texts at each
//! comparison of a search.
//!
//! redb checks its pages when a file was not closed and when it is asked to, not on every read. So the
//! whole file is checked when it is opened, and each value again by a checksum whenever it is read: what
//! the disk does not give back as it was written is an error that names the file, never another value.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{RwLock, RwLockUpgradableReadGuard};
use redb::backends::FileBackend;
use redb::{Builder, CompactionError, Database, ReadableDatabase, TableDefinition, TableError};

use crate::{Revision, StoreError};

mod faults;
mod import;
mod mark;
mod stamp;
mod upgrade;

pub use faults::{Fault, FaultyFile, Operation};
pub(crate) use import::Import;
use mark::Mark;
pub(crate) use stamp::Stamp;

pub(crate) const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(crate) const REVISION: &str = "revision";
pub(crate) const LIVE_BYTES: &str = "live_bytes";
const FORMAT: &str = "format";
const FORMAT_VERSION: u64 = 3;

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

/// How a file is opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub cache_bytes: usize,
    /// What a test does to the file.
    pub faults: Option<FaultyFile>,
}

/// An open store file.
pub(crate) struct Disk {
    path: PathBuf,
    access: Access,
    state: RwLock<State>,
    mark: Mark,
}

enum State {
    Open(Held),
    /// An operation failed; the next one opens the file again.
    Failed {
        /// What was read was not what had been written.
        corrupt: bool,
    },
    Closed,
}

/// A database that closes its file without taking the process down: on a damaged one, that can break an
/// assertion of redb's as any other operation can.
struct Held(Option<Database>);

impl Held {
    fn get(&self) -> &Database {
        self.0.as_ref().expect("is there until it is dropped")
    }

    fn get_mut(&mut self) -> &mut Database {
        self.0.as_mut().expect("is there until it is dropped")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let database = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            tracing::error!("the store was not closed in order; the next start checks it");
        }
    }
}

impl Disk {
    /// Opens the file and checks the whole of it, creates it where there is none, and shrinks it where
    /// most of it is unused.
    pub fn open(path: &Path, access: Access) -> Result<(Self, Meta), StoreError> {
        let (mut database, mended) = open_or_create(path, &access, Missing::Create)?;
        if !mended {
            check_pages(path, &mut database)?;
        }
        let meta = guarded(path, "open", || read_meta(database.get()))?;
        let meta = match meta.format {
            Some(old @ (1 | 2)) => guarded(path, "upgrade", || upgrade::upgrade(database.get(), old))?,
            _ => check_format(path, &meta)?,
        };
        let (mark, acknowledged) =
            Mark::open(path).map_err(|error| io_error(path, "open the mark of", &error))?;
        let disk = Disk { path: path.to_owned(), access, state: RwLock::new(State::Open(database)), mark };
        if meta.revision < acknowledged {
            return Err(disk.lost(meta.revision, acknowledged));
        }
        disk.acknowledge(meta.revision);
        disk.shrink(meta.live_bytes)?;
        Ok((disk, meta))
    }

    /// Rewrites the file where most of it is unused. Waits for running operations, and holds up others.
    /// Answers whether it did.
    pub fn shrink(&self, live_bytes: u64) -> Result<bool, StoreError> {
        let size = file_bytes(&self.path)?;
        if size <= COMPACT_FROM_BYTES || size / COMPACT_RATIO <= live_bytes {
            return Ok(false);
        }
        self.compact()
    }

    /// Rewrites the file without what is unused. Answers whether it could: not while somebody reads all of
    /// it.
    pub fn compact(&self) -> Result<bool, StoreError> {
        drop(self.usable()?);
        let mut state = self.state.write();
        let State::Open(database) = &mut *state else { return Ok(false) };
        let before = file_bytes(&self.path)?;
        let compacted = guarded(&self.path, "compact", || match database.get_mut().compact() {
            Ok(_) => Ok(true),
            Err(
                CompactionError::TransactionInProgress
                | CompactionError::EphemeralSavepointExists
                | CompactionError::PersistentSavepointExists,
            ) => Ok(false),
            Err(error) => Err(error.into()),
        });
        match &compacted {
            Ok(true) => {
                let after = file_bytes(&self.path)?;
                tracing::info!(path = %self.path.display(), before, after, "compacted the store");
            }
            Ok(false) => {}
            Err(error) => *state = failed(&self.path, error),
        }
        compacted
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
        let result = guarded(&self.path, action, || operation(database.get()));
        if let Err(error @ (StoreError::Io { .. } | StoreError::Corrupt { .. })) = &result {
            drop(state);
            self.fail(error);
        }
        result
    }

    /// Runs a reading operation that has its own hold on the database.
    pub fn guarded_read<T>(
        &self,
        operation: impl FnOnce() -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        guarded(&self.path, "read", operation)
    }

    /// The numbers of the meta table, as the disk holds them.
    pub fn meta(&self) -> Result<Meta, StoreError> {
        self.with("read", read_meta).map(|meta| meta.numbers)
    }

    /// Notes that everything up to a revision is stored and made known.
    pub fn acknowledge(&self, revision: Revision) {
        if let Err(error) = self.mark.set(revision) {
            tracing::warn!(path = %self.path.display(), %error, "the store's mark cannot be written");
        }
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
        if let Err(error) = self.mark.sync() {
            tracing::warn!(path = %self.path.display(), %error, "the store's mark cannot be synced");
        }
    }

    fn fail(&self, error: &StoreError) {
        let mut state = self.state.write();
        if let State::Open(_) = *state {
            *state = failed(&self.path, error);
        }
    }

    /// A lock on an open database, opened again if need be.
    fn usable(&self) -> Result<parking_lot::RwLockReadGuard<'_, State>, StoreError> {
        loop {
            let state = self.state.read();
            match *state {
                State::Open(_) => return Ok(state),
                State::Closed => return Err(StoreError::Closed),
                State::Failed { .. } => {}
            }
            drop(state);
            let state = self.state.upgradable_read();
            match *state {
                State::Open(_) => return Ok(RwLockUpgradableReadGuard::downgrade(state)),
                State::Closed => return Err(StoreError::Closed),
                State::Failed { corrupt } => {
                    let (mut database, mended) = open_or_create(&self.path, &self.access, Missing::Refuse)?;
                    if corrupt && !mended {
                        check_pages(&self.path, &mut database)?;
                    }
                    let meta = guarded(&self.path, "open", || read_meta(database.get()))?;
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
///
/// Also answers whether redb found the file not closed, and checked all of it.
fn open_or_create(path: &Path, access: &Access, missing: Missing) -> Result<(Held, bool), StoreError> {
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
            return open_database(path, file, access);
        }
        match missing {
            Missing::Create => create(path, access)?,
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

fn create(path: &Path, access: &Access) -> Result<(), StoreError> {
    let fresh = beside(path, "new");
    let prepare = || {
        let file = open_file(&fresh, Missing::Create)?;
        file.set_len(0)?;
        Ok(file)
    };
    let file = prepare().map_err(|error| io_error(&fresh, "create", &error))?;
    let (database, _) = open_database(&fresh, file, access)?;
    guarded(&fresh, "create", || {
        let transaction = database.get().begin_write()?;
        transaction.open_table(ENTRIES)?;
        transaction.open_table(META)?.insert(FORMAT, FORMAT_VERSION)?;
        transaction.commit()?;
        Ok(())
    })?;
    drop(database);
    move_to(&fresh, path)
}

/// `path.suffix`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Puts a file that is on disk in another one's place, durably.
fn move_to(fresh: &Path, path: &Path) -> Result<(), StoreError> {
    let settle = || {
        std::fs::rename(fresh, path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    };
    settle().map_err(|error| io_error(path, "create", &error))
}

fn open_database(path: &Path, file: File, access: &Access) -> Result<(Held, bool), StoreError> {
    let mut builder = Builder::new();
    builder.set_cache_size(access.cache_bytes);
    let (name, mended) = (path.to_owned(), Arc::new(AtomicBool::new(false)));
    let mends = mended.clone();
    builder.set_repair_callback(move |repair| {
        mends.store(true, Ordering::Relaxed);
        tracing::info!(path = %name.display(), progress = repair.progress(), "the store was not closed; checking it");
    });
    guarded(path, "open", || {
        let backend = FileBackend::new(file)?;
        let database = match &access.faults {
            None => builder.create_with_backend(backend),
            Some(faults) => builder.create_with_backend(faults.over(backend)),
        };
        Ok((Held(Some(database?)), mended.load(Ordering::Relaxed)))
    })
}

/// Checks every page of the file. What redb can mend is what a crash leaves; it mended that when it
/// opened the file.
fn check_pages(path: &Path, database: &mut Held) -> Result<(), StoreError> {
    match guarded(path, "check", || Ok(database.get_mut().check_integrity()?))? {
        true => Ok(()),
        false => Err(corrupt(path, "its pages are not what was written".to_owned())),
    }
}

/// The state after an error of the file.
fn failed(path: &Path, error: &StoreError) -> State {
    drop_kernel_pages(path);
    State::Failed { corrupt: matches!(error, StoreError::Corrupt { .. }) }
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

fn check_format(path: &Path, meta: &RawMeta) -> Result<Meta, StoreError> {
    match meta.format {
        Some(FORMAT_VERSION) => Ok(meta.numbers),
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
