//! `sampan storage fsck`: is everything that is stored what somebody wrote?

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, bail};
use sampan_api::table::Table;
use sampan_storage::Entry;
use sampan_storage::encryption::{Encryption, KeyFile, Rules, provider};
use serde::Deserialize;

use super::{Place, is_running, open, size};
use crate::encryption::{key_file_path, resource_of};
use crate::server::store_path;

/// Faults that are shown one by one.
const SHOWN: u64 = 100;

/// What a stored object must have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: Option<String>,
}

pub async fn run(place: &Place) -> Result<ExitCode> {
    let data_dir = place.data_dir.as_path();
    if is_running(data_dir).await {
        bail!("a server runs on {}; stop it first", data_dir.display());
    }
    // Opening checks each page of the file.
    let store = match open(place).await {
        Ok(store) => store,
        Err(error) => {
            println!("{error:#}");
            println!(
                "restore a backup: sampan storage restore FILE --force --data-dir {}",
                data_dir.display()
            );
            return Ok(ExitCode::FAILURE);
        }
    };
    let keys = KeyFile::read(&key_file_path(data_dir))?;
    let local = keys.map(|keys| Arc::new(keys.provider()));
    let rules = match &local {
        Some(local) => Rules::one("secrets", local),
        None => Rules::none(),
    };
    let encryption = Encryption::new(Box::new(resource_of(&Table::builtin())), rules, local.as_ref());
    let mut report = Report::default();
    let mut scan = store.scan("").await?;
    let mut bytes = 0;
    while let Some(entries) = scan.next().await {
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                report.fault(format!("{error}"));
                break;
            }
        };
        for entry in entries {
            report.entries += 1;
            bytes += (entry.key.len() + entry.value.len()) as u64;
            if entry.create_revision > entry.revision || entry.revision > scan.revision || entry.version == 0
            {
                report.fault(format!("{}: its revisions cannot be", entry.key));
            }
            if let Some(fault) = look(&encryption, &entry, &mut report).await {
                report.fault(format!("{}: {fault}", entry.key));
            }
        }
    }
    let stats = store.stats().await?;
    if stats.entries != report.entries {
        report.fault(format!("{} entries were found of {}", report.entries, stats.entries));
    }
    if stats.live_bytes != bytes {
        report.fault(format!("{bytes} bytes were found of {}", stats.live_bytes));
    }
    store.close().await;
    println!(
        "{}: {} entries at revision {}, {}, {} of them encrypted by others, {} faults",
        store_path(data_dir).display(),
        report.entries,
        scan.revision,
        size(bytes),
        report.opaque,
        report.faults
    );
    Ok(if report.faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Default)]
struct Report {
    entries: u64,
    /// Values that only somebody else's keys decrypt.
    opaque: u64,
    faults: u64,
}

impl Report {
    fn fault(&mut self, text: String) {
        self.faults += 1;
        if self.faults <= SHOWN {
            println!("{text}");
        }
    }
}

/// What is wrong with an entry.
async fn look(encryption: &Encryption, entry: &Entry, report: &mut Report) -> Option<String> {
    let parts: Vec<&str> = entry.key.split('/').collect();
    let ["", "registry", rest @ ..] = parts.as_slice() else {
        return Some("its key is not below /registry".to_owned());
    };
    if rest.len() < 2 || rest.iter().any(|part| part.is_empty()) {
        return Some("its key is not that of an object".to_owned());
    }
    let encrypted = entry.value.starts_with(provider::ENCRYPTED_PREFIX);
    let value = match encryption.read(&entry.key, &entry.value).await {
        Ok(opened) => opened.value,
        Err(error) if encrypted && provider::local_key(&entry.value).is_none() => {
            tracing::debug!(%error, "not ours to decrypt");
            report.opaque += 1;
            return None;
        }
        Err(error) => return Some(error.to_string()),
    };
    let head: Head = match serde_json::from_slice(&value) {
        Ok(head) => head,
        Err(error) => {
            return Some(format!("it is no object (line {} column {})", error.line(), error.column()));
        }
    };
    if head.api_version.is_empty() || head.kind.is_empty() {
        return Some("it has no kind".to_owned());
    }
    let named = rest.last() == Some(&head.metadata.name.as_str());
    let placed =
        head.metadata.namespace.as_deref().is_none_or(|namespace| {
            namespace.is_empty() || rest.len() >= 3 && rest[rest.len() - 2] == namespace
        });
    (!named || !placed).then(|| "its key names another object".to_owned())
}
