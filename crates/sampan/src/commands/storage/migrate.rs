//! `sampan storage migrate`: a cluster's state from the server's own file to an etcd cluster, and back.
//!
//! No server may run meanwhile: the file's lock says so of the embedded store; of servers on etcd, the
//! administrator must know.

use std::fs::{File, OpenOptions};
use std::io::BufReader;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use sampan_storage::backup;
use sampan_storage::{CommitError, EtcdStore, Expect, Revision, Store, Write};

use super::{Place, is_running, open};
use crate::admin::{ROOT, now_s};
use crate::cluster_identity;
use crate::config::Storage;
use crate::server::store_path;

/// Entries and bytes of one transaction of etcd.
const AT_ONCE: usize = 100;
const BYTES_AT_ONCE: usize = 1 << 20;

pub async fn run(data_dir: &Path, from: &Storage, to: &Storage) -> Result<()> {
    if is_running(data_dir).await {
        bail!("a server runs on {}; stop it first", data_dir.display());
    }
    let place = |storage: &Storage| Place { data_dir: data_dir.to_owned(), storage: storage.clone() };
    match (from, to) {
        (Storage::Embedded, Storage::Etcd(_)) => {
            let from = open(&place(from)).await?;
            let moved = to_etcd(&*from, &place(to)).await;
            from.close().await;
            moved
        }
        (Storage::Etcd(_), Storage::Embedded) => {
            let from = open(&place(from)).await?;
            let moved = to_file(&*from, &store_path(data_dir)).await;
            from.close().await;
            moved
        }
        (Storage::Embedded, Storage::Embedded) | (Storage::Etcd(_), Storage::Etcd(_)) => {
            bail!("state moves from embedded to etcd://… or from etcd://… to embedded")
        }
    }
}

/// Keys and values as they are; each gets a new revision, after those that there were.
async fn to_etcd(from: &dyn Store, to: &Place) -> Result<()> {
    let mut scan = from.scan(ROOT).await?;
    let mut filling = Filling::new(to, scan.revision).await?;
    while let Some(entries) = scan.next().await {
        for entry in entries? {
            filling.push(Write::create(entry.key, entry.value)).await?;
        }
    }
    filling.finish().await
}

/// An empty etcd that is being filled.
pub struct Filling {
    to: Arc<dyn Store>,
    writes: Vec<Write>,
    bytes: usize,
    count: usize,
}

impl Filling {
    /// Everything that is filled in will be later than `revision`.
    pub async fn new(place: &Place, revision: Revision) -> Result<Self> {
        let Storage::Etcd(members) = &place.storage else { bail!("only an etcd is filled") };
        let to = open(place).await?;
        let mut there = to.scan(ROOT).await?;
        let is_empty = there.next().await.transpose()?.is_none_or(|entries| entries.is_empty());
        to.close().await;
        ensure!(is_empty, "etcd holds a cluster already; only an empty one is filled");
        EtcdStore::go_on_after(members.clone(), revision).await?;
        let to = open(place).await?;
        // Of the cluster that was there, whose keys need not be those of this one.
        match to.commit(Write::delete(cluster_identity::KEY, Expect::Any)).await {
            Ok(_) | Err(CommitError::Mismatch { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Filling { to, writes: Vec::new(), bytes: 0, count: 0 })
    }

    pub async fn push(&mut self, write: Write) -> Result<()> {
        let sampan_storage::Change::Put(value) = &write.change else { return Ok(()) };
        let bytes = write.key.len() + value.len();
        if self.writes.len() >= AT_ONCE || self.bytes + bytes > BYTES_AT_ONCE {
            self.flush().await?;
        }
        self.bytes += bytes;
        self.count += 1;
        self.writes.push(write);
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.bytes = 0;
        let writes = std::mem::take(&mut self.writes);
        if let Some(first) = writes.first() {
            let from = first.key.clone();
            let written = self.to.commit_all(writes).await;
            written.with_context(|| format!("cannot store {from} and what follows it"))?;
        }
        Ok(())
    }

    /// Writes what is left.
    pub async fn finish(mut self) -> Result<()> {
        self.flush().await?;
        eprintln!("etcd: {} entries, revision {}", self.count, self.to.revision().await?);
        self.to.close().await;
        Ok(())
    }
}

/// The same keys, values and revisions, and the counter as it was.
async fn to_file(from: &dyn Store, path: &Path) -> Result<()> {
    ensure!(!path.exists(), "there is a store at {} already; move it away", path.display());
    std::fs::create_dir_all(path.parent().context("the store has no directory")?)?;
    let between = path.with_extension("migration");
    let moved = through(from, path, &between).await;
    let _ = std::fs::remove_file(&between);
    let summary = moved?;
    eprintln!("{}: {} entries, revision {}", path.display(), summary.entries, summary.revision);
    Ok(())
}

/// Through a backup, which is verified before anything is made of it.
async fn through(from: &dyn Store, path: &Path, between: &Path) -> Result<backup::Summary> {
    let cannot = || format!("cannot write {}", between.display());
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(between);
    let mut out = tokio::fs::File::from_std(file.with_context(cannot)?);
    backup::write(from.scan(ROOT).await?, &[], now_s(), &mut out).await.with_context(cannot)?;
    let open = || File::open(between).map(|file| BufReader::with_capacity(1 << 20, file));
    backup::verify(open()?, |_| {})?;
    Ok(backup::put_as_is(open()?, path)?)
}
