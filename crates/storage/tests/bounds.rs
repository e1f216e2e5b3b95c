//! A week's writes in seconds: what is kept, and how large the file becomes.

use std::sync::Arc;

use sampan_storage::{Expect, HistoryBound, Options, RedbStore, Store, Write};
use tempfile::TempDir;

/// Writes of one commit: a group of what many clients do at once.
const AT_ONCE: usize = 500;

async fn commit(store: &RedbStore, writes: Vec<Write>) {
    for group in writes.chunks(AT_ONCE) {
        store.commit_all(group.to_vec()).await.expect("works");
    }
}

fn event(number: usize) -> String {
    format!("/registry/events/default/{number:07}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weeks_load_has_bounds() {
    let dir = TempDir::new().expect("a directory");
    let history = HistoryBound { events: 10_000, bytes: 4 << 20 };
    let options = Options { history, ..Options::default() };
    let store = Arc::new(RedbStore::open(dir.path().join("store"), options).expect("opens"));
    // What stays: 2000 objects of 2 kB.
    let objects =
        (0..2000).map(|number| Write::put(format!("/registry/pods/default/{number}"), vec![1; 2000]));
    commit(&store, objects.collect()).await;
    let first = store.stats().await.expect("works");
    let mut largest = first.file_bytes;
    // A hundred rounds: every node's lease, every pod's status, and events of which an hour's worth stays.
    let (events_each, events_kept) = (700, 2100);
    for round in 0..100usize {
        let leases =
            (0..50).map(|node| Write::put(format!("/registry/leases/kube-node-lease/{node}"), vec![2; 400]));
        let statuses = (0..250).map(|number| {
            let number = (round * 250 + number) % 2000;
            Write::put(format!("/registry/pods/default/{number}"), vec![round as u8; 2000 + round % 7 * 10])
        });
        let events =
            (0..events_each).map(|number| Write::create(event(round * events_each + number), vec![3; 700]));
        commit(&store, leases.chain(statuses).chain(events).collect()).await;
        let next = (round + 1) * events_each;
        if next > events_kept {
            let expired = next - events_kept - events_each..next - events_kept;
            commit(&store, expired.map(|number| Write::delete(event(number), Expect::Any)).collect()).await;
        }
        let stats = store.stats().await.expect("works");
        assert!(stats.history_events <= 10_000 && stats.history_bytes <= 4 << 20, "{stats:?}");
        assert!(stats.entries < 2000 + 50 + (events_kept + 2 * events_each) as u64, "{stats:?}");
        largest = largest.max(stats.file_bytes);
    }
    let stats = store.stats().await.expect("works");
    println!("{} commits' bytes live in {largest} bytes of file, {stats:?}", stats.live_bytes);
    assert!(stats.revision > 300, "much was written");
    // Room that is freed is used again: the file is a small multiple of what it holds, not of what passed.
    assert!(largest < 6 * stats.live_bytes, "{largest} bytes for {} that live", stats.live_bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_burst_leaves_is_given_back_while_writes_go_on() {
    let dir = TempDir::new().expect("a directory");
    let store = RedbStore::open(dir.path().join("store"), Options::default()).expect("opens");
    let burst = |number: u64| format!("/registry/configmaps/default/{number}");
    for number in 0..60 {
        store.commit(Write::put(burst(number), vec![1; 2 << 20])).await.expect("works");
    }
    let full = store.stats().await.expect("works").file_bytes;
    for number in 1..60 {
        store.commit(Write::delete(burst(number), Expect::Any)).await.expect("exists");
    }
    // Ordinary writes, as they would come anyway.
    for _ in 0..40 {
        store.commit(Write::put(burst(0), vec![2; 2 << 20])).await.expect("works");
    }
    let after = store.stats().await.expect("works").file_bytes;
    println!("{full} bytes became {after}");
    assert!(after < full / 2, "{full} bytes are still {after}");
}
