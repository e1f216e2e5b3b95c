//! The stream of a log: what is in the files, then what comes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sampan_api::Status;
use sampan_base::directory_watch::{DirectoryWatch, Writes};
use sampan_client::node_streams::LogStream;
use tokio::sync::{mpsc, watch};

use super::{Selection, files, tail_offset};

/// What is sent at once, about; bytes.
const CHUNK: usize = 32 << 10;
/// Chunks that may wait for the reader.
const QUEUE: usize = 4;
/// The longest line that is held back for its end, bytes. The writer's lines are shorter.
const LINE_LIMIT: usize = 64 << 10;

/// Whether to go on after the end of what is there.
#[derive(Clone)]
pub enum Follow {
    No,
    /// Until this says `true`: the container has ended and all its output is in the file.
    Until(watch::Receiver<bool>),
}

/// Reads the log of one run of a container whose current file is `path`.
pub fn read(path: PathBuf, selection: Selection, tail: Option<u64>, follow: Follow) -> LogStream {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let reader = Reader { path, selection, sender: sender.clone(), pending: Vec::new(), out: Vec::new() };
        match reader.run(tail, follow).await {
            Ok(()) | Err(Stop::Done) => {}
            Err(Stop::Io(error)) => {
                // A reader that has gone does not want to know.
                let _ = sender.send(Err(Status::internal(format!("cannot read the log: {error}")))).await;
            }
        }
    });
    Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
        let next = receiver.recv().await?;
        Some((next, receiver))
    }))
}

/// Why reading ends.
enum Stop {
    /// The limit is reached, or nobody reads any more.
    Done,
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Stop::Io(error)
    }
}

struct Reader {
    path: PathBuf,
    selection: Selection,
    sender: mpsc::Sender<Result<Bytes, Status>>,
    /// The beginning of a line whose end is not there yet.
    pending: Vec<u8>,
    out: Vec<u8>,
}

impl Reader {
    async fn run(mut self, tail: Option<u64>, follow: Follow) -> Result<(), Stop> {
        // Watched from before the first read, so that nothing is missed between.
        let directory = self.path.parent().map(Path::to_owned).unwrap_or_default();
        let watch = match &follow {
            Follow::No => None,
            Follow::Until(_) => Some(DirectoryWatch::new(&directory, Writes::Each)?),
        };
        let mut current = self.history(tail).await?;
        let (Follow::Until(mut ended), Some(watch)) = (follow, watch) else {
            return self.finish().await;
        };
        loop {
            // Asked before reading: what was written until then is read now.
            let last = *ended.borrow_and_update();
            loop {
                self.drain(&mut current).await?;
                match self.replaced(&current)? {
                    Some(next) => current = next,
                    None => break,
                }
            }
            self.flush().await?;
            if last {
                return self.finish().await;
            }
            tokio::select! {
                changed = watch.changed() => changed?,
                changed = ended.changed() => if changed.is_err() {
                    self.drain(&mut current).await?;
                    return self.finish().await;
                },
                () = self.sender.closed() => return Err(Stop::Done),
            }
        }
    }

    /// Sends what is in the files from where `tail` begins, and returns the current one at its end.
    async fn history(&mut self, tail: Option<u64>) -> Result<File, Stop> {
        let paths = files(&self.path)?;
        let mut opened: Vec<(File, u64, u64)> = Vec::new();
        let mut wanted = tail;
        // The newest come first, since the tail may be within them.
        for path in paths.iter().rev() {
            let mut file = match File::open(path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound && path != &self.path => continue,
                Err(error) => return Err(error.into()),
            };
            let length = file.metadata()?.len();
            let offset = match &mut wanted {
                None => 0,
                Some(lines) => {
                    let (offset, found) = tail_offset(&mut file, length, *lines)?;
                    *lines -= found;
                    offset
                }
            };
            opened.push((file, offset, length));
            if wanted == Some(0) {
                break;
            }
        }
        let mut last = None;
        for (mut file, offset, length) in opened.into_iter().rev() {
            file.seek(SeekFrom::Start(offset))?;
            // No further than where the tail was counted from; a follower goes on from there.
            self.drain(&mut (&mut file).take(length.saturating_sub(offset))).await?;
            last = Some(file);
        }
        last.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound).into())
    }

    /// Reads a file from where it is to its end.
    async fn drain(&mut self, file: &mut (impl Read + Send)) -> Result<(), Stop> {
        let mut block = vec![0; CHUNK];
        loop {
            let count = file.read(&mut block)?;
            if count == 0 {
                return Ok(());
            }
            let mut rest = &block[..count];
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                self.pending.extend_from_slice(&rest[..end]);
                rest = &rest[end + 1..];
                let more = self.selection.render(&self.pending, &mut self.out);
                self.pending.clear();
                if !more {
                    self.flush().await?;
                    return Err(Stop::Done);
                }
                if self.out.len() >= CHUNK {
                    self.flush().await?;
                }
            }
            if self.pending.len() + rest.len() > LINE_LIMIT {
                self.pending.clear();
            } else {
                self.pending.extend_from_slice(rest);
            }
        }
    }

    /// The file that took the place of the one that is read, once that one was rotated away.
    fn replaced(&self, current: &File) -> Result<Option<File>, Stop> {
        let next = match File::open(&self.path) {
            Ok(next) => next,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let same = next.metadata()?.ino() == current.metadata()?.ino();
        Ok((!same).then_some(next))
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        if self.out.is_empty() {
            return Ok(());
        }
        let bytes = Bytes::from(std::mem::take(&mut self.out));
        self.sender.send(Ok(bytes)).await.map_err(|_| Stop::Done)
    }

    /// A last line without an end is shown too.
    async fn finish(mut self) -> Result<(), Stop> {
        if !self.pending.is_empty() {
            let pending = std::mem::take(&mut self.pending);
            self.selection.render(&pending, &mut self.out);
        }
        self.flush().await
    }
}
