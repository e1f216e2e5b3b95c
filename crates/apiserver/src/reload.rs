//! Configuration files that are read again when they change.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sampan_base::directory_watch::{DirectoryWatch, Writes};

/// The most bytes of a configuration file.
pub const MAX_FILE: u64 = 4 << 20;
/// The pause after a directory could not be watched: it may be gone for a moment.
const RETRY: Duration = Duration::from_secs(60);

/// A file, and what it held when it was read last.
pub struct Followed {
    path: PathBuf,
    known: Vec<u8>,
    /// Of the file's directory, since the file itself may be replaced. Absent before the first look, and
    /// after it failed.
    watch: Option<DirectoryWatch>,
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
        Followed { path, known, watch: None }
    }

    /// Hands on what the file holds whenever that changes, for as long as it is polled. What `apply` does
    /// not take is told, and what was there before stays.
    pub async fn follow<E: std::error::Error + 'static>(
        mut self,
        mut apply: impl FnMut(&[u8]) -> Result<(), E>,
    ) {
        loop {
            let bytes = self.changed().await;
            let file = self.path.display();
            match apply(&bytes) {
                Ok(()) => tracing::info!(%file, "a changed configuration is in use"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, %file, "a changed configuration is not used; the last one stays");
                }
            }
        }
    }

    /// Waits until the file holds something else than before, and answers that. Each content is told
    /// once. Cancel safe.
    pub async fn changed(&mut self) -> Vec<u8> {
        loop {
            if let Err(error) = self.look_and_wait().await {
                tracing::error!(%error, file = %self.path.display(), "changes of a configuration are not seen");
                self.watch = None;
                tokio::time::sleep(RETRY).await;
            } else if let Some(bytes) = self.look() {
                return bytes;
            }
        }
    }

    /// Waits for a change in the directory, unless the file has changed already.
    async fn look_and_wait(&mut self) -> io::Result<()> {
        let watch = match self.watch.take() {
            Some(watch) => watch,
            None => DirectoryWatch::new(directory_of(&self.path), Writes::Closed)?,
        };
        let watch = self.watch.insert(watch);
        // What changed before the watch began, or while nobody waited.
        if read(&self.path).is_ok_and(|bytes| bytes != self.known) {
            return Ok(());
        }
        watch.changed().await
    }

    fn look(&mut self) -> Option<Vec<u8>> {
        match read(&self.path) {
            Ok(bytes) if bytes == self.known => None,
            Ok(bytes) => {
                self.known.clone_from(&bytes);
                Some(bytes)
            }
            Err(error) => {
                tracing::warn!(%error, file = %self.path.display(), "a configuration cannot be read; the last one stays");
                None
            }
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
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
