//! Configuration files that are read again when they change.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan_base::directory_watch::DirectoryWatch;

/// The most bytes of a configuration file.
pub const MAX_FILE: u64 = 4 << 20;
/// How long a file is left alone after a change, since whoever writes it writes more than once.
const SETTLE: Duration = Duration::from_millis(50);
/// The pause after a directory could not be watched: it may be gone for a moment.
const RETRY: Duration = Duration::from_secs(60);

/// A file, and what it held when it was read last.
pub struct Followed {
    path: PathBuf,
    known: Vec<u8>,
}

/// Reads a configuration file.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {MAX_FILE} bytes")));
    }
    Ok(bytes)
}

impl Followed {
    /// A file that was read just before.
    pub fn new(path: PathBuf, known: Vec<u8>) -> Self {
        Followed { path, known }
    }

    /// Hands on what the file holds whenever that changes, for as long as it is polled. What `apply` does
    /// not take is told, and what was there before stays.
    pub async fn follow<E: std::error::Error + 'static>(
        mut self,
        mut apply: impl FnMut(&[u8]) -> Result<(), E>,
    ) {
        let directory = match self.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
            _ => PathBuf::from("."),
        };
        loop {
            let watch = DirectoryWatch::new(&directory);
            // What changed before the watch began is seen here.
            self.look(&mut apply);
            let ended = match watch {
                Ok(watch) => self.follow_watched(&watch, &mut apply).await,
                Err(error) => error,
            };
            tracing::error!(error = %ended, file = %self.path.display(), "changes of a configuration are not seen");
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow_watched<E: std::error::Error + 'static>(
        &mut self,
        watch: &DirectoryWatch,
        apply: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> io::Error {
        loop {
            if let Err(error) = watch.changed().await {
                return error;
            }
            tokio::time::sleep(SETTLE).await;
            self.look(apply);
        }
    }

    fn look<E: std::error::Error + 'static>(&mut self, apply: &mut impl FnMut(&[u8]) -> Result<(), E>) {
        let bytes = match read(&self.path) {
            Ok(bytes) if bytes == self.known => return,
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(%error, file = %self.path.display(), "a configuration cannot be read; the last one stays");
                return;
            }
        };
        match apply(&bytes) {
            Ok(()) => tracing::info!(file = %self.path.display(), "a changed configuration is in use"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, file = %self.path.display(), "a changed configuration is not used; the last one stays");
            }
        }
        // Also what is not used, so that it is told once.
        self.known = bytes;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_written_or_replaced_is_read_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.yaml");
        std::fs::write(&path, "one").expect("written");
        let (sender, mut seen) = mpsc::unbounded_channel();
        let followed = Followed::new(path.clone(), read(&path).expect("read"));
        let following = tokio::spawn(followed.follow(move |bytes| {
            let _ = sender.send(String::from_utf8_lossy(bytes).into_owned());
            if bytes == b"bad" { Err(io::Error::other("bad")) } else { Ok(()) }
        }));
        // Written before the watch begins or after: it is seen.
        std::fs::write(&path, "two").expect("written");
        assert_eq!(seen.recv().await.as_deref(), Some("two"));
        std::fs::write(directory.path().join("new"), "bad").expect("written");
        std::fs::rename(directory.path().join("new"), &path).expect("replaced");
        assert_eq!(seen.recv().await.as_deref(), Some("bad"));
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, "three").expect("written");
        assert_eq!(seen.recv().await.as_deref(), Some("three"));
        following.abort();
    }
}
