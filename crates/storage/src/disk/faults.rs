//! A file that fails as a test says, and notes what was done to it: the seam between the store and the
//! disk.

use std::io;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// What was done to the file.
#[derive(Clone, Debug)]
pub enum Operation {
    Write { offset: u64, data: Vec<u8> },
    SetLength(u64),
    Sync,
}

/// What goes wrong from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// After so many more operations that change the file or sync it, the disk is full.
    FullAfter(u64),
    /// After so many more, the disk answers with errors.
    BrokenAfter(u64),
}

/// Shared by the test and the store that it breaks.
#[derive(Clone, Debug)]
pub struct FaultyFile(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    fault: Fault,
    operations: Vec<Operation>,
}

impl Default for FaultyFile {
    fn default() -> Self {
        FaultyFile(Arc::new(Mutex::new(State { fault: Fault::None, operations: Vec::new() })))
    }
}

impl FaultyFile {
    pub fn set(&self, fault: Fault) {
        self.0.lock().fault = fault;
    }

    /// How much was done so far.
    pub fn count(&self) -> usize {
        self.0.lock().operations.len()
    }

    /// All that was done.
    pub fn operations(&self) -> Vec<Operation> {
        self.0.lock().operations.clone()
    }

    pub(super) fn over(&self, inner: FileBackend) -> Faulty {
        Faulty { inner, file: self.clone() }
    }

    /// Does an operation, or fails as the test says.
    fn attempt(&self, operation: Operation, work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.0.lock();
        let kind = match &mut state.fault {
            Fault::None => None,
            Fault::FullAfter(0) => Some(io::ErrorKind::StorageFull),
            Fault::BrokenAfter(0) => Some(io::ErrorKind::Other),
            Fault::FullAfter(left) | Fault::BrokenAfter(left) => {
                *left -= 1;
                None
            }
        };
        if let Some(kind) = kind {
            return Err(kind.into());
        }
        work()?;
        state.operations.push(operation);
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Faulty {
    inner: FileBackend,
    file: FaultyFile,
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.attempt(Operation::SetLength(len), || self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.attempt(Operation::Sync, || self.inner.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let operation = Operation::Write { offset, data: data.to_vec() };
        self.file.attempt(operation, || self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }
}
