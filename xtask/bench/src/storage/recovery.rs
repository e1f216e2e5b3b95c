//! From the start on two gigabytes, left behind as a crash leaves them, until the first answer.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use sampan_storage::{Options, RedbStore, Store as _, Write};
use sampan_testkit::Sandbox;
use sampan_testkit::etcd::Member;

use crate::client::{CLIENTS, inside};
use crate::etcd;
use crate::figure::Figure;

const OBJECTS: usize = 500_000;
const VALUE_BYTES: usize = 4_000;
/// Objects of one commit, while the store is filled.
const BATCH: usize = 500;
/// etcd refuses writes beyond 2 GB unless it is told otherwise.
const QUOTA: &str = "--quota-backend-bytes=8589934592";

pub fn measure() -> Result<Vec<Figure>> {
    let sandbox = Sandbox::start()?;
    let directory = sandbox.directory().to_owned();
    let (first, all) = inside(&sandbox, move || ours(directory))?;
    let member = Member::alone();
    let peer = match etcd::start(&sandbox, &member, &[QUOTA])? {
        Some(etcd) => {
            inside(&sandbox, fill_etcd)?;
            etcd.kill()?;
            let began = Instant::now();
            let again = etcd::start(&sandbox, &member, &[QUOTA])?;
            inside(&sandbox, || async { etcd::Client::connect(&Member::alone(), 1).await })?;
            let took = began.elapsed().as_secs_f64();
            drop(again);
            Some(took)
        }
        None => None,
    };
    sandbox.stop()?;
    Ok(vec![
        Figure::lower("a store of 2 GB after a crash, until it answers", first, "s").against(
            etcd::NAME,
            peer,
            1.0,
        ),
        Figure::lower("  until everything is read", all, "s"),
    ])
}

/// Seconds until one object is read, and until all are.
async fn ours(directory: std::path::PathBuf) -> Result<(f64, f64)> {
    let (filled, crashed) = (directory.join("filled"), directory.join("crashed"));
    let store = RedbStore::open(&filled, Options::default())?;
    for batch in 0..OBJECTS / BATCH {
        let writes = (0..BATCH).map(|number| Write::create(key(batch * BATCH + number), value(number)));
        store.commit_all(writes.collect()).await?;
    }
    // What is on the disk while it is open is what a crash leaves.
    copy_all(&filled, &crashed)?;
    store.close().await;
    drop(store);
    remove_all(&filled)?;
    let began = Instant::now();
    let store = RedbStore::open(&crashed, Options::default())?;
    ensure!(store.get(&key(OBJECTS / 2)).await?.is_some(), "an object is gone");
    let first = began.elapsed().as_secs_f64();
    let (mut scan, mut count) = (store.scan("").await?, 0);
    while let Some(part) = scan.next().await {
        count += part?.len();
    }
    let all = began.elapsed().as_secs_f64();
    ensure!(count == OBJECTS, "{count} objects of {OBJECTS} are there");
    store.close().await;
    drop(store);
    remove_all(&crashed)?;
    Ok((first, all))
}

/// The files whose names begin with that of a store: it, and its mark.
fn files(store: &Path) -> Result<Vec<std::path::PathBuf>> {
    let (directory, name) = (store.parent().context("a directory")?, store.file_name().context("a name")?);
    let name = name.to_string_lossy();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&*name) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let prefix = from.to_string_lossy().into_owned();
    for file in files(from)? {
        let rest = file.to_string_lossy().strip_prefix(&prefix).unwrap_or_default().to_owned();
        std::fs::copy(&file, format!("{}{rest}", to.display()))?;
    }
    Ok(())
}

fn remove_all(store: &Path) -> Result<()> {
    files(store)?.iter().try_for_each(|file| Ok(std::fs::remove_file(file)?))
}

async fn fill_etcd() -> Result<()> {
    let clients = etcd::Client::connect(&Member::alone(), CLIENTS).await?;
    let filling = clients.iter().enumerate().map(|(index, client)| async move {
        for number in (index..OBJECTS).step_by(CLIENTS) {
            client.put(key(number).as_bytes(), &value(number)).await?;
        }
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(filling).await.map(drop)
}

fn key(number: usize) -> String {
    format!("/registry/configmaps/default/map-{number:07}")
}

fn value(number: usize) -> Vec<u8> {
    vec![b'a' + (number % 26) as u8; VALUE_BYTES]
}
