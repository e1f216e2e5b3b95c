//! Reading container logs: CRI's format in, the container's own lines out.
//!
//! Nothing polls: a follower waits for the kernel to say that the file or its directory changed, or
//! for the worker to say that the container ended.

mod reader;

pub use reader::{Follow, read};

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sampan_client::node_streams::LogOptions;

/// One entry of a log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub time: Timestamp,
    /// The time as the file has it.
    pub time_text: &'a str,
    pub stderr: bool,
    /// The next entry of the stream continues the line.
    pub partial: bool,
    /// Without the line's end.
    pub text: &'a [u8],
}

/// Reads one line, without its end: `<RFC 3339 time> <stdout|stderr> <tags> <text>`.
pub fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time_text = std::str::from_utf8(parts.next()?).ok()?;
    let time = time_text.parse().ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let tags = parts.next()?;
    let partial = tags.split(|byte| *byte == b':').next() == Some(b"P");
    Some(Entry { time, time_text, stderr, partial, text: parts.next().unwrap_or_default() })
}

/// Which entries a reader wants, and how it wants them.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    pub limit_bytes: Option<u64>,
}

impl Selection {
    pub fn new(options: &LogOptions, now: Timestamp) -> Self {
        let since = options.since_time.or_else(|| {
            let seconds = options.since_seconds?;
            now.saturating_sub(jiff::SignedDuration::from_secs(seconds)).ok()
        });
        Selection { since, timestamps: options.timestamps, limit_bytes: options.limit_bytes }
    }

    /// Appends what the reader sees of one line of the file. Lines that are no entries are skipped.
    /// Returns `false` when the limit is reached.
    pub fn render(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(entry) = parse(line) else { return true };
        if self.since.is_some_and(|since| entry.time < since) {
            return true;
        }
        let from = out.len();
        if self.timestamps {
            out.extend_from_slice(entry.time_text.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(entry.text);
        if !entry.partial {
            out.push(b'\n');
        }
        match &mut self.limit_bytes {
            None => true,
            Some(left) => {
                let written = (out.len() - from) as u64;
                if written >= *left {
                    out.truncate(from + usize::try_from(*left).unwrap_or(usize::MAX));
                    *left = 0;
                    return false;
                }
                *left -= written;
                true
            }
        }
    }
}

/// The file of a container's run.
pub fn path(directory: &Path, container: &str, restart: i32) -> PathBuf {
    directory.join(container).join(format!("{restart}.log"))
}

/// The files of one run, oldest first: those that were rotated away, and the current one last.
pub fn files(current: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (current.parent(), current.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut rotated: Vec<PathBuf> = std::fs::read_dir(directory)?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    // Their suffix is the time of the rotation.
    rotated.sort();
    rotated.push(current.to_owned());
    Ok(rotated)
}

/// How much is read at once to find lines from the end.
const BLOCK: u64 = 64 << 10;

/// Where in the first `length` bytes of a file its last `lines` whole lines begin, and how many lines
/// there are from there. An entry that a following one continues counts as a line of its own, as
/// upstream counts. The length is the caller's, who reads no further: what is written between the two
/// reads would be lines too many.
pub fn tail_offset(file: &mut File, length: u64, lines: u64) -> io::Result<(u64, u64)> {
    let mut end = length;
    let mut found = 0;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.by_ref().take(end - start).read_to_end(&mut block)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let after = start + index as u64 + 1;
            if after == length {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok((after, lines));
            }
        }
        end = start;
    }
    let total = if length == 0 { 0 } else { found + 1 };
    if lines == 0 { Ok((length, 0)) } else { Ok((0, total.min(lines))) }
}

/// The end of a container's output, at most so many lines and bytes, for its termination message.
pub fn tail_text(log: &Path, lines: u64, bytes: usize) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        let (offset, _) = tail_offset(&mut file, length, lines)?;
        // A line is never longer than what is kept plus what the format adds to it.
        file.seek(SeekFrom::Start(offset.max(length.saturating_sub(BLOCK))))?;
        let mut raw = Vec::new();
        file.take(BLOCK).read_to_end(&mut raw)?;
        let mut out = Vec::new();
        for line in raw.split(|byte| *byte == b'\n') {
            Selection::default().render(line, &mut out);
        }
        Ok(out)
    };
    let text = read().unwrap_or_default();
    let from = text.len().saturating_sub(bytes);
    String::from_utf8_lossy(&text[from..]).into_owned()
}

#[cfg(test)]
mod tests;
