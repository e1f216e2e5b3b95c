//! Whose cluster it is that an etcd holds: servers that share one must have the same authorities and keys.
//!
//! The first server says by a record in the store what it has. Another one with other keys would refuse the
//! first one's clients and could not read its secrets, and is refused itself.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sampan_storage::encryption::KeyFile;
use sampan_storage::{CommitError, Entry, Store, Write};
use serde::{Deserialize, Serialize};

use crate::encryption::key_file_path;

/// Where the record is.
const KEY: &str = "/sampan/cluster";

/// What servers of one cluster have in common, as digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterIdentity {
    certificate_authority: String,
    /// Absent where all keys are in a configuration of the user's own.
    encryption_keys: Option<String>,
}

/// Refuses a server without the keys of a cluster that is there, before it makes keys of its own.
pub async fn check_before(store: &dyn Store, data_dir: &Path) -> Result<()> {
    let Some(found) = store.get(KEY).await? else { return Ok(()) };
    let theirs = decode(&found)?;
    let missing = !authority_path(data_dir).exists()
        || theirs.encryption_keys.is_some() && !key_file_path(data_dir).exists();
    if missing {
        bail!("the store holds a cluster whose keys this server does not have; {}", advice(data_dir));
    }
    Ok(())
}

/// Says what this server has, if it is the cluster's first, and compares it otherwise.
pub async fn claim(store: &dyn Store, data_dir: &Path) -> Result<()> {
    let path = authority_path(data_dir);
    let authority = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let keys = KeyFile::read(&key_file_path(data_dir))?;
    let ours = ClusterIdentity {
        certificate_authority: digest(&authority),
        encryption_keys: keys.map(|keys| keys.fingerprint()),
    };
    let record = serde_json::to_vec(&ours)?;
    let theirs = match store.commit(Write::create(KEY, record)).await {
        Ok(_) => return Ok(()),
        Err(CommitError::Mismatch { current: Some(current), .. }) => decode(&current)?,
        Err(error) => return Err(error.into()),
    };
    let keys_differ = theirs.encryption_keys.is_some() && theirs.encryption_keys != ours.encryption_keys;
    if keys_differ || theirs.certificate_authority != ours.certificate_authority {
        bail!("the store holds a cluster with other keys than this server's; {}", advice(data_dir));
    }
    Ok(())
}

fn advice(data_dir: &Path) -> String {
    format!(
        "copy the directory pki and the file encryption-keys.json from the data directory of one of its servers to {}",
        data_dir.display()
    )
}

fn authority_path(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("pki").join("ca.crt")
}

fn decode(entry: &Entry) -> Result<ClusterIdentity> {
    serde_json::from_slice(&entry.value).with_context(|| format!("what is stored at {KEY} is not ours"))
}

fn digest(bytes: &[u8]) -> String {
    BASE64.encode(sampan_storage::encryption::sha256(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_storage::{Options, RedbStore};

    fn server(root: &Path, name: &str, authority: &str) -> std::path::PathBuf {
        let dir = root.join(name);
        std::fs::create_dir_all(dir.join("pki")).expect("makes");
        std::fs::write(authority_path(&dir), authority).expect("writes");
        KeyFile::create(&key_file_path(&dir)).expect("makes");
        dir
    }

    #[tokio::test]
    async fn servers_with_other_keys_are_refused() {
        let root = tempfile::TempDir::new().expect("a directory");
        let store = RedbStore::open(root.path().join("store"), Options::default()).expect("opens");
        let first = server(root.path(), "first", "a");
        check_before(&store, &first).await.expect("nobody is there");
        claim(&store, &first).await.expect("the first");
        claim(&store, &first).await.expect("the same again");
        let other = server(root.path(), "other", "a");
        let error = claim(&store, &other).await.expect_err("another key file").to_string();
        assert!(error.contains("encryption-keys.json"), "{error}");
        std::fs::copy(key_file_path(&first), key_file_path(&other)).expect("copies");
        claim(&store, &other).await.expect("the same keys");
        std::fs::write(authority_path(&other), "b").expect("writes");
        claim(&store, &other).await.expect_err("another authority");
        std::fs::remove_file(authority_path(&other)).expect("is there");
        check_before(&store, &other).await.expect_err("no authority");
    }
}
