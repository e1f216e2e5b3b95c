use std::io::Write;

use futures_util::StreamExt;
use tokio::sync::watch;

use super::*;

fn line(second: u8, stream: &str, tag: &str, text: &str) -> String {
    format!("2026-01-02T03:04:{second:02}.000000001Z {stream} {tag} {text}\n")
}

#[test]
fn entries_are_parsed() {
    let check = |line: &str, expected: Option<(bool, bool, &str)>| {
        let got = parse(line.as_bytes());
        let got =
            got.map(|entry| (entry.stderr, entry.partial, std::str::from_utf8(entry.text).expect("text")));
        assert_eq!(got, expected, "{line}");
    };
    check("2026-01-02T03:04:05.1Z stdout F hello world", Some((false, false, "hello world")));
    check("2026-01-02T03:04:05.1Z stderr P part", Some((true, true, "part")));
    check("2026-01-02T03:04:05.1Z stdout F ", Some((false, false, "")));
    check("2026-01-02T03:04:05.1Z stdout F", Some((false, false, "")));
    check("2026-01-02T03:04:05.1+02:00 stdout P:x y", Some((false, true, "y")));
    check("yesterday stdout F x", None);
    check("2026-01-02T03:04:05.1Z other F x", None);
    check("", None);
}

proptest::proptest! {
    #[test]
    fn any_line_is_taken_without_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let mut out = Vec::new();
        Selection { limit_bytes: Some(3), timestamps: true, since: None }.render(&bytes, &mut out);
        proptest::prop_assert!(out.len() <= 3);
    }
}

#[test]
fn the_tail_begins_after_the_right_line() {
    let check = |content: &str, lines: u64, expected: &str, found: u64| {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content.as_bytes()).expect("writes");
        let (offset, count) = tail_offset(&mut file, content.len() as u64, lines).expect("reads");
        let offset = usize::try_from(offset).expect("small");
        assert_eq!((&content[offset..], count), (expected, found), "{content:?} {lines}");
    };
    check("a\nb\nc\n", 2, "b\nc\n", 2);
    check("a\nb\nc\n", 3, "a\nb\nc\n", 3);
    check("a\nb\nc\n", 9, "a\nb\nc\n", 3);
    check("a\nb\nc", 1, "c", 1);
    check("a\n", 0, "", 0);
    check("", 5, "", 0);
    let long = "x".repeat(100_000);
    check(&format!("{long}\n{long}\n"), 1, &format!("{long}\n"), 1);
}

async fn collect(stream: sampan_client::node_streams::LogStream) -> String {
    let chunks: Vec<_> = stream.map(|chunk| chunk.expect("a chunk")).collect().await;
    String::from_utf8(chunks.concat()).expect("text")
}

#[tokio::test]
async fn options_choose_what_is_sent() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("0.log");
    let old = line(1, "stdout", "F", "one") + &line(2, "stderr", "F", "two");
    std::fs::write(dir.path().join("0.log.20260102-030402"), old).expect("writes");
    let new = line(3, "stdout", "P", "thr") + &line(3, "stdout", "F", "ee") + &line(4, "stdout", "F", "four");
    std::fs::write(&path, new).expect("writes");
    let check = async |selection: Selection, tail: Option<u64>, expected: &str| {
        assert_eq!(collect(read(path.clone(), selection, tail, Follow::No)).await, expected, "{tail:?}");
    };
    check(Selection::default(), None, "one\ntwo\nthree\nfour\n").await;
    check(Selection::default(), Some(1), "four\n").await;
    check(Selection::default(), Some(4), "two\nthree\nfour\n").await;
    check(Selection::default(), Some(0), "").await;
    check(Selection { limit_bytes: Some(5), ..Selection::default() }, None, "one\nt").await;
    let since = "2026-01-02T03:04:03Z".parse().ok();
    check(Selection { since, ..Selection::default() }, None, "three\nfour\n").await;
    let stamped = "2026-01-02T03:04:04.000000001Z four\n";
    check(Selection { timestamps: true, ..Selection::default() }, Some(1), stamped).await;
}

#[test]
fn what_is_written_after_the_count_is_no_part_of_the_tail() {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(b"a\nb\nc\n").expect("writes");
    assert_eq!(tail_offset(&mut file, 4, 1).expect("reads"), (2, 1));
}

#[tokio::test]
async fn a_follower_sees_what_comes_also_after_a_rotation_until_the_container_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("0.log");
    std::fs::write(&path, line(1, "stdout", "F", "one")).expect("writes");
    let (ended, receiver) = watch::channel(false);
    let mut stream = read(path.clone(), Selection::default(), None, Follow::Until(receiver));
    let mut next = async || stream.next().await.map(|chunk| chunk.expect("a chunk"));
    assert_eq!(next().await.as_deref(), Some(&b"one\n"[..]));
    let append = |text: &str| {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&path).expect("opens");
        file.write_all(text.as_bytes()).expect("writes");
    };
    append(&line(2, "stdout", "F", "two"));
    assert_eq!(next().await.as_deref(), Some(&b"two\n"[..]));
    std::fs::rename(&path, dir.path().join("0.log.20260102-030402")).expect("renames");
    append(&line(3, "stdout", "F", "three"));
    assert_eq!(next().await.as_deref(), Some(&b"three\n"[..]));
    append(&line(4, "stdout", "F", "four"));
    ended.send_replace(true);
    assert_eq!(next().await.as_deref(), Some(&b"four\n"[..]));
    assert_eq!(next().await, None);
}

#[test]
fn the_end_of_a_log_is_a_message() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("0.log");
    std::fs::write(&path, line(1, "stdout", "F", "one") + &line(2, "stderr", "F", "two")).expect("writes");
    assert_eq!(tail_text(&path, 80, 2048), "one\ntwo\n");
    assert_eq!(tail_text(&path, 1, 2048), "two\n");
    assert_eq!(tail_text(&path, 80, 3), "wo\n");
    assert_eq!(tail_text(&dir.path().join("none"), 80, 3), "");
}
