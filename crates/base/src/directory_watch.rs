//! Waiting for the files of a directory to change (inotify).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Says when something changed in a directory.
pub struct DirectoryWatch {
    inotify: AsyncFd<Handle>,
}

/// Which writes to a file are changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// Each one, for who follows a file that grows.
    Each,
    /// All of them, once whoever wrote has closed the file.
    Closed,
}

struct Handle(Inotify);

impl AsRawFd for Handle {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl DirectoryWatch {
    /// Watches the files of `directory` for writes, new names and removals.
    pub fn new(directory: &Path, writes: Writes) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let written = match writes {
            Writes::Each => AddWatchFlags::IN_MODIFY,
            Writes::Closed => AddWatchFlags::IN_CLOSE_WRITE,
        };
        let wanted = written
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF;
        inotify.add_watch(directory, wanted)?;
        // SAFETY: the handle owns its descriptor and gives the same one for as long as it lives.
        let inotify = unsafe { AsyncFd::register_with_interest(Handle(inotify), Interest::READABLE) }?;
        Ok(DirectoryWatch { inotify })
    }

    /// Waits for a change since the last call.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            let read = ready.try_io(|handle| {
                let mut any = false;
                loop {
                    match handle.get_ref().0.read_events() {
                        Ok(events) => any |= !events.is_empty(),
                        Err(nix::errno::Errno::EAGAIN) if any => return Ok(()),
                        Err(errno) => return Err(errno.into()),
                    }
                }
            });
            match read {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }
}
