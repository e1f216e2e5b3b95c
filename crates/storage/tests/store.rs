//! The embedded store, through its public interface.

use std::sync::Arc;

use proptest::prelude::*;
use sampan_storage::testing::{Model, conformance, take};
use sampan_storage::{
    Change, CommitError, Expect, HistoryBound, Options, RedbStore, Store, StoreError, WatchBound, WatchError,
    Write,
};
use tempfile::TempDir;

fn open(dir: &TempDir) -> RedbStore {
    open_with(dir, Options::default())
}

fn open_with(dir: &TempDir, options: Options) -> RedbStore {
    RedbStore::open(dir.path().join("store"), options).expect("opens")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let dir = TempDir::new().expect("a directory");
    conformance(Arc::new(open(&dir))).await;
}

#[tokio::test]
async fn reopens_with_everything_but_history() {
    let dir = TempDir::new().expect("a directory");
    let store = open(&dir);
    store.commit(Write::create("/a", "1")).await.expect("absent");
    store.commit(Write::create("/b", "1")).await.expect("absent");
    let last = store.commit(Write::delete("/b", Expect::Any)).await.expect("exists");
    let before = store.list("").await.expect("works");
    drop(store);

    let store = open(&dir);
    assert_eq!(store.list("").await.expect("works"), before);
    assert_eq!(store.revision().await.expect("works"), last);
    let stats = store.stats().await.expect("works");
    assert_eq!((stats.oldest, stats.entries, stats.live_bytes, stats.history_events), (last, 1, 3, 0));
    assert!(matches!(
        store.watch("", last - 1).await.map(|_| ()),
        Err(WatchError::Compacted { oldest }) if oldest == last
    ));
    let next = store.commit(Write::put("/c", "1")).await.expect("any");
    assert_eq!(next, last + 1, "the revision of the deletion is not used again");
}

#[tokio::test]
async fn a_second_owner_is_refused() {
    let dir = TempDir::new().expect("a directory");
    let store = open(&dir);
    match RedbStore::open(dir.path().join("store"), Options::default()).map(|_| ()) {
        Err(error @ StoreError::Locked { .. }) => {
            assert!(error.to_string().contains("in use by another process"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    store.close().await;
    open(&dir);
}

#[test]
fn what_is_no_store_is_named() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("store");
    for content in [&b"x"[..], &[0; 4096], &[0xff; 8192]] {
        std::fs::write(&path, content).expect("writes");
        match RedbStore::open(&path, Options::default()).map(|_| ()) {
            Err(error @ StoreError::Corrupt { .. }) => {
                assert!(error.to_string().contains(path.to_str().expect("UTF-8")), "{error}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(std::fs::read(&path).expect("reads"), content, "left as it was");
    }
    assert!(matches!(
        RedbStore::open(dir.path().join("none/store"), Options::default()).map(|_| ()),
        Err(StoreError::Io { .. })
    ));
}

#[test]
fn another_format_is_refused() {
    const META: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("store");
    let database = redb::Database::create(&path).expect("creates");
    let transaction = database.begin_write().expect("begins");
    transaction.open_table(META).expect("opens").insert("format", 7).expect("inserts");
    transaction.commit().expect("commits");
    drop(database);
    match RedbStore::open(&path, Options::default()).map(|_| ()) {
        Err(StoreError::Format { found: 7, supported: 3, .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// Damages a store in every of its pages in turn: it answers with what it held, or with an error.
#[test]
fn damage_is_an_error() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("store");
    let runtime = runtime();
    let store = open(&dir);
    for index in 0..200 {
        let write = Write::put(format!("/{index}"), vec![index as u8; 100]);
        runtime.block_on(store.commit(write)).expect("any");
    }
    let held = runtime.block_on(store.list("")).expect("works").entries;
    drop(store);
    let sound = std::fs::read(&path).expect("reads");
    let used: Vec<usize> = (0..sound.len())
        .step_by(4096)
        .filter(|at| sound[*at..at + 4096].iter().any(|byte| *byte != 0))
        .collect();
    let mut refused = 0;
    for at in used {
        let mut damaged = sound.clone();
        damaged[at..at + 64].fill(0x5a);
        std::fs::write(&path, damaged).expect("writes");
        let read =
            RedbStore::open(&path, Options::default()).and_then(|store| runtime.block_on(store.list("")));
        match read {
            Ok(snapshot) => assert_eq!(snapshot.entries.len(), held.len(), "page {at}"),
            Err(StoreError::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("page {at}: {error}"),
        }
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn history_is_bounded_by_count_and_bytes() {
    let dir = TempDir::new().expect("a directory");
    let history = HistoryBound { events: 10, bytes: 1000 };
    let store = open_with(&dir, Options { history, ..Options::default() });
    for index in 0..30 {
        store.commit(Write::put(format!("/{index:02}"), "")).await.expect("any");
    }
    let stats = store.stats().await.expect("works");
    assert_eq!((stats.history_events, stats.oldest, stats.history_bytes), (10, 20, 30));
    let mut oldest = store.watch("", 20).await.expect("the oldest");
    assert_eq!(take(&mut oldest, 10).await[0].revision, 21);
    store.commit(Write::put("/x", vec![0; 900])).await.expect("any");
    store.commit(Write::put("/x", vec![0; 50])).await.expect("any");
    let stats = store.stats().await.expect("works");
    assert_eq!((stats.history_events, stats.oldest), (1, 31), "an event weighs its two values");
    store.commit(Write::put("/x", vec![0; 2000])).await.expect("any");
    let stats = store.stats().await.expect("works");
    assert_eq!((stats.history_events, stats.history_bytes, stats.oldest), (0, 0, 33));
}

#[tokio::test]
async fn a_lagging_watch_ends_and_goes_on_from_its_last_event() {
    let dir = TempDir::new().expect("a directory");
    for watch in [WatchBound { events: 5, bytes: 1 << 20 }, WatchBound { events: 1000, bytes: 500 }] {
        let store = open_with(&dir, Options { watch, ..Options::default() });
        let start = store.revision().await.expect("works");
        let mut lagging = store.watch("/", start).await.expect("current");
        for _ in 0..50 {
            store.commit(Write::put("/a", vec![0; 60])).await.expect("a watch blocks no writer");
        }
        let mut received = start;
        let after = loop {
            match lagging.next().await {
                Some(Ok(batch)) => {
                    assert_eq!(batch[0].revision, received + 1);
                    received += batch.len() as u64;
                }
                Some(Err(WatchError::Lagged { after })) => break after,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(after, received);
        assert!(received < start + 50, "the bound holds");
        assert!(lagging.next().await.is_none());
        let mut resumed = store.watch("/", after).await.expect("within the window");
        let rest = take(&mut resumed, (start + 50 - after) as usize).await;
        assert_eq!(rest[0].revision, after + 1);
        let open = store.stats().await.expect("works").watches;
        assert_eq!(open, 1, "the one that lagged is gone");
    }
}

#[tokio::test]
async fn the_file_does_not_grow_with_history() {
    let dir = TempDir::new().expect("a directory");
    let store = open(&dir);
    let round = async || {
        for index in 0..20 {
            store.commit(Write::put(format!("/{index}"), vec![1; 20_000])).await.expect("any");
        }
        store.stats().await.expect("works").file_bytes
    };
    let first = round().await;
    let mut last = first;
    for _ in 0..10 {
        last = round().await;
    }
    assert!(last <= first * 2, "{first} bytes became {last}");
}

#[tokio::test]
async fn an_emptied_file_shrinks_when_it_is_opened() {
    let dir = TempDir::new().expect("a directory");
    let store = open(&dir);
    let keys: Vec<String> = (0..10).map(|index| format!("/{index}")).collect();
    for key in &keys {
        store.commit(Write::put(key.as_str(), vec![1; 6 << 20])).await.expect("any");
    }
    store.commit(Write::put("/kept", "1")).await.expect("any");
    let large = store.stats().await.expect("works").file_bytes;
    store
        .commit_all(keys.into_iter().map(|key| Write::delete(key, Expect::Any)).collect())
        .await
        .expect("exist");
    drop(store);
    let store = open(&dir);
    let small = store.stats().await.expect("works").file_bytes;
    assert!(small < large / 2, "{large} bytes became {small}");
    assert_eq!(store.list("").await.expect("works").entries.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_answers_what_was_sent() {
    let dir = TempDir::new().expect("a directory");
    let store = Arc::new(open(&dir));
    let commits: Vec<_> = (0..200)
        .map(|index| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(Write::put(format!("/{index}"), "1")).await })
        })
        .collect();
    store.close().await;
    let mut stored = 0;
    for commit in commits {
        match commit.await.expect("does not panic") {
            Ok(_) => stored += 1,
            Err(CommitError::Store(StoreError::Closed)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    drop(store);
    assert_eq!(open(&dir).list("").await.expect("works").entries.len(), stored);
}

/// One step of the property test.
#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, StepExpect, Option<u8>)>),
    /// Starts a watch this many revisions ago.
    Watch(u8),
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum StepExpect {
    Any,
    Absent,
    /// The key's own revision, off by this much.
    Off(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let expect = prop_oneof![
        Just(StepExpect::Any),
        Just(StepExpect::Absent),
        prop_oneof![4 => Just(0u8), 1 => Just(1)].prop_map(StepExpect::Off),
    ];
    let write = (0..6u8, expect, proptest::option::weighted(0.7, any::<u8>()));
    prop_oneof![
        12 => proptest::collection::vec(write, 1..4).prop_map(Step::Commit),
        2 => (0..10u8).prop_map(Step::Watch),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn equals_its_model(steps in proptest::collection::vec(step(), 1..60)) {
        runtime().block_on(follow_model(steps));
    }
}

async fn follow_model(steps: Vec<Step>) {
    let dir = TempDir::new().expect("a directory");
    let mut store = open(&dir);
    let mut model = Model::default();
    let mut oldest = 0;
    let mut watches = Vec::new();
    for step in steps {
        match step {
            Step::Commit(writes) => {
                let mut writes: Vec<Write> =
                    writes.into_iter().map(|write| to_write(&model, write)).collect();
                writes.sort_by(|a, b| a.key.cmp(&b.key));
                writes.dedup_by(|a, b| a.key == b.key);
                let expected = model.commit_all(&writes);
                match store.commit_all(writes).await {
                    Ok(revision) => assert_eq!(Some(revision), expected),
                    Err(CommitError::Mismatch { .. }) => assert_eq!(None, expected),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Watch(back) => {
                let after = model.revision.saturating_sub(back.into());
                match store.watch("/1", after).await {
                    Ok(watch) => {
                        assert!(after >= oldest);
                        watches.push((after, watch));
                    }
                    Err(WatchError::Compacted { oldest: answer }) => {
                        assert!(after < oldest);
                        assert_eq!(answer, oldest);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Reopen => {
                check_watches(&model, &mut watches);
                watches.clear();
                drop(store);
                store = open(&dir);
                oldest = model.revision;
            }
        }
        let snapshot = store.list("").await.expect("works");
        assert_eq!(snapshot.revision, model.revision);
        assert!(snapshot.entries.iter().eq(model.entries.values()));
    }
    check_watches(&model, &mut watches);
}

fn to_write(model: &Model, (key, expect, value): (u8, StepExpect, Option<u8>)) -> Write {
    let key: Arc<str> = format!("/{}/{key}", key % 3).into();
    let expect = match expect {
        StepExpect::Any => Expect::Any,
        StepExpect::Absent => Expect::Absent,
        StepExpect::Off(off) => {
            Expect::Revision(model.entries.get(&key).map_or(0, |entry| entry.revision) + u64::from(off))
        }
    };
    let change = value.map_or(Change::Delete, |value| Change::Put(vec![value; value.into()].into()));
    Write { key, expect, change }
}

/// Every event was published before its commit was answered, so it is there to be taken now.
fn check_watches(model: &Model, watches: &mut [(u64, sampan_storage::Watch)]) {
    for (after, watch) in watches {
        let mut received = Vec::new();
        while let Some(batch) = watch.try_next() {
            received.extend(batch.expect("open").iter().map(|event| (**event).clone()));
        }
        let expected =
            model.events.iter().filter(|event| event.revision > *after && event.key.starts_with("/1"));
        assert!(received.iter().eq(expected), "after {after}: {received:?}");
    }
}
