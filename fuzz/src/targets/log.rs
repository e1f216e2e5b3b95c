//! Container logs: CRI's format, written of any output and read of any file.

use std::io::{Seek as _, Write as _};

use jiff::Timestamp;
use sampan_node::logs::{Selection, parse, tail_offset};
use sampan_runtime::fuzzing::log_entries;

use crate::input;

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    if choice % 2 == 0 {
        written(usize::from(choice / 2), rest);
    } else {
        read(choice, rest);
    }
}

/// However output is cut, it is read as it was written.
fn written(cut: usize, output: &[u8]) {
    let now = Timestamp::UNIX_EPOCH;
    let log = log_entries([output], now);
    assert_eq!(log_entries(output.chunks(cut + 1), now), log, "cut after {}", cut + 1);
    let (mut out, mut selection) = (Vec::new(), Selection::default());
    for line in log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let entry = parse(line).expect("what is written is an entry");
        assert!(!entry.stderr && entry.time == now);
        assert!(selection.render(line, &mut out));
    }
    assert_eq!(out, output);
}

/// A file of any bytes has as many lines from the offset of its tail as are said to be there.
fn read(choice: u8, bytes: &[u8]) {
    let since = Timestamp::from_second(1_700_000_000).ok().filter(|_| choice & 2 != 0);
    let limit = (choice & 4 != 0).then_some(u64::from(choice));
    let mut selection = Selection { since, timestamps: choice & 8 != 0, limit_bytes: limit };
    let mut out = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if !selection.render(line, &mut out) {
            break;
        }
    }
    assert!(limit.is_none_or(|limit| out.len() as u64 <= limit), "{} of {limit:?} bytes", out.len());
    let lines = u64::from(choice >> 4);
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).and_then(|()| file.rewind()).expect("written");
    let length = bytes.len() as u64;
    let (offset, count) = tail_offset(&mut file, length, lines).expect("read");
    let tail = &bytes[usize::try_from(offset).expect("within the file")..];
    let ends = tail.iter().filter(|byte| **byte == b'\n').count() as u64;
    let found = ends + u64::from(!tail.is_empty() && !tail.ends_with(b"\n"));
    assert_eq!(found, count, "{lines} lines asked for");
    assert!(count <= lines);
}
