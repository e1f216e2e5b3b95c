use proptest::prelude::*;

use super::*;

fn now() -> Timestamp {
    "2016-10-06T00:17:09.669794202Z".parse().expect("a time")
}

/// Feeds chunks to one stream and compares tags and texts.
fn check(chunks: &[&[u8]], expected: &[(char, &[u8])]) {
    let (mut line, mut out) = (Line::default(), Vec::new());
    for chunk in chunks {
        line.split(Stream::Stdout, now(), chunk, &mut out);
    }
    line.finish(Stream::Stdout, now(), &mut out);
    let mut wanted = Vec::new();
    for (tag, text) in expected {
        write!(wanted, "2016-10-06T00:17:09.669794202Z stdout {tag} ").expect("a vector");
        wanted.extend_from_slice(text);
        wanted.push(b'\n');
    }
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&wanted));
}

#[test]
fn lines_become_entries() {
    let long = vec![b'x'; MAX_TEXT + 5];
    check(&[], &[]);
    check(&[b"one\ntwo\n"], &[('F', b"one"), ('F', b"two")]);
    check(&[b"o", b"ne", b"\n\n"], &[('F', b"one"), ('F', b"")]);
    check(&[b"no newline"], &[('P', b"no newline")]);
    check(&[&long, b"\n"], &[('P', &long[..MAX_TEXT]), ('F', &long[..5])]);
    check(&[&long[..MAX_TEXT], b"\n"], &[('F', &long[..MAX_TEXT])]);
    check(&[b"\xff\r\n"], &[('F', b"\xff\r")]);
}

#[test]
fn a_full_file_is_moved_and_the_oldest_go() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("deep/0.log");
    let mut log = LogFile::open(&path, LogLimits { max_bytes: 10, max_files: 3 }).expect("opens");
    let mut moved = Vec::new();
    for round in 0..5 {
        log.pending().extend_from_slice(format!("round {round}....").as_bytes());
        moved.push(log.flush().expect("writes").expect("is full"));
    }
    let left: Vec<bool> = moved.iter().map(|path| path.exists()).collect();
    assert_eq!(left, [false, false, false, true, true]);
    assert_eq!(std::fs::read(&moved[4]).expect("there"), b"round 4....");
    assert_eq!(std::fs::metadata(&path).expect("there").len(), 0);
}

#[test]
fn nothing_is_lost_when_the_disk_is_full() {
    let mut log =
        LogFile::open(Path::new("/dev/full"), LogLimits { max_bytes: 0, max_files: 2 }).expect("opens");
    log.pending().extend_from_slice(b"kept");
    assert_eq!(log.flush().expect_err("is full").kind(), io::ErrorKind::StorageFull);
    assert_eq!(log.pending(), b"kept");
}

proptest! {
    #[test]
    fn texts_are_what_was_written(chunks in proptest::collection::vec("[a\n]{0,40}", 0..20)) {
        let (mut line, mut out) = (Line::default(), Vec::new());
        for chunk in &chunks {
            line.split(Stream::Stderr, now(), chunk.as_bytes(), &mut out);
        }
        line.finish(Stream::Stderr, now(), &mut out);
        let text = String::from_utf8(out).expect("text");
        let mut read = String::new();
        for entry in text.lines() {
            let mut fields = entry.splitn(4, ' ').skip(2);
            let tag = fields.next();
            read.push_str(fields.next().expect("four fields"));
            if tag == Some("F") {
                read.push('\n');
            }
        }
        prop_assert_eq!(read, chunks.concat());
    }
}
