//! A store whose file can grow no further, and then can again.
//!
//! The limit on the size of a process's files stands for the full disk: both fail in the same
//! calls. It needs a process of its own in which the limit's signal is ignored.

use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sampan_storage::testing::take;
use sampan_storage::{CommitError, Options, RedbStore, Store, StoreError, Write};

const CHILD: &str = "SAMPAN_FULL_CHILD";

#[test]
fn a_full_disk_fails_writes_and_nothing_else() {
    if let Ok(path) = std::env::var(CHILD) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        return runtime.block_on(fill(&path));
    }
    let dir = tempfile::TempDir::new().expect("a directory");
    let output = Command::new("/bin/sh")
        .args(["-c", "trap '' XFSZ && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("runs"))
        .args(["--exact", "a_full_disk_fails_writes_and_nothing_else", "--nocapture"])
        .env(CHILD, dir.path().join("store"))
        .output()
        .expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = bytes.or(maximum);
    setrlimit(Resource::Fsize, Rlimit { current, maximum }).expect("below the maximum");
}

async fn fill(path: &str) {
    let store = RedbStore::open(path, Options::default()).expect("opens");
    let size = store.stats().await.expect("works").file_bytes;
    let mut watch = store.watch("", 0).await.expect("current");
    limit_files(Some(size + (1 << 20)));
    let value = |index: u64| vec![index as u8; 100 << 10];
    let mut stored = 0;
    let error = loop {
        match store.commit(Write::create(format!("/{stored:04}"), value(stored))).await {
            Ok(revision) => {
                stored += 1;
                assert_eq!(revision, stored);
            }
            Err(error) => break error,
        }
        assert!(stored < 1000, "the limit is not reached");
    };
    assert!(matches!(error, CommitError::Store(StoreError::Io { full: true, .. })), "{error}");
    assert!(error.to_string().contains(path), "{error}");
    for _ in 0..3 {
        let snapshot = store.list("").await.expect("stays readable");
        assert_eq!((snapshot.entries.len() as u64, snapshot.revision), (stored, stored));
        assert_eq!(
            store.get("/0000").await.expect("stays readable").map(|entry| entry.value),
            Some(value(0).into())
        );
        store.commit(Write::put("/large", vec![0; 4 << 20])).await.expect_err("still full");
    }
    limit_files(None);
    let revision = store.commit(Write::put("/more", vec![0; 4 << 20])).await.expect("there is room");
    assert_eq!(revision, stored + 1);
    let events = take(&mut watch, revision as usize).await;
    assert!(events.iter().map(|event| event.revision).eq(1..=revision), "none missing, none twice");
    let before = store.list("").await.expect("works");
    drop(store);
    let store = RedbStore::open(path, Options::default()).expect("opens");
    assert_eq!(store.list("").await.expect("works"), before);
}
