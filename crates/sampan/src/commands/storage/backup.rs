//! `sampan storage backup`.

use std::io::{BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use futures_util::TryStreamExt as _;
use http_body_util::BodyExt as _;
use hyper::Method;
use sampan_storage::backup;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::io::StreamReader;

use super::{Place, is_running, open, size};
use crate::admin::{ROOT, key_files, now_s, socket_path};
use crate::commands::admin_socket::{answer, empty, request_on};

pub async fn run(place: &Place, output: &Path, with_keys: bool) -> Result<()> {
    if output == Path::new("-") {
        return to_stdout(place, with_keys).await;
    }
    let partial = partial(output);
    let written = to_file(place, &partial, with_keys).await;
    let verified = match written {
        // As it would be restored: what a disk or a connection broke is found now.
        Ok(()) => std::fs::File::open(&partial)
            .context("cannot read the backup again")
            .and_then(|file| Ok(backup::verify(BufReader::with_capacity(1 << 20, file), |_| {})?)),
        Err(error) => Err(error),
    };
    match verified {
        Ok(summary) => {
            std::fs::rename(&partial, output)
                .with_context(|| format!("cannot move the backup to {}", output.display()))?;
            let (entries, bytes) = (summary.entries, size(summary.bytes));
            eprintln!("{}: {entries} entries at revision {}, {bytes}", output.display(), summary.revision);
            Ok(())
        }
        Err(error) => {
            let _ = std::fs::remove_file(&partial);
            Err(error)
        }
    }
}

/// Where a backup is until it is whole.
fn partial(output: &Path) -> PathBuf {
    let mut name = output.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

async fn to_file(place: &Place, path: &Path, with_keys: bool) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(cannot)?;
    let mut out = tokio::fs::File::from_std(file);
    copy(place, with_keys, &mut out).await?;
    out.sync_all().await.with_context(cannot)
}

/// What is piped on is verified on its way, so that its end says whether it is whole.
async fn to_stdout(place: &Place, with_keys: bool) -> Result<()> {
    let (mut near, far) = tokio::io::duplex(1 << 20);
    let verifying = tokio::task::spawn_blocking({
        let far = tokio_util::io::SyncIoBridge::new(far);
        move || backup::verify(far, |_| {})
    });
    let copied = async {
        let mut source = source(place, with_keys).await?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = source.read(&mut buffer).await.context("the backup broke off")?;
            if count == 0 {
                return Ok(());
            }
            let part = buffer[..count].to_vec();
            tokio::task::spawn_blocking(move || {
                let mut out = std::io::stdout().lock();
                out.write_all(&part).and_then(|()| out.flush())
            })
            .await?
            .context("cannot write the backup")?;
            if near.write_all(&buffer[..count]).await.is_err() {
                // The verifier has seen enough, and says of what.
                return Ok(());
            }
        }
    }
    .await;
    drop(near);
    let verified: Result<_> = verifying.await?.map_err(Into::into);
    copied.and(verified.map(|_| ()))
}

async fn copy(place: &Place, with_keys: bool, out: &mut tokio::fs::File) -> Result<()> {
    let mut source = source(place, with_keys).await?;
    tokio::io::copy(&mut source, out).await.context("the backup broke off")?;
    out.flush().await?;
    Ok(())
}

type Source = Box<dyn AsyncRead + Send + Unpin>;

/// The bytes of a backup: from the server if one runs, else of the store file.
async fn source(place: &Place, with_keys: bool) -> Result<Source> {
    if is_running(&place.data_dir).await {
        let path = format!("/storage/backup?keys={with_keys}");
        let (_connection, response) =
            request_on(&socket_path(&place.data_dir), Method::GET, &path, empty()).await?;
        if !response.status().is_success() {
            answer(response).await?;
            bail!("the server gave no backup");
        }
        let frames = response.into_data_stream().map_err(std::io::Error::other);
        return Ok(Box::new(StreamReader::new(frames)));
    }
    let store = open(place).await?;
    let files = if with_keys { key_files(&place.data_dir)? } else { Vec::new() };
    let scan = store.scan(ROOT).await?;
    let (mut writer, reader) = tokio::io::duplex(1 << 20);
    tokio::spawn(async move {
        if let Err(error) = backup::write(scan, &files, now_s(), &mut writer).await {
            eprintln!("error: {error}");
        }
        store.close().await;
    });
    Ok(Box::new(reader))
}
