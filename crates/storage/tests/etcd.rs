//! The store in etcd, against a real one.

use std::sync::Arc;

use sampan_storage::encryption::{Encryption, GroupResource, KeyFile, Rules};
use sampan_storage::etcd::{EtcdOptions, EtcdStore};
use sampan_storage::testing::{conformance, take};
use sampan_storage::{CommitError, Expect, Revision, Store, StoreError, WatchError, Write};

mod etcd_server;

use etcd_server::{Etcd, Line, own_address};

async fn open(etcd: &Etcd) -> EtcdStore {
    EtcdStore::open(vec![etcd.endpoint()], EtcdOptions::default()).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let etcd = Etcd::start(&[]);
    conformance(Arc::new(open(&etcd).await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_encrypted() {
    let etcd = Etcd::start(&[]);
    let dir = tempfile::TempDir::new().expect("a directory");
    let keys = KeyFile::create(&dir.path().join("keys.json")).expect("creates");
    let provider = Arc::new(keys.provider());
    let of = |_: &str| GroupResource { group: String::new(), resource: "pods".to_owned() };
    let encryption = Encryption::new(Box::new(of), Rules::one("secrets", &provider), Some(&provider));
    let store = sampan_storage::encryption::EncryptedStore::new(Arc::new(open(&etcd).await), encryption);
    conformance(Arc::new(store)).await;
}

/// As much as a restore adds, and what was counted before it.
const SHIFT: Revision = 1_000_000_123;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_revisions_that_were_shifted() {
    let etcd = Etcd::start(&[]);
    EtcdStore::go_on_after(vec![etcd.endpoint()], SHIFT).await.expect("works");
    conformance(Arc::new(open(&etcd).await)).await;
}

#[tokio::test]
async fn what_comes_from_elsewhere_is_later_than_what_was_seen() {
    let etcd = Etcd::start(&[]);
    let before = open(&etcd).await;
    let old = before.commit(Write::create("/a", "old")).await.expect("absent");
    let mut watch = before.watch("/", old).await.expect("current");
    EtcdStore::go_on_after(vec![etcd.endpoint()], SHIFT).await.expect("works");
    // Who took revisions as they were must not go on.
    while watch.next().await.is_some() {}
    assert!(matches!(before.get("/a").await, Err(StoreError::Closed)));
    let store = open(&etcd).await;
    let kept = store.get("/a").await.expect("works").expect("exists");
    assert!(kept.revision > old && kept.revision == kept.create_revision, "{kept:?}");
    let stale = store.commit(Write::update("/a", old, "stale")).await;
    assert!(matches!(stale, Err(CommitError::Mismatch { current: Some(current), .. }) if *current == kept));
    assert!(matches!(store.watch("/", old).await.map(|_| ()), Err(WatchError::Compacted { .. })));
    let new = store.commit(Write::update("/a", kept.revision, "new")).await.expect("is as it was read");
    assert!(new > SHIFT, "{new}");
    assert_eq!(store.stats().await.expect("works").entries, 1, "without what is the store's own");
    // Nothing goes back.
    EtcdStore::go_on_after(vec![etcd.endpoint()], SHIFT / 2).await.expect("works");
    assert_eq!(open(&etcd).await.get("/a").await.expect("works").expect("exists").revision, new);
}

#[tokio::test]
async fn what_one_server_writes_another_one_reads_and_watches() {
    let etcd = Etcd::start(&[]);
    let (one, other) = (open(&etcd).await, open(&etcd).await);
    let start = other.revision().await.expect("works");
    let mut watch = other.watch("/registry/", start).await.expect("current");
    let mut last = start;
    for index in 0..20 {
        last = one.commit(Write::create(format!("/registry/{index:02}"), "1")).await.expect("absent");
        assert_eq!(other.revision().await.expect("works"), last, "as fresh as the store");
        assert_eq!(other.list("/registry/").await.expect("works").entries.len(), index + 1);
    }
    assert_eq!(take(&mut watch, 20).await.last().map(|event| event.revision), Some(last));
    let third = open(&etcd).await;
    assert_eq!(third.list("").await.expect("works"), other.list("").await.expect("works"));
    assert_eq!(third.stats().await.expect("works").entries, 20, "without what is the store's own");
    let reads = other.get("/registry/00").await.expect("works").expect("exists");
    one.commit(Write::put("/registry/00", "2")).await.expect("any");
    let late = other.commit(Write::update("/registry/00", reads.revision, "3")).await;
    assert!(matches!(late, Err(CommitError::Mismatch { index: 0, current: Some(_) })));
}

#[tokio::test]
async fn an_etcd_that_is_started_again_is_found_again() {
    let mut etcd = Etcd::start(&[]);
    let store = open(&etcd).await;
    let first = store.commit(Write::create("/a", "1")).await.expect("absent");
    let mut watch = store.watch("/a", first).await.expect("current");
    etcd.restart();
    let second = loop {
        match store.commit(Write::update("/a", first, "2")).await {
            Ok(revision) => break revision,
            Err(CommitError::Store(_)) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(take(&mut watch, 1).await[0].revision, second, "the watch goes on");
    assert_eq!(store.get("/a").await.expect("works").map(|entry| entry.revision), Some(second));
}

#[tokio::test]
async fn lists_have_many_pages() {
    let etcd = Etcd::start(&[]);
    let store = open(&etcd).await;
    let value = "x".repeat(3000);
    for chunk in (0..3000).collect::<Vec<u32>>().chunks(100) {
        let writes = chunk.iter().map(|index| Write::create(format!("/l/{index:05}"), value.clone()));
        store.commit_all(writes.collect()).await.expect("absent");
    }
    let snapshot = store.list("/l/").await.expect("works");
    assert_eq!(snapshot.entries.len(), 3000);
    assert!(snapshot.entries.is_sorted_by(|a, b| a.key < b.key));
    let mut scan = store.scan("").await.expect("works");
    let mut entries = Vec::new();
    while let Some(part) = scan.next().await {
        entries.extend(part.expect("works"));
    }
    assert_eq!((entries, scan.revision), (snapshot.entries, snapshot.revision));
}

/// Increments over a line that swallows answers and breaks, over and over: each happens once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_happens_once() {
    const EACH: u64 = 60;
    let etcd = Etcd::start(&[]);
    let line = Arc::new(Line::to(etcd.client).await);
    let store =
        Arc::new(EtcdStore::open(vec![line.endpoint()], EtcdOptions::default()).await.expect("opens"));
    let start = store.commit(Write::put("/n", "0")).await.expect("any");
    let mut watch = store.watch("/n", start).await.expect("current");
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..EACH {
                    increment(&*store).await;
                }
            })
        })
        .collect();
    let breaking = tokio::spawn({
        let (line, store) = (line.clone(), store.clone());
        async move {
            let mut seen = store.watch("/n", start).await.expect("current");
            loop {
                // Between events, so that something is always on its way.
                for _ in 0..10 {
                    seen.next().await.expect("open").expect("events");
                }
                line.mute();
                line.swallowed().await;
                line.cut();
            }
        }
    });
    for writer in writers {
        writer.await.expect("does not panic");
    }
    breaking.abort();
    assert!(breaking.await.expect_err("it has no end").is_cancelled());
    // It may have been waiting for an answer to swallow, which nobody asks for any more.
    line.cut();
    let value = store.get("/n").await.expect("works").expect("exists").value;
    assert_eq!(value, (4 * EACH).to_string(), "each acknowledged increment counts once");
    let events = take(&mut watch, (4 * EACH) as usize).await;
    assert!(events.iter().enumerate().all(|(index, event)| event.value == (index + 1).to_string()));
}

async fn increment(store: &dyn Store) {
    loop {
        let entry = store.get("/n").await.expect("works").expect("exists");
        let next = std::str::from_utf8(&entry.value).expect("text").parse::<u64>().expect("a number") + 1;
        match store.commit(Write::update("/n", entry.revision, next.to_string())).await {
            Ok(_) => return,
            Err(CommitError::Mismatch { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn who_missed_what_was_compacted_reads_again() {
    let etcd = Etcd::start(&[]);
    let line = Line::to(etcd.client).await;
    let store = EtcdStore::open(vec![line.endpoint()], EtcdOptions::default()).await.expect("opens");
    let other = open(&etcd).await;
    let start = store.commit(Write::put("/a", "1")).await.expect("any");
    let mut watch = store.watch("/", start).await.expect("current");
    line.mute();
    let last = other.commit(Write::put("/a", "2")).await.expect("any");
    other.commit(Write::put("/a", "3")).await.expect("any");
    other.compact(last).await.expect("works");
    line.cut();
    let Some(Err(WatchError::Lagged { after })) = watch.next().await else { panic!("events are missing") };
    assert_eq!(after, start);
    assert!(matches!(store.watch("/", after).await.map(|_| ()), Err(WatchError::Compacted { .. })));
    let snapshot = store.list("/").await.expect("works");
    assert_eq!(snapshot.entries[0].value, "3");
    let mut watch = store.watch("/", snapshot.revision).await.expect("current");
    store.commit(Write::delete("/a", Expect::Any)).await.expect("exists");
    assert_eq!(take(&mut watch, 1).await[0].previous.as_deref(), Some(&b"3"[..]));
}

#[tokio::test]
async fn a_cluster_without_room_says_so_and_heals() {
    let etcd = Etcd::start(&["--quota-backend-bytes", "8000000"]);
    let store = open(&etcd).await;
    let value = vec![7; 500_000];
    let full = loop {
        match store.commit(Write::put("/large", value.clone())).await {
            Err(CommitError::Store(StoreError::Full { reason })) => break reason,
            // A disk that is busy.
            Ok(_) | Err(CommitError::Store(StoreError::Unavailable { .. } | StoreError::Unknown { .. })) => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert!(full.contains("space exceeded"), "{full}");
    let revision = store.revision().await.expect("reads work");
    store.compact(revision).await.expect("works");
    store.defragment().await.expect("works");
    store.commit(Write::put("/large", value)).await.expect("there is room again");
}

#[tokio::test]
async fn nobody_there_is_an_error() {
    let line = {
        let etcd = Etcd::start(&[]);
        etcd.endpoint()
    };
    let error = EtcdStore::open(vec![line], EtcdOptions::default()).await.map(|_| ()).expect_err("nobody");
    assert!(error.to_string().contains("cannot connect to http://127."), "{error}");
}

/// An authority, and a certificate of it for an address, as files.
fn certificates(dir: &std::path::Path, address: std::net::Ipv4Addr) -> [std::path::PathBuf; 3] {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("signs");
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().expect("a key");
    let names = vec![address.to_string(), "localhost".to_owned()];
    let leaf = CertificateParams::new(names).expect("names").signed_by(&leaf_key, &issuer).expect("signs");
    let files = ["ca.crt", "etcd.crt", "etcd.key"].map(|name| dir.join(name));
    for (path, pem) in files.iter().zip([authority.pem(), leaf.pem(), leaf_key.serialize_pem()]) {
        std::fs::write(path, pem).expect("writes");
    }
    files
}

#[tokio::test]
async fn tls_knows_both_sides() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let address = own_address();
    let files = certificates(dir.path(), address);
    let [ca, certificate, key] = files.each_ref().map(|path| path.to_str().expect("text"));
    let etcd = Etcd::start_at(
        address,
        &[
            &format!("--cert-file={certificate}"),
            &format!("--key-file={key}"),
            &format!("--trusted-ca-file={ca}"),
            "--client-cert-auth",
        ],
    );
    let [ca, certificate, key] = files;
    let place = format!("etcds://{}", etcd.client);
    let members = sampan_storage::etcd::endpoints(&place, Some(ca.clone()), Some(certificate), Some(key));
    let store = EtcdStore::open(members.expect("valid"), EtcdOptions::default()).await.expect("opens");
    store.commit(Write::create("/a", "1")).await.expect("absent");
    assert_eq!(store.get("/a").await.expect("works").expect("exists").value, "1");
    let nobody = sampan_storage::etcd::endpoints(&place, Some(ca), None, None).expect("valid");
    let refused = EtcdStore::open(nobody, EtcdOptions::default()).await.map(|_| ());
    refused.expect_err("etcd wants to know who asks");
}

/// Two servers compact by turns what was current one turn before.
#[tokio::test]
async fn history_is_compacted_while_servers_run() {
    use sampan_storage::etcd::messages::{RANGE, Range};
    use sampan_storage::grpc::{CallError, Channel, Code};
    use std::time::Duration;
    let etcd = Etcd::start(&[]);
    let options = EtcdOptions { compact_every: Some(Duration::from_millis(50)), ..EtcdOptions::default() };
    let one = EtcdStore::open(vec![etcd.endpoint()], options.clone()).await.expect("opens");
    let _other = EtcdStore::open(vec![etcd.endpoint()], options).await.expect("opens");
    let first = one.commit(Write::put("/a", "1")).await.expect("any");
    one.commit(Write::put("/a", "2")).await.expect("any");
    let channel = Channel::new(etcd.endpoint(), 1 << 20);
    let then = Range { key: b"/a", revision: first, ..Range::default() }.encode();
    loop {
        match channel.call(RANGE, &then, Duration::from_secs(5)).await {
            Err(CallError::Status { code: Code::OutOfRange, .. }) => break,
            Ok(_) => tokio::task::yield_now().await,
            // etcd is busy.
            Err(
                CallError::Timeout(_) | CallError::Status { code: Code::Unavailable | Code::Unknown, .. },
            ) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(one.get("/a").await.expect("works").expect("exists").value, "2");
}
