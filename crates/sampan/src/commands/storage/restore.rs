//! `sampan storage restore`.
//!
//! The backup is read twice: first to see that all of it is as it was written and that its values will be
//! readable, then to make the store. Until then nothing is touched.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sampan_storage::backup::{self, Record};
use sampan_storage::encryption::{KeyFile, provider};
use sampan_storage::{Options, RedbStore, Write};

use super::migrate::Filling;
use super::{Place, size};
use crate::encryption::key_file_path;
use crate::server::store_path;

pub fn run(data_dir: &Path, file: &Path, force: bool) -> Result<()> {
    let open = || -> Result<_> {
        let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        Ok(BufReader::with_capacity(1 << 20, opened))
    };
    let mut files = Vec::new();
    let mut needed = BTreeSet::new();
    let summary = backup::verify(open()?, |record| match record {
        Record::Entry(entry) => needed.extend(provider::local_key(&entry.value).map(str::to_owned)),
        Record::File(file) => files.push(file.clone()),
    })
    .with_context(|| format!("{} is not restored", file.display()))?;

    let path = store_path(data_dir);
    check_files(data_dir, &files, force)?;
    check_keys(data_dir, &files, &needed)?;
    DirBuilder::new()
        .recursive(true)
        .create(path.parent().context("the store has no directory")?)
        .with_context(|| format!("cannot create {}", data_dir.display()))?;
    let kept = set_aside(&path, force)?;
    let restored = open().and_then(|input| Ok(backup::restore(input, &path)?));
    if let (Err(_), Some(kept)) = (&restored, &kept) {
        std::fs::rename(kept, &path).context("cannot put the store back that was there")?;
    }
    restored?;
    for file in &files {
        put(&data_dir.join(&file.path), &file.content)?;
    }
    let (entries, bytes) = (summary.entries, size(summary.bytes));
    eprintln!("{}: {entries} entries of revision {}, {bytes}", path.display(), summary.revision);
    if let Some(kept) = kept {
        eprintln!("the store that was there is now {}", kept.display());
    }
    Ok(())
}

/// Fills an empty etcd cluster. Its servers must have the keys that the backup's secrets need.
pub async fn into_etcd(place: &Place, file: &Path) -> Result<()> {
    let open_file = || -> Result<_> {
        let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        Ok(BufReader::with_capacity(1 << 20, opened))
    };
    let mut needed = BTreeSet::new();
    backup::verify(open_file()?, |record| {
        if let Record::Entry(entry) = record {
            needed.extend(provider::local_key(&entry.value).map(str::to_owned));
        }
    })
    .with_context(|| format!("{} is not restored", file.display()))?;
    check_keys(&place.data_dir, &[], &needed)?;
    let mut reader = backup::Reader::new(open_file()?)?;
    let mut filling = Filling::new(place, reader.revision().saturating_add(backup::BUMP)).await?;
    while let Some(record) = reader.next_record()? {
        if let Record::Entry(entry) = record {
            filling.push(Write::create(entry.key, entry.value)).await?;
        }
    }
    filling.finish().await
}

/// Refuses a store that is there, or moves it out of the way. Answers where to.
fn set_aside(path: &Path, force: bool) -> Result<Option<PathBuf>> {
    if !path.exists() {
        return Ok(None);
    }
    if !force {
        bail!("there is a store at {} already; --force puts the backup in its place", path.display());
    }
    // Its lock says whether a server runs. One that is damaged may be replaced all the same.
    if let Err(error @ sampan_storage::StoreError::Locked { .. }) = RedbStore::open(path, Options::default())
    {
        return Err(error).context("stop the server first");
    }
    let kept = (1..)
        .map(|number| path.with_extension(format!("redb.replaced-{number}")))
        .find(|kept| !kept.exists());
    let kept = kept.context("there is no free name for the store that is there")?;
    std::fs::rename(path, &kept).with_context(|| format!("cannot move {}", path.display()))?;
    Ok(Some(kept))
}

/// Files must lie where a backup takes them from, and not replace others unasked.
fn check_files(data_dir: &Path, files: &[backup::File], force: bool) -> Result<()> {
    for file in files {
        let relative = Path::new(&file.path);
        let expected = relative == Path::new("encryption-keys.json") || relative.starts_with("pki");
        if !expected || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            bail!("the backup holds a file {:?}, which has no place in a data directory", file.path);
        }
        let place = data_dir.join(relative);
        if !force && std::fs::read(&place).is_ok_and(|content| content != file.content) {
            bail!("{} is another one than the backup's; --force replaces it", place.display());
        }
    }
    Ok(())
}

/// Refuses a backup whose values nobody will be able to read.
fn check_keys(data_dir: &Path, files: &[backup::File], needed: &BTreeSet<String>) -> Result<()> {
    let path = key_file_path(data_dir);
    // The backup's own keys are put there.
    if needed.is_empty() || files.iter().any(|file| data_dir.join(&file.path) == path) {
        return Ok(());
    }
    let keys = KeyFile::read(&path)?;
    let there: BTreeSet<&str> = keys.iter().flat_map(KeyFile::names).collect();
    match needed.iter().find(|name| !there.contains(name.as_str())) {
        None => Ok(()),
        Some(missing) => bail!(
            "the backup's secrets are encrypted with the key {missing:?}, which is not in {}; put the key file there that belongs to it",
            path.display()
        ),
    }
}

fn put(path: &Path, content: &[u8]) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let parent = path.parent().with_context(cannot)?;
    DirBuilder::new().recursive(true).mode(0o700).create(parent).with_context(cannot)?;
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .with_context(cannot)?;
    file.write_all(content).and_then(|()| file.sync_all()).with_context(cannot)?;
    std::fs::rename(&fresh, path).with_context(cannot)?;
    File::open(parent).and_then(|parent| parent.sync_all()).with_context(cannot)
}
