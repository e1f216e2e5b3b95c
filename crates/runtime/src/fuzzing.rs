//! A door for the fuzz targets: a process's output on its way into a log file.

use jiff::Timestamp;

use crate::log::{Line, Stream};

/// The log entries of what a process writes to its standard output, piece by piece.
pub fn log_entries<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, now: Timestamp) -> Vec<u8> {
    let (mut line, mut out) = (Line::default(), Vec::new());
    for piece in pieces {
        line.split(Stream::Stdout, now, piece, &mut out);
    }
    line.finish(Stream::Stdout, now, &mut out);
    out
}
