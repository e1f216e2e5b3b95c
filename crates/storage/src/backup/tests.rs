use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{Options, RedbStore, Store, Write};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// A store with something of everything, and its backup.
async fn backed_up(dir: &std::path::Path, files: &[File]) -> (RedbStore, Vec<u8>) {
    let store = RedbStore::open(dir.join("store"), Options::default()).expect("opens");
    for index in 0..50 {
        let key = format!("/registry/pods/default/{index:03}");
        store.commit(Write::put(key.as_str(), vec![index as u8; index * 100])).await.expect("works");
        if index % 3 == 0 {
            store.commit(Write::put(key.as_str(), "again")).await.expect("works");
        }
        if index % 5 == 0 {
            store.commit(Write::delete(key.as_str(), crate::Expect::Any)).await.expect("exists");
        }
    }
    let mut out = Vec::new();
    let scan = store.scan("").await.expect("works");
    write(scan, files, 1_800_000_000, &mut out).await.expect("writes");
    (store, out)
}

#[tokio::test]
async fn a_backup_restores_what_was_there() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let files = [File { path: "pki/ca.crt".to_owned(), content: b"certificate".to_vec() }];
    let (store, backup) = backed_up(dir.path(), &files).await;
    let before = store.list("").await.expect("works");
    let mut found = Vec::new();
    let summary = verify(&*backup, |record| {
        if let Record::File(file) = record {
            found.push(file.clone());
        }
    });
    let expected = Summary {
        revision: before.revision,
        time_s: 1_800_000_000,
        entries: before.entries.len() as u64,
        files: 1,
        bytes: backup.len() as u64,
    };
    assert_eq!(summary.expect("whole"), expected);
    assert_eq!(found, files);
    let path = dir.path().join("restored");
    restore(&*backup, &path).expect("restores");
    let restored = RedbStore::open(&path, Options::default()).expect("opens");
    let after = restored.list("").await.expect("works");
    assert_eq!(after.entries, before.entries, "with their revisions and versions");
    assert!(after.revision > before.revision, "what came after the backup is not repeated");
    let next = restored.commit(Write::put("/next", "1")).await.expect("works");
    assert_eq!(next, after.revision + 1);
    let (mine, theirs) = (restored.stats().await.expect("works"), store.stats().await.expect("works"));
    assert_eq!((mine.entries, mine.live_bytes), (theirs.entries + 1, theirs.live_bytes + 6));
}

#[tokio::test]
async fn a_backup_is_of_one_revision_while_others_write() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let store = Arc::new(RedbStore::open(dir.path().join("store"), Options::default()).expect("opens"));
    // Pairs that are only ever written together; large, so that a backup takes several parts.
    let pair = |number: u64| {
        let value = format!("{number} {}", "x".repeat(200_000));
        (0..20).map(|index| Write::put(format!("/{index:02}"), value.clone())).collect::<Vec<_>>()
    };
    store.commit_all(pair(0)).await.expect("works");
    for round in 1..6 {
        let mut scan = store.scan("").await.expect("works");
        let first = scan.next().await.expect("a part").expect("works");
        store.commit_all(pair(round)).await.expect("a scan holds nobody up");
        let mut entries = first;
        while let Some(part) = scan.next().await {
            entries.extend(part.expect("works"));
        }
        assert_eq!(entries.len(), 20);
        assert!(entries.iter().all(|entry| entry.value == entries[0].value), "all of one commit");
        assert!(entries.iter().all(|entry| entry.revision == scan.revision));
    }
}

#[test]
fn every_cut_and_every_flipped_bit_is_refused() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let files = [File { path: "key".to_owned(), content: vec![1, 2, 3] }];
    let mut encoder = Encoder::new(9, 7);
    for key in ["/a", "/b", "/c"] {
        encoder.entry(&entry(key, [5, 4, 2], key.as_bytes().to_vec()));
    }
    encoder.file(&files[0]);
    let backup = encoder.finish();
    verify(&*backup, |_| {}).expect("whole");
    for cut in 0..backup.len() {
        let error = verify(&backup[..cut], |_| {}).expect_err("cut off");
        assert!(matches!(error, BackupError::CutOff { .. }), "{cut}: {error}");
    }
    for bit in 0..backup.len() * 8 {
        let mut bent = backup.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        verify(&*bent, |_| {}).expect_err("damaged");
    }
    let mut longer = backup.clone();
    longer.push(0);
    verify(&*longer, |_| {}).expect_err("longer");
    // A restore of what is damaged puts nothing in its place.
    let path = dir.path().join("store");
    std::fs::write(&path, "what was there").expect("writes");
    restore(&backup[..backup.len() - 1], &path).expect_err("cut off");
    assert_eq!(std::fs::read(&path).expect("reads"), b"what was there");
}

#[test]
fn what_cannot_be_of_a_store_is_refused() {
    let check = |entries: &[(&str, [u64; 3])], expected: &str| {
        let mut encoder = Encoder::new(9, 7);
        for (key, numbers) in entries {
            encoder.entry(&entry(key, *numbers, Vec::new()));
        }
        let error = verify(&*encoder.finish(), |_| {}).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&[("/b", [1, 1, 1]), ("/a", [2, 2, 1])], "out of order");
    check(&[("/a", [1, 1, 1]), ("/a", [2, 2, 1])], "out of order");
    check(&[("/a", [10, 1, 1])], "revisions cannot be");
    check(&[("/a", [1, 2, 1])], "revisions cannot be");
    check(&[("/a", [1, 1, 0])], "revisions cannot be");
    check(&[("", [1, 1, 1])], "lengths are not");
    assert!(matches!(
        verify(&b"PK\x03\x04 something else that is long enough"[..], |_| {}),
        Err(BackupError::Magic)
    ));
    assert!(matches!(verify(&b"PK"[..], |_| {}), Err(BackupError::Magic)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_stored_comes_back(values in proptest::collection::btree_map("[a-z/]{1,20}", proptest::collection::vec(any::<u8>(), 0..3000), 0..40)) {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("store");
        let mut encoder = Encoder::new(100, 0);
        let mut entries = Vec::new();
        for (key, value) in &values {
            let entry = entry(key, [(value.len() % 100) as u64 + 1, 1, 1], value.clone());
            encoder.entry(&entry);
            entries.push(entry);
        }
        restore(&*encoder.finish(), &path).expect("whole");
        let store = RedbStore::open(&path, Options::default()).expect("opens");
        let list = runtime().block_on(store.list("")).expect("works");
        prop_assert_eq!(list.entries, entries);
    }
}
