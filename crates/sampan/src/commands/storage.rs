//! `sampan storage`: backups and the care of what a server stores.
//!
//! What a running server can do is asked of it over its socket; where none runs, the store file is opened
//! here.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use hyper::Method;
use sampan_storage::etcd::EtcdOptions;
use sampan_storage::{EtcdStore, Options, RedbStore, Store};

use super::admin_socket::{empty, send};
use crate::admin::{Rotated, StorageStats, collect, socket_path};
use crate::config::{DEFAULT_DATA_DIR, RawStorage, Storage};
use crate::server::store_path;

mod backup;
mod fsck;
mod migrate;
mod restore;

#[derive(Args, Debug)]
pub struct StorageArgs {
    #[command(subcommand)]
    command: StorageCommand,
    /// Data directory of the server
    #[arg(long, global = true, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Where the state is, when no server runs
    #[command(flatten)]
    storage: RawStorage,
}

/// A store, as its server finds it.
#[derive(Clone, Debug)]
struct Place {
    data_dir: PathBuf,
    storage: Storage,
}

#[derive(Subcommand, Debug)]
enum StorageCommand {
    /// Write everything that is stored, at one revision, to a file; the server may go on
    Backup {
        /// File to write; - is the standard output
        #[arg(short, long, value_name = "FILE", default_value = "-")]
        output: PathBuf,
        /// Put the keys of secrets and certificates in, too: who has the file then has every secret
        #[arg(long)]
        with_keys: bool,
    },
    /// Make the store of a backup; the server must not run
    Restore {
        file: PathBuf,
        /// Put it in the place of a store that is there, which is kept beside it
        #[arg(long)]
        force: bool,
    },
    /// Check every page, record, key and object; the server must not run
    Fsck,
    /// Give unused room back to the file system, and forget the history
    Compact,
    /// Print figures, by resource
    Stats {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Move the state from the server's file to etcd, or back; no server may run
    Migrate {
        /// embedded, or etcd://HOST:PORT,…
        from: String,
        /// The same; an empty one
        to: String,
    },
    /// Make a new key, encrypt everything with it, and forget the old one; the server goes on
    RotateKey,
}

impl StorageArgs {
    pub async fn run(self) -> Result<ExitCode> {
        let data_dir = std::path::absolute(&self.data_dir)?;
        if let StorageCommand::Migrate { from, to } = &self.command {
            let at = |place: &String| self.storage.clone().at(place).check();
            migrate::run(&data_dir, &at(from)?, &at(to)?).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let place = Place { data_dir: data_dir.clone(), storage: self.storage.check()? };
        match self.command {
            StorageCommand::Migrate { .. } => {}
            StorageCommand::Backup { output, with_keys } => backup::run(&place, &output, with_keys).await?,
            StorageCommand::Restore { file, force } => match &place.storage {
                Storage::Embedded => {
                    tokio::task::spawn_blocking(move || restore::run(&data_dir, &file, force)).await??;
                }
                Storage::Etcd(_) => restore::into_etcd(&place, &file).await?,
            },
            StorageCommand::Fsck => match &place.storage {
                Storage::Embedded => return fsck::run(&place).await,
                Storage::Etcd(_) => {
                    bail!("etcd checks what it stores itself; see etcdctl check and endpoint hashkv")
                }
            },
            StorageCommand::Compact => {
                let stats = figures(&place, true).await?;
                println!("{} entries, {} in the file", stats.entries, size(stats.file_bytes));
            }
            StorageCommand::Stats { json } => {
                let stats = figures(&place, false).await?;
                if json {
                    println!("{}", serde_json::to_string_pretty(&stats)?);
                } else {
                    print(&stats);
                }
            }
            StorageCommand::RotateKey => {
                let answer =
                    send(&socket_path(&data_dir), Method::POST, "/storage/rotate-key", empty()).await?;
                let done: Rotated = serde_json::from_value(answer)?;
                println!("encrypted {} of {} values anew", done.written, done.seen);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether a server answers on the data directory's socket.
async fn is_running(data_dir: &Path) -> bool {
    tokio::net::UnixStream::connect(socket_path(data_dir)).await.is_ok()
}

/// Opens the store of a server that does not run.
async fn open(place: &Place) -> Result<Arc<dyn Store>> {
    if let Storage::Etcd(members) = &place.storage {
        let options = EtcdOptions { compact_every: None, ..EtcdOptions::default() };
        return Ok(Arc::new(EtcdStore::open(members.clone(), options).await?));
    }
    let path = store_path(&place.data_dir);
    // Opening makes what is not there.
    anyhow::ensure!(path.exists(), "there is no store at {}", path.display());
    let opened = tokio::task::spawn_blocking(move || RedbStore::open(path, Options::default())).await??;
    Ok(Arc::new(opened))
}

/// Figures of the store, after compacting it if asked to.
async fn figures(place: &Place, compact: bool) -> Result<StorageStats> {
    if is_running(&place.data_dir).await {
        let (method, path) =
            if compact { (Method::POST, "/storage/compact") } else { (Method::GET, "/storage/stats") };
        let answer = send(&socket_path(&place.data_dir), method, path, empty()).await?;
        return Ok(serde_json::from_value(answer)?);
    }
    let store = open(place).await?;
    if compact {
        let revision = store.revision().await?;
        store.compact(revision).await?;
        store.defragment().await?;
    }
    let stats = collect(&*store).await?;
    store.close().await;
    Ok(stats)
}

fn print(stats: &StorageStats) {
    println!("revision  {}", stats.revision);
    println!("entries   {} ({})", stats.entries, size(stats.live_bytes));
    println!("file      {}", size(stats.file_bytes));
    println!(
        "history   {} events ({}) from revision {}, {} watches",
        stats.history_events,
        size(stats.history_bytes),
        stats.oldest_revision,
        stats.watches
    );
    println!();
    println!("{:<60} {:>8} {:>12} ENCRYPTED", "RESOURCE", "ENTRIES", "SIZE");
    for resource in &stats.resources {
        let name = &resource.resource;
        let encrypted = match resource.encrypted {
            0 => "no".to_owned(),
            count if count == resource.entries => "yes".to_owned(),
            count => format!("{count}"),
        };
        println!("{name:<60} {:>8} {:>12} {encrypted}", resource.entries, size(resource.bytes));
    }
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
