//! What every [`Store`] must do, as tests that any of them can be run through.

pub mod history;
pub mod linearizability;
pub mod workload;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Batch, Change, CommitError, Entry, Event, EventKind, Expect, Limits, MAX_KEY_BYTES, Revision, Store,
    StoreError, Watch, WatchError, Write, WriteFault,
};

/// Runs an empty store through everything. Panics with the place that is not met; closes the store.
pub async fn conformance(store: Arc<dyn Store>) {
    expectations(&*store).await;
    transactions(&*store).await;
    checks(&*store).await;
    limits(&*store).await;
    lists(&*store).await;
    watches(&*store).await;
    concurrent_writers(&store).await;
    closes(&*store).await;
}

async fn expectations(store: &dyn Store) {
    let start = store.revision().await.expect("works");
    let created = store.commit(Write::create("/e/a", "1")).await.expect("absent");
    assert!(created > start);
    let current = mismatch(store.commit(Write::create("/e/a", "2")).await);
    assert_eq!(current.map(|entry| entry.value), Some(Bytes::from("1")));
    let current = mismatch(store.commit(Write::update("/e/a", created + 1, "2")).await);
    assert_eq!(current.map(|entry| entry.revision), Some(created));
    assert_eq!(store.revision().await.expect("works"), created, "a refusal takes no revision");
    let updated = store.commit(Write::update("/e/a", created, "2")).await.expect("matches");
    assert_eq!(updated, created + 1);
    let entry = Entry {
        key: "/e/a".into(),
        value: "2".into(),
        revision: updated,
        create_revision: created,
        version: 2,
    };
    assert_eq!(store.get("/e/a").await.expect("works"), Some(entry));
    assert_eq!(mismatch(store.commit(Write::delete("/e/b", Expect::Any)).await), None);
    assert_eq!(mismatch(store.commit(Write::update("/e/b", updated, "1")).await), None);
    mismatch(store.commit(Write::delete("/e/a", Expect::Revision(created))).await);
    mismatch(store.commit(Write::delete("/e/a", Expect::Absent)).await);
    let deleted = store.commit(Write::delete("/e/a", Expect::Revision(updated))).await.expect("matches");
    assert_eq!(deleted, updated + 1);
    assert_eq!(store.get("/e/a").await.expect("works"), None);
    let again = store.commit(Write::put("/e/a", "3")).await.expect("any");
    let entry = store.get("/e/a").await.expect("works").expect("was put");
    assert_eq!((entry.create_revision, entry.version), (again, 1), "a new life");
}

async fn transactions(store: &dyn Store) {
    let before = store.revision().await.expect("works");
    let writes = vec![Write::create("/t/a", "1"), Write::create("/t/b", "1")];
    let revision = store.commit_all(writes).await.expect("both absent");
    assert_eq!(revision, before + 1);
    for key in ["/t/a", "/t/b"] {
        assert_eq!(store.get(key).await.expect("works").map(|entry| entry.revision), Some(revision));
    }
    let writes = vec![
        Write::delete("/t/a", Expect::Any),
        Write::create("/t/c", "1"),
        Write::update("/t/b", revision + 1, "2"),
    ];
    match store.commit_all(writes).await {
        Err(CommitError::Mismatch { index: 2, current: Some(entry) }) => assert_eq!(&*entry.key, "/t/b"),
        other => panic!("{other:?}"),
    }
    let keys: Vec<_> =
        store.list("/t/").await.expect("works").entries.into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["/t/a".into(), Arc::from("/t/b")], "nothing of a refused transaction is done");
}

async fn checks(store: &dyn Store) {
    let fence = store.commit(Write::create("/k/fence", "1")).await.expect("absent");
    let mut watch = store.watch("/k/", fence).await.expect("current");
    let behind = |expect| vec![Write::put("/k/a", "1"), Write::check("/k/fence", expect)];
    let done = store.commit_all(behind(Expect::Revision(fence))).await.expect("the fence stands");
    assert_eq!(done, fence + 1);
    assert_eq!(take(&mut watch, 1).await[0].key, "/k/a".into());
    assert!(watch.try_next().is_none(), "a check is no event");
    let entry = store.get("/k/fence").await.expect("works").expect("exists");
    assert_eq!((entry.revision, entry.version), (fence, 1), "a check changes nothing");
    let moved = store.commit(Write::put("/k/fence", "2")).await.expect("any");
    match store.commit_all(behind(Expect::Revision(fence))).await {
        Err(CommitError::Check { index: 1, current: Some(entry) }) => assert_eq!(entry.revision, moved),
        other => panic!("{other:?}"),
    }
    store.commit(Write::delete("/k/fence", Expect::Any)).await.expect("exists");
    match store.commit_all(behind(Expect::Revision(moved))).await {
        Err(CommitError::Check { index: 1, current: None }) => {}
        other => panic!("{other:?}"),
    }
    store.commit_all(behind(Expect::Absent)).await.expect("it is absent");
    let nothing = store.commit(Write::check("/k/fence", Expect::Absent)).await;
    assert!(matches!(nothing, Err(CommitError::Invalid { index: 0, fault: WriteFault::NoChange })));
}

async fn limits(store: &dyn Store) {
    let Limits { writes: most, value_bytes: largest, commit_bytes } = store.limits();
    let long = "k".repeat(MAX_KEY_BYTES);
    store.commit(Write::put(long.as_str(), "")).await.expect("the longest key");
    store.commit(Write::delete(long.as_str(), Expect::Any)).await.expect("exists");
    let large = Bytes::from(vec![7; largest]);
    store.commit(Write::put("/large", large.clone())).await.expect("the largest value");
    store.commit(Write::delete("/large", Expect::Any)).await.expect("exists");
    let faults = [
        (Write::put("", ""), WriteFault::EmptyKey),
        (
            Write::put(format!("{long}k"), ""),
            WriteFault::KeyTooLong { size: MAX_KEY_BYTES + 1, limit: MAX_KEY_BYTES },
        ),
        (
            Write::put("/large", vec![0; largest + 1]),
            WriteFault::ValueTooLarge { size: largest + 1, limit: largest },
        ),
        (Write::put("/first", ""), WriteFault::DuplicateKey),
    ];
    for (write, expected) in faults {
        match store.commit_all(vec![Write::put("/first", ""), write]).await {
            Err(CommitError::Invalid { index: 1, fault }) => assert_eq!(fault, expected),
            other => panic!("{expected:?}: {other:?}"),
        }
    }
    assert!(matches!(store.commit_all(vec![]).await, Err(CommitError::Count { count: 0, .. })));
    let many = (0..=most).map(|index| Write::put(format!("/many/{index}"), "")).collect();
    assert!(matches!(store.commit_all(many).await, Err(CommitError::Count { .. })));
    let heavy = (0..=commit_bytes / largest)
        .map(|index| Write::put(format!("/heavy/{index}"), large.clone()))
        .collect();
    assert!(matches!(store.commit_all(heavy).await, Err(CommitError::Size { .. })));
    assert_eq!(store.get("/first").await.expect("works"), None);
}

async fn lists(store: &dyn Store) {
    for key in ["/l/b", "/l/a/1", "/l0", "/l", "/l/ä", "/l/a"] {
        store.commit(Write::create(key, key.to_owned())).await.expect("absent");
    }
    let snapshot = store.list("/l/").await.expect("works");
    let keys: Vec<&str> = snapshot.entries.iter().map(|entry| &*entry.key).collect();
    assert_eq!(keys, ["/l/a", "/l/a/1", "/l/b", "/l/ä"]);
    assert_eq!(snapshot.revision, store.revision().await.expect("works"));
    assert!(snapshot.entries.iter().all(|entry| entry.value == entry.key.as_bytes()));
    assert!(store.list("/none/").await.expect("works").entries.is_empty());
}

async fn watches(store: &dyn Store) {
    let start = store.revision().await.expect("works");
    let mut live = store.watch("/w/", start).await.expect("current");
    let mut everything = store.watch("", start).await.expect("current");
    let mut future = store.watch("/w/", start + 2).await.expect("in the future");
    assert!(live.try_next().is_none());
    store.commit(Write::create("/w/a", "1")).await.expect("absent");
    assert_eq!(
        live.try_next().map(|batch| batch.expect("open").len()),
        Some(1),
        "published before the answer"
    );
    store.commit(Write::put("/x", "1")).await.expect("any");
    store.commit(Write::put("/w/a", "2")).await.expect("any");
    let last = store.commit(Write::delete("/w/a", Expect::Any)).await.expect("exists");
    let event = |revision, kind, value: &'static str, previous: Option<&'static str>| Event {
        revision,
        key: "/w/a".into(),
        kind,
        value: value.into(),
        previous: previous.map(Bytes::from),
    };
    let created = event(start + 1, EventKind::Put { created: true }, "1", None);
    let updated = event(start + 3, EventKind::Put { created: false }, "2", Some("1"));
    let deleted = event(last, EventKind::Delete, "", Some("2"));
    assert_eq!(take(&mut live, 2).await, [updated.clone(), deleted.clone()]);
    assert_eq!(take(&mut future, 2).await, [updated.clone(), deleted.clone()]);
    assert_eq!(take(&mut everything, 4).await.len(), 4);
    for (after, expected) in [
        (start, vec![created, updated.clone(), deleted.clone()]),
        (start + 2, vec![updated, deleted.clone()]),
        (last - 1, vec![deleted]),
        (last, vec![]),
    ] {
        let mut replay = store.watch("/w/", after).await.expect("within the window");
        assert_eq!(take(&mut replay, expected.len()).await, expected, "after {after}");
        assert!(replay.try_next().is_none());
    }
    store.compact(start + 1).await.expect("works");
    match store.watch("/w/", start).await.map(|_| ()) {
        Err(WatchError::Compacted { oldest }) => assert_eq!(oldest, start + 1),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.stats().await.expect("works").oldest, start + 1);
    assert_eq!(take(&mut store.watch("/w/", start + 1).await.expect("the oldest"), 2).await.len(), 2);
    let both = vec![Write::put("/w/a", "1"), Write::put("/w/b", "1")];
    store.commit_all(both).await.expect("any");
    let batch = live.next().await.expect("open").expect("events");
    assert_eq!(batch.len(), 2, "one revision is one batch");
}

/// Increments by many, each of which must be counted once, and one watcher who must see each.
async fn concurrent_writers(store: &Arc<dyn Store>) {
    const WRITERS: u64 = 16;
    const EACH: u64 = 20;
    let start = store.commit(Write::put("/c/n", "0")).await.expect("any");
    let mut watch = store.watch("/c/", start).await.expect("current");
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..EACH {
                    increment(&*store, "/c/n").await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("does not panic");
    }
    let events = take(&mut watch, (WRITERS * EACH) as usize).await;
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event.value, (index + 1).to_string());
        assert_eq!(event.previous.as_deref(), Some(index.to_string().as_bytes()));
    }
    assert!(watch.try_next().is_none());
}

async fn increment(store: &dyn Store, key: &str) {
    let mut entry = store.get(key).await.expect("works").expect("exists");
    loop {
        let text = std::str::from_utf8(&entry.value).expect("a number");
        let next = text.parse::<u64>().expect("a number") + 1;
        match store.commit(Write::update(key, entry.revision, next.to_string())).await {
            Ok(_) => return,
            Err(CommitError::Mismatch { current, .. }) => entry = *current.expect("still exists"),
            Err(error) => panic!("{error}"),
        }
    }
}

async fn closes(store: &dyn Store) {
    let revision = store.revision().await.expect("works");
    let mut watch = store.watch("/", revision).await.expect("current");
    store.close().await;
    store.close().await;
    assert!(matches!(watch.next().await, Some(Err(WatchError::Store(StoreError::Closed)))));
    assert!(watch.next().await.is_none());
    assert!(matches!(store.get("/e/a").await, Err(StoreError::Closed)));
    assert!(matches!(
        store.commit(Write::put("/e/a", "")).await,
        Err(CommitError::Store(StoreError::Closed))
    ));
    assert!(matches!(
        store.watch("/", revision).await.map(|_| ()),
        Err(WatchError::Store(StoreError::Closed))
    ));
}

/// Takes events until there are `count`.
pub async fn take(watch: &mut Watch, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let batch: Batch = watch.next().await.expect("open").expect("events");
        assert!(!batch.is_empty());
        events.extend(batch.iter().map(|event| Event::clone(event)));
    }
    events
}

fn mismatch(result: Result<Revision, CommitError>) -> Option<Entry> {
    match result {
        Err(CommitError::Mismatch { index: 0, current }) => current.map(|entry| *entry),
        other => panic!("{other:?}"),
    }
}

/// What a store should hold: the same semantics in plain memory.
#[derive(Default)]
pub struct Model {
    pub entries: BTreeMap<Arc<str>, Entry>,
    pub events: Vec<Event>,
    pub revision: Revision,
}

impl Model {
    /// Does what [`Store::commit_all`] does; `None` is a mismatch.
    pub fn commit_all(&mut self, writes: &[Write]) -> Option<Revision> {
        let holds = |write: &Write| {
            let current = self.entries.get(&write.key);
            let expected = match write.expect {
                Expect::Any => true,
                Expect::Absent => current.is_none(),
                Expect::Revision(revision) => current.is_some_and(|entry| entry.revision == revision),
            };
            expected && (current.is_some() || write.change != Change::Delete)
        };
        if !writes.iter().all(holds) {
            return None;
        }
        debug_assert!(writes.iter().any(|write| write.change != Change::Keep), "refused before");
        self.revision += 1;
        for write in writes {
            self.apply(write);
        }
        Some(self.revision)
    }

    fn apply(&mut self, write: &Write) {
        let revision = self.revision;
        let old = self.entries.remove(&write.key);
        let (kind, value) = match &write.change {
            Change::Delete => (EventKind::Delete, Bytes::new()),
            Change::Keep => {
                self.entries.extend(old.map(|old| (write.key.clone(), old)));
                return;
            }
            Change::Put(value) => {
                let entry = Entry {
                    key: write.key.clone(),
                    value: value.clone(),
                    revision,
                    create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
                    version: old.as_ref().map_or(0, |old| old.version) + 1,
                };
                self.entries.insert(write.key.clone(), entry);
                (EventKind::Put { created: old.is_none() }, value.clone())
            }
        };
        let previous = old.map(|old| old.value);
        self.events.push(Event { revision, key: write.key.clone(), kind, value, previous });
    }
}
