//! Container logs in CRI's format, and their rotation.
//!
//! One line is `<RFC 3339 time> <stdout|stderr> <F|P> <text>\n`; `P` marks a text that the next entry
//! of the stream continues. This is what the kubelet and every log collector reads.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::protocol::LogLimits;

/// The longest text of one entry, in bytes, as in other CRI runtimes.
pub const MAX_TEXT: usize = 16 << 10;

/// Memory that is kept between writes.
const KEPT: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// The unfinished line of one stream.
#[derive(Debug, Default)]
pub struct Line {
    text: Vec<u8>,
}

impl Line {
    /// Appends the entries that `chunk` finishes to `out`.
    pub fn split(&mut self, stream: Stream, now: Timestamp, mut chunk: &[u8], out: &mut Vec<u8>) {
        while !chunk.is_empty() {
            let room = MAX_TEXT - self.text.len();
            let within = &chunk[..chunk.len().min(room + 1)];
            if let Some(end) = within.iter().position(|&byte| byte == b'\n') {
                self.entry(stream, now, 'F', &chunk[..end], out);
                chunk = &chunk[end + 1..];
            } else if chunk.len() > room {
                self.entry(stream, now, 'P', &chunk[..room], out);
                chunk = &chunk[room..];
            } else {
                self.text.extend_from_slice(chunk);
                return;
            }
        }
    }

    /// The stream ended: what is left had no newline.
    pub fn finish(&mut self, stream: Stream, now: Timestamp, out: &mut Vec<u8>) {
        if !self.text.is_empty() {
            self.entry(stream, now, 'P', &[], out);
        }
    }

    fn entry(&mut self, stream: Stream, now: Timestamp, tag: char, rest: &[u8], out: &mut Vec<u8>) {
        let name = stream.name();
        write!(out, "{now:.9} {name} {tag} ").expect("writing to a vector does not fail");
        out.extend_from_slice(&self.text);
        out.extend_from_slice(rest);
        out.push(b'\n');
        self.text = Vec::new();
    }
}

/// A log file. What could not be written yet waits in `pending`; whoever feeds it must not go on
/// before that is empty.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    limits: LogLimits,
    file: File,
    size: u64,
    pending: Vec<u8>,
}

impl LogFile {
    /// Opens the file for appending, and makes its directories.
    pub fn open(path: &Path, limits: LogLimits) -> io::Result<LogFile> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = open_append(path)?;
        let size = file.metadata()?.len();
        Ok(LogFile { path: path.to_path_buf(), limits, file, size, pending: Vec::new() })
    }

    /// Where entries are appended before [`LogFile::flush`].
    pub fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    pub fn is_flushed(&self) -> bool {
        self.pending.is_empty()
    }

    /// Writes what is pending, and rotates when the file is full: then says where it went. After an
    /// error (a full disk) what is left stays pending.
    pub fn flush(&mut self) -> io::Result<Option<PathBuf>> {
        let mut written = 0;
        let result = loop {
            if written == self.pending.len() {
                break Ok(());
            }
            match self.file.write(&self.pending[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.size += written as u64;
        self.pending.drain(..written);
        if self.pending.capacity() > KEPT {
            self.pending.shrink_to(KEPT);
        }
        result?;
        if self.limits.max_bytes > 0 && self.size >= self.limits.max_bytes {
            return self.rotate().map(Some);
        }
        Ok(None)
    }

    /// Moves the file to `<name>.<time>`, starts a new one and deletes the oldest beyond the limit.
    pub fn rotate(&mut self) -> io::Result<PathBuf> {
        let now = Timestamp::now();
        let mut to = self.path.clone().into_os_string();
        to.push(now.strftime(".%Y%m%d-%H%M%S.%9f").to_string());
        let to = PathBuf::from(to);
        std::fs::rename(&self.path, &to)?;
        self.reopen()?;
        self.prune()?;
        Ok(to)
    }

    /// Opens the path again, after somebody else moved the file.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = open_append(&self.path)?;
        self.size = self.file.metadata()?.len();
        Ok(())
    }

    fn prune(&self) -> io::Result<()> {
        let (Some(dir), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Ok(()) };
        let mut prefix = name.as_encoded_bytes().to_vec();
        prefix.push(b'.');
        let mut rotated = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(&prefix) {
                rotated.push(entry.path());
            }
        }
        // The time in the name sorts as text.
        rotated.sort();
        let kept = (self.limits.max_files.max(2) - 1) as usize;
        for path in rotated.iter().take(rotated.len().saturating_sub(kept)) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests;
