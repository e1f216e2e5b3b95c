//! What clients see of a store under faults, held against what one store that does one thing after the
//! other could have told them.
//!
//! `SAMPAN_HISTORY_ROUNDS` makes the rounds more or fewer, `SAMPAN_HISTORY_OPERATIONS` each longer.

use std::sync::Arc;

use sampan_storage::encryption::{EncryptedStore, Encryption, GroupResource, KeyFile, Rules};
use sampan_storage::etcd::{EtcdOptions, EtcdStore};
use sampan_storage::testing::workload::{Load, work};
use sampan_storage::{Fault, FaultyFile, Options, RedbStore, Store, Write};
use tempfile::TempDir;
use tokio::task::JoinHandle;

mod etcd_server;

use etcd_server::{Etcd, Line};

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().expect("a number"))
}

fn load(round: u64) -> Load {
    let operations = number("SAMPAN_HISTORY_OPERATIONS", 300) as u32;
    Load { seed: round, clients: 6, operations }
}

fn rounds() -> std::ops::Range<u64> {
    0..number("SAMPAN_HISTORY_ROUNDS", 2)
}

/// Checks what a load is told while something goes wrong over and over.
async fn checked(doors: &[Arc<dyn Store>], round: u64, wrong: JoinHandle<()>) {
    let worked = work(doors, load(round)).await;
    wrong.abort();
    match worked {
        Ok(count) => println!("round {round}: {count} operations"),
        Err(violation) => panic!("round {round}: {violation}"),
    }
}

fn nothing_wrong() -> JoinHandle<()> {
    tokio::spawn(async {})
}

/// Encrypts as a server does.
fn encrypted(store: Arc<dyn Store>, directory: &TempDir) -> Arc<dyn Store> {
    let keys = KeyFile::create(&directory.path().join("keys.json")).expect("creates");
    let provider = Arc::new(keys.provider());
    let of = |_: &str| GroupResource { group: String::new(), resource: "things".to_owned() };
    let encryption = Encryption::new(Box::new(of), Rules::one("things", &provider), Some(&provider));
    Arc::new(EncryptedStore::new(store, encryption))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_encrypted() {
    for round in rounds() {
        let directory = TempDir::new().expect("a directory");
        let store = RedbStore::open(directory.path().join("store"), Options::default()).expect("opens");
        let store = encrypted(Arc::new(store), &directory);
        checked(std::slice::from_ref(&store), round, nothing_wrong()).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_store_on_a_disk_that_fails() {
    for round in rounds() {
        let directory = TempDir::new().expect("a directory");
        let file = FaultyFile::default();
        let options = Options { faults: Some(file.clone()), ..Options::default() };
        let store: Arc<dyn Store> =
            Arc::new(RedbStore::open(directory.path().join("store"), options).expect("opens"));
        let wrong = tokio::spawn(failing(file, store.clone()));
        checked(std::slice::from_ref(&store), round, wrong).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_through_two_doors_whose_lines_break() {
    for round in rounds() {
        let etcd = Etcd::start(&[]);
        let (one, other) = (Arc::new(Line::to(etcd.client).await), Arc::new(Line::to(etcd.client).await));
        let doors = [door(&one).await, door(&other).await];
        let wrong = tokio::spawn(breaking([one, other], doors[0].clone()));
        checked(&doors, round, wrong).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_that_is_killed() {
    for round in rounds() {
        let mut etcd = Etcd::start(&[]);
        let options = EtcdOptions::default;
        let one = EtcdStore::open(vec![etcd.endpoint()], options()).await.expect("opens");
        let other = EtcdStore::open(vec![etcd.endpoint()], options()).await.expect("opens");
        let doors: [Arc<dyn Store>; 2] = [Arc::new(one), Arc::new(other)];
        let store = doors[0].clone();
        let wrong = tokio::spawn(async move {
            loop {
                // It takes a second or two until it serves again.
                some_events(&*store, 300).await;
                etcd.restart();
            }
        });
        checked(&doors, round, wrong).await;
    }
}

async fn door(line: &Line) -> Arc<dyn Store> {
    Arc::new(EtcdStore::open(vec![line.endpoint()], EtcdOptions::default()).await.expect("opens"))
}

/// Swallows answers and then cuts, one line after the other, each after some events.
async fn breaking(lines: [Arc<Line>; 2], store: Arc<dyn Store>) {
    for line in lines.iter().cycle() {
        some_events(&*store, 10).await;
        line.mute();
        line.swallowed().await;
        line.cut();
    }
}

/// Waits until so much has happened; a watch that breaks is something, too.
async fn some_events(store: &dyn Store, count: u32) {
    let Ok(revision) = store.revision().await else { return };
    let Ok(mut watch) = store.watch("", revision).await else { return };
    for _ in 0..count {
        if !matches!(watch.next().await, Some(Ok(_))) {
            return;
        }
    }
}

/// Fills the disk after some events, at another step each time, until a write failed for it.
async fn failing(file: FaultyFile, store: Arc<dyn Store>) {
    for step in (0..).map(|round| round * 7 % 20) {
        some_events(&*store, 10).await;
        file.set(Fault::FullAfter(step));
        while store.commit(Write::put("/registry/others", "")).await.is_ok() {}
        file.set(Fault::None);
    }
}
