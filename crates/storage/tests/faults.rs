//! Disks that lose power, fill up, break, and forget.
//!
//! `SAMPAN_FAULT_ROUNDS` makes the rounds more or fewer.

use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use sampan_storage::testing::Model;
use sampan_storage::{
    CommitError, Entry, Expect, Fault, FaultyFile, Operation, Options, RedbStore, Store, StoreError, Write,
};
use tempfile::TempDir;

/// What a disk writes at once.
const SECTOR: usize = 512;

fn rounds() -> u64 {
    std::env::var("SAMPAN_FAULT_ROUNDS").map_or(200, |text| text.parse().expect("a number"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn options(faults: Option<&FaultyFile>) -> Options {
    Options { faults: faults.cloned(), cache_bytes: 1 << 20, ..Options::default() }
}

/// A commit of some writes to some of forty keys, none of which is refused.
fn writes(random: &mut StdRng, model: &Model) -> Vec<Write> {
    let mut keys: Vec<u32> = (0..40).collect();
    keys.shuffle(random);
    let count = random.random_range(1..6);
    let write = |number: u32, random: &mut StdRng| {
        let key = format!("/registry/things/{number:02}");
        if model.entries.contains_key(key.as_str()) && random.random_ratio(1, 4) {
            return Write::delete(key, Expect::Any);
        }
        let length = [10, 300, 3000, 20_000][random.random_range(0..4)];
        Write::put(key, vec![random.random::<u8>(); length])
    };
    keys.into_iter().take(count).map(|number| write(number, random)).collect()
}

/// The file that says what was acknowledged.
fn mark(store: &Path) -> PathBuf {
    store.with_extension("acknowledged")
}

fn entries(model: &Model) -> Vec<Entry> {
    model.entries.values().cloned().collect()
}

/// What a disk holds whose power went after `cut` operations: everything up to the last sync, and of what
/// came after it some sectors, in some order.
fn image(base: &[u8], operations: &[Operation], cut: usize, random: &mut StdRng) -> Vec<u8> {
    let done = &operations[..cut];
    let synced =
        done.iter().rposition(|operation| matches!(operation, Operation::Sync)).map_or(0, |at| at + 1);
    let mut disk = base.to_vec();
    for operation in &done[..synced] {
        match operation {
            Operation::Write { offset, data } => put(&mut disk, *offset as usize, data),
            Operation::SetLength(length) => disk.resize(*length as usize, 0),
            Operation::Sync => {}
        }
    }
    let mut lost = Vec::new();
    for operation in &done[synced..] {
        match operation {
            Operation::Write { offset, data } => {
                // Sectors are those of the disk, wherever a write begins.
                let mut at = *offset as usize;
                let mut rest = &data[..];
                while !rest.is_empty() {
                    let (sector, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                    lost.push((at, Some(sector)));
                    at += sector.len();
                    rest = after;
                }
            }
            Operation::SetLength(length) => lost.push((*length as usize, None)),
            Operation::Sync => {}
        }
    }
    // All, none, or some of it.
    let share = [0.0, 0.1, 0.5, 0.9, 1.0][random.random_range(0..5)];
    lost.retain(|_| random.random_bool(share));
    lost.shuffle(random);
    for (at, sector) in lost {
        match sector {
            Some(sector) => put(&mut disk, at, sector),
            None => disk.resize(at, 0),
        }
    }
    disk
}

fn put(disk: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if disk.len() < offset + data.len() {
        disk.resize(offset + data.len(), 0);
    }
    disk[offset..offset + data.len()].copy_from_slice(data);
}

#[test]
fn what_was_acknowledged_survives_torn_writes() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("store");
    let mut random = StdRng::seed_from_u64(1);
    drop(RedbStore::open(&path, options(None)).expect("opens"));
    let base = std::fs::read(&path).expect("reads");
    let faults = FaultyFile::default();
    let mut model = Model::default();
    // After so many operations, this was acknowledged.
    let mut acknowledged = vec![(0, model.revision, entries(&model))];
    runtime().block_on(async {
        let store = RedbStore::open(&path, options(Some(&faults))).expect("opens");
        for _ in 0..80 {
            let writes = writes(&mut random, &model);
            model.commit_all(&writes).expect("no expectation fails");
            let revision = store.commit_all(writes).await.expect("works");
            assert_eq!(revision, model.revision);
            acknowledged.push((faults.count(), revision, entries(&model)));
        }
        store.close().await;
    });
    let operations = faults.operations();
    assert!(operations.len() > 500, "{} operations", operations.len());
    let torn = dir.path().join("torn");
    let (mut at_last, mut ahead) = (0, 0);
    for round in 0..rounds() {
        let cut = random.random_range(0..=operations.len());
        std::fs::write(&torn, image(&base, &operations, cut, &mut random)).expect("writes");
        // Of an earlier round.
        let _ = std::fs::remove_file(mark(&torn));
        let last = acknowledged.iter().rposition(|(count, ..)| *count <= cut).expect("the first one");
        runtime().block_on(async {
            let store = RedbStore::open(&torn, options(None))
                .unwrap_or_else(|error| panic!("round {round}, cut at {cut}: {error}"));
            let found = store.list("").await.expect("works");
            let allowed = &acknowledged[last..(last + 2).min(acknowledged.len())];
            let at = allowed
                .iter()
                .position(|(_, revision, entries)| (*revision, entries) == (found.revision, &found.entries));
            match at {
                Some(0) => at_last += 1,
                Some(_) => ahead += 1,
                None => {
                    panic!("round {round}, cut at {cut}: revision {} of {}", found.revision, allowed[0].1)
                }
            }
            let next = store.commit(Write::put("/registry/next/a", "1")).await.expect("writes on");
            assert_eq!(next, found.revision + 1);
            store.close().await;
            let store = RedbStore::open(&torn, options(None)).expect("opens again");
            assert_eq!(store.list("").await.expect("works").entries.len(), found.entries.len() + 1);
        });
    }
    println!("{at_last} ended at the last acknowledged commit, {ahead} at the one under way");
    assert!(at_last > 0 && (ahead > 0 || rounds() < 100), "cuts meet both");
}

/// A store of every kind of page, closed, and what it holds.
fn sample(path: &Path) -> (Vec<Entry>, u64) {
    let mut random = StdRng::seed_from_u64(2);
    let mut model = Model::default();
    runtime().block_on(async {
        let store = RedbStore::open(path, options(None)).expect("opens");
        for _ in 0..60 {
            let writes = writes(&mut random, &model);
            model.commit_all(&writes).expect("no expectation fails");
            store.commit_all(writes).await.expect("works");
        }
        // Enough small ones for branches.
        for batch in 0..4 {
            let writes: Vec<Write> = (0..200)
                .map(|index| Write::put(format!("/registry/many/{:04}", batch * 200 + index), vec![7; 60]))
                .collect();
            model.commit_all(&writes).expect("no expectation fails");
            store.commit_all(writes).await.expect("works");
        }
        store.close().await;
    });
    (entries(&model), model.revision)
}

#[test]
fn a_flipped_bit_is_never_read() {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("store");
    let (expected, revision) = sample(&path);
    let good = std::fs::read(&path).expect("reads");
    let bent = dir.path().join("bent");
    let mut random = StdRng::seed_from_u64(3);
    // The bytes of the header, and something of every sector that holds anything.
    let sectors = (1..good.len() / SECTOR)
        .filter(|sector| good[sector * SECTOR..(sector + 1) * SECTOR].iter().any(|byte| *byte != 0));
    let mut places: Vec<usize> = (0..SECTOR.min(good.len())).collect();
    places.extend(sectors.map(|sector| sector * SECTOR + random.random_range(0..SECTOR)));
    // As many as there is time for, in equal steps through the file.
    let step = (places.len() as u64).div_ceil(2 * rounds()).max(1) as usize;
    let (mut found, mut harmless) = (0, 0);
    for place in places.into_iter().step_by(step) {
        let mut content = good.clone();
        content[place] ^= 1 << random.random_range(0..8);
        std::fs::write(&bent, content).expect("writes");
        std::fs::copy(mark(&path), mark(&bent)).expect("copies");
        let read = runtime().block_on(async {
            let store = RedbStore::open(&bent, options(None))?;
            let list = store.list("").await?;
            for entry in &list.entries {
                assert_eq!(store.get(&entry.key).await?.as_ref(), Some(entry));
            }
            Ok::<_, StoreError>(list)
        });
        match read {
            Ok(list) => {
                assert_eq!(list.revision, revision, "byte {place}: something was lost without a word");
                assert!(list.entries == expected, "byte {place}: something else was read");
                harmless += 1;
            }
            Err(error @ (StoreError::Corrupt { .. } | StoreError::Format { .. })) => {
                assert!(error.to_string().contains("bent"), "names the file: {error}");
                found += 1;
            }
            Err(error) => panic!("byte {place}: {error}"),
        }
    }
    println!("{found} flips were found, {harmless} hit nothing that counts");
    assert!(found > harmless / 4 && found > 20);
}

#[test]
fn what_rots_while_the_store_runs_is_never_read() {
    use std::os::unix::fs::FileExt as _;
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("store");
    let (expected, _) = sample(&path);
    let good = std::fs::read(&path).expect("reads");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
    let mut random = StdRng::seed_from_u64(4);
    let mut found = 0;
    for _ in 0..rounds().min(60) {
        let place = random.random_range(SECTOR..good.len());
        runtime().block_on(async {
            // Nothing is kept in memory, so that reads ask the disk.
            let store =
                RedbStore::open(&path, Options { cache_bytes: 0, ..Options::default() }).expect("opens");
            let (bit, mut missed) = (1 << random.random_range(0..8), false);
            file.write_all_at(&[good[place] ^ bit], place as u64).expect("writes");
            for entry in &expected {
                match store.get(&entry.key).await {
                    Ok(Some(read)) => assert_eq!(&read, entry),
                    // No checksum of a value tells of a key that is not found: the check at the start does.
                    Ok(None) => missed = true,
                    Err(StoreError::Corrupt { .. }) => {
                        found += 1;
                        let error =
                            store.commit(Write::put("/registry/next/a", "1")).await.expect_err("stops");
                        assert!(error.to_string().contains("is corrupted"), "{error}");
                        break;
                    }
                    Err(error) => panic!("byte {place}: {error}"),
                }
            }
            store.close().await;
            if missed {
                let opened = RedbStore::open(&path, options(None)).map(|_| ());
                assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "byte {place}: {opened:?}");
            }
        });
        // The store may have written as it closed: put everything back.
        std::fs::write(&path, &good).expect("writes");
    }
    assert!(found > 0, "some of them hit a value");
}

#[test]
fn a_disk_that_is_full_at_any_step_loses_nothing() {
    for fault in [Fault::FullAfter as fn(u64) -> Fault, Fault::BrokenAfter] {
        for steps in 0.. {
            if fails_after(fault(steps), steps) {
                continue;
            }
            assert!(steps > 3, "a commit has some steps");
            break;
        }
    }
}

/// Answers whether the commit met the fault.
fn fails_after(fault: Fault, steps: u64) -> bool {
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("store");
    let faults = FaultyFile::default();
    let mut random = StdRng::seed_from_u64(5);
    let mut model = Model::default();
    runtime().block_on(async {
        let store = RedbStore::open(&path, options(Some(&faults))).expect("opens");
        let mut watch = store.watch("", 0).await.expect("current");
        for _ in 0..10 {
            let writes = writes(&mut random, &model);
            model.commit_all(&writes).expect("no expectation fails");
            store.commit_all(writes).await.expect("works");
        }
        let before = entries(&model);
        faults.set(fault);
        let large: Vec<Write> =
            (0..3).map(|index| Write::put(format!("/registry/large/{index}"), vec![9; 300_000])).collect();
        let result = store.commit_all(large.clone()).await;
        let met = result.is_err();
        if let Err(error) = &result {
            let full = matches!(fault, Fault::FullAfter(_));
            assert!(
                matches!(error, CommitError::Store(StoreError::Io { full: said, .. }) if *said == full || !full),
                "step {steps}: {error}"
            );
            assert!(error.to_string().contains("store"), "names the file: {error}");
        }
        faults.set(Fault::None);
        // Whole or not at all; and whichever it was, watches say the same.
        let after = store.list("").await.expect("reads again");
        let mut with = Model { entries: model.entries.clone(), events: Vec::new(), revision: model.revision };
        with.commit_all(&large).expect("no expectation fails");
        assert!(after.entries == before || after.entries == entries(&with), "step {steps}: half a commit");
        assert!(met || after.entries != before, "step {steps}: an acknowledged commit is lost");
        let revision = store.commit(Write::put("/registry/next/a", "1")).await.expect("there is room again");
        assert_eq!(revision, after.revision + 1);
        let mut seen = 0;
        while seen < revision {
            let batch = watch.next().await.expect("open").expect("events");
            assert!(batch[0].revision == seen + 1, "step {steps}: an event is missing or came twice");
            seen = batch[0].revision;
        }
        let all = store.list("").await.expect("works").entries;
        store.close().await;
        let store = RedbStore::open(&path, options(None)).expect("opens");
        assert_eq!(store.list("").await.expect("works").entries, all);
        met
    })
}
