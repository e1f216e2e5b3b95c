//! Waiting for a file to be written or replaced.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Says when the file of a path has another content: written in place, or another file moved there, as
/// editors and Kubernetes' volumes do. It is the directory that is watched, since the file may not last.
pub struct FileWatch {
    inotify: AsyncFd<OwnedFd>,
    name: OsString,
}

impl FileWatch {
    pub fn new(path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let directory =
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let wanted = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE;
        add_watch(&inotify, directory, wanted)?;
        // SAFETY: an owned descriptor stays open, and the same, for as long as it lives.
        let inotify = unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }?;
        Ok(FileWatch { inotify, name })
    }

    /// Waits for a change since the last call. Cancel safe.
    pub async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            if let Ok(changed) = ready.try_io(|inotify| self.read(inotify.get_ref()))
                && changed?
            {
                return Ok(());
            }
        }
    }

    /// Reads every event that is there; whether one of them concerns the file.
    fn read(&self, inotify: &OwnedFd) -> io::Result<bool> {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut events = Reader::new(inotify, &mut space);
        let (mut any, mut concerned) = (false, false);
        loop {
            match events.next() {
                Ok(event) => {
                    any = true;
                    // `..data` is what a volume's files point through.
                    concerned |= event.file_name().is_some_and(|name| {
                        name.to_bytes() == self.name.as_encoded_bytes() || name.to_bytes() == b"..data"
                    });
                }
                Err(rustix::io::Errno::WOULDBLOCK) if any => return Ok(concerned),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn writes_and_replacements_are_seen() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("file");
        let watch = FileWatch::new(&path).expect("watches");
        std::fs::write(&path, "1").expect("writes");
        watch.changed().await.expect("works");
        std::fs::write(dir.path().join("other"), "2").expect("writes");
        std::fs::rename(dir.path().join("other"), &path).expect("moves");
        watch.changed().await.expect("works");
    }
}
