//! Whose cluster it is that an etcd holds: servers that share one must have the same authorities and keys.
//!
//! A record in the store says which. A server with other keys would refuse the others' clients and could not
//! read their secrets, and is refused itself. Keys are rotated by a server that runs alone: the record follows, and
//! the others start again when they have its files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use sampan_apiserver::identity::pki::Pki;
use sampan_apiserver::peers;
use sampan_apiserver::registry::Registry;
use sampan_storage::encryption::KeyFile;
use sampan_storage::{CommitError, Entry, Store, Write};
use serde::{Deserialize, Serialize};

use crate::encryption::key_file_path;

/// Where the record is.
pub const KEY: &str = "/sampan/keys";

/// Keys for one purpose, as digests: the newest, and those that are still good beside it while a rotation lasts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Keys {
    newest: String,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    older: BTreeSet<String>,
}

/// What servers of one cluster have in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClusterIdentity {
    authorities: Keys,
    front_proxy_authorities: Keys,
    token_keys: Keys,
    /// Absent where all keys are in a configuration of the user's own.
    encryption_keys: Option<Keys>,
}

impl Keys {
    fn of(newest_first: Vec<String>) -> Result<Self> {
        let mut keys = newest_first.into_iter();
        let newest = keys.next().context("there is no key")?;
        Ok(Keys { newest, older: keys.collect() })
    }

    /// Whether they are those, or those one step of a rotation later.
    fn follow(&self, before: &Keys) -> bool {
        let begun = self.older.contains(&before.newest) && self.older.is_superset(&before.older);
        let finished = self.newest == before.newest && self.older.is_subset(&before.older);
        begun || finished
    }
}

impl ClusterIdentity {
    fn of(pki: &Pki, data_dir: &Path) -> Result<Self> {
        let keys = pki.fingerprints();
        let encryption_keys = KeyFile::read(&key_file_path(data_dir))?;
        Ok(ClusterIdentity {
            authorities: Keys::of(keys.authorities)?,
            front_proxy_authorities: Keys::of(keys.front_proxy_authorities)?,
            token_keys: Keys::of(keys.token_keys)?,
            encryption_keys: encryption_keys.map(|keys| Keys::of(keys.fingerprints())).transpose()?,
        })
    }

    fn follows(&self, before: &ClusterIdentity) -> bool {
        let encryption = match (&self.encryption_keys, &before.encryption_keys) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(ours), Some(theirs)) => ours.follow(theirs),
        };
        encryption
            && self.authorities.follow(&before.authorities)
            && self.front_proxy_authorities.follow(&before.front_proxy_authorities)
            && self.token_keys.follow(&before.token_keys)
    }

    /// Says what this server has, if it is the cluster's first or one step further, and compares it otherwise.
    async fn claim(&self, store: &dyn Store, data_dir: &Path) -> Result<()> {
        let record = serde_json::to_vec(self)?;
        let mut write = Write::create(KEY, record.clone());
        loop {
            let found = match store.commit(write).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Mismatch { current: Some(current), .. }) => current,
                Err(error) => return Err(error.into()),
            };
            let before = decode(&found)?;
            if *self == before {
                return Ok(());
            }
            if !self.follows(&before) {
                bail!("the store holds a cluster with other keys than this server's; {}", advice(data_dir));
            }
            write = Write::update(KEY, found.revision, record.clone());
        }
    }
}

/// The keys of a server that shares its store with others.
pub struct SharedKeys {
    pub store: Arc<dyn Store>,
    pub registry: Arc<Registry>,
    pub pki: Arc<Pki>,
    pub node_name: String,
    pub data_dir: PathBuf,
}

impl SharedKeys {
    /// Refuses a rotation while others run that would go on with what they have.
    pub async fn check_alone(&self) -> Result<()> {
        let others = peers::others(&self.registry, &self.node_name).await?;
        if let Some(other) = others.first() {
            bail!(
                "another server runs at {other} with the same keys; stop all others (one that died counts for 15 s), and \
                 give them this one's when it is done, as docs/high-availability.md says"
            );
        }
        Ok(())
    }

    /// Says which keys there are now.
    pub async fn publish(&self) -> Result<()> {
        ClusterIdentity::of(&self.pki, &self.data_dir)?.claim(&*self.store, &self.data_dir).await
    }
}

/// Refuses a server without the keys of a cluster that is there, before it makes keys of its own.
pub async fn check_before(store: &dyn Store, data_dir: &Path) -> Result<()> {
    let Some(found) = store.get(KEY).await? else { return Ok(()) };
    let theirs = decode(&found)?;
    let missing = !data_dir.join("pki").join("ca.crt").exists()
        || theirs.encryption_keys.is_some() && !key_file_path(data_dir).exists();
    if missing {
        bail!("the store holds a cluster whose keys this server does not have; {}", advice(data_dir));
    }
    Ok(())
}

/// Says what this server has, or compares it with what the others have.
pub async fn claim(store: &dyn Store, pki: &Pki, data_dir: &Path) -> Result<()> {
    ClusterIdentity::of(pki, data_dir)?.claim(store, data_dir).await
}

fn advice(data_dir: &Path) -> String {
    format!(
        "copy the directory pki and the file encryption-keys.json from the data directory of one of its servers to {}, in \
         the place of what is there",
        data_dir.display()
    )
}

fn decode(entry: &Entry) -> Result<ClusterIdentity> {
    serde_json::from_slice(&entry.value).with_context(|| format!("what is stored at {KEY} is not ours"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sampan_storage::{Options, RedbStore};

    fn keys(newest_first: &[&str]) -> Keys {
        Keys::of(newest_first.iter().map(|key| (*key).to_owned()).collect()).expect("has one")
    }

    #[test]
    fn rotations_are_followed_step_by_step() {
        let check = |now: &[&str], before: &[&str], expected| {
            assert_eq!(keys(now).follow(&keys(before)), expected, "{now:?} after {before:?}");
        };
        check(&["a"], &["a"], true);
        check(&["b", "a"], &["a"], true);
        check(&["b"], &["b", "a"], true);
        check(&["c", "b", "a"], &["b", "a"], true);
        // What somebody has who did not get the new ones.
        check(&["a"], &["b", "a"], false);
        check(&["b", "a"], &["b"], false);
        check(&["a"], &["b"], false);
        // Two steps at once could be anybody's.
        check(&["b"], &["a"], false);
    }

    fn server(authority: &[&str], encryption: Option<&[&str]>) -> ClusterIdentity {
        ClusterIdentity {
            authorities: keys(authority),
            front_proxy_authorities: keys(&["f"]),
            token_keys: keys(&["t"]),
            encryption_keys: encryption.map(keys),
        }
    }

    #[tokio::test]
    async fn servers_with_other_keys_are_refused() {
        let root = tempfile::TempDir::new().expect("a directory");
        let store = RedbStore::open(root.path().join("store"), Options::default()).expect("opens");
        let claim = async |server: ClusterIdentity| server.claim(&store, root.path()).await;
        check_before(&store, root.path()).await.expect("nobody is there");
        let first = server(&["a"], Some(&["k"]));
        claim(first.clone()).await.expect("the first");
        claim(first.clone()).await.expect("the same again");
        let error = claim(server(&["a"], Some(&["other"]))).await.expect_err("another key file").to_string();
        assert!(error.contains("encryption-keys.json"), "{error}");
        claim(server(&["other"], Some(&["k"]))).await.expect_err("another authority");
        claim(server(&["a"], None)).await.expect_err("no key file");
        claim(server(&["b", "a"], Some(&["k"]))).await.expect("rotates");
        claim(first).await.expect_err("did not get the next authority");
        claim(server(&["b"], Some(&["k"]))).await.expect("rotated");
        claim(server(&["b", "a"], Some(&["k"]))).await.expect_err("trusts the old authority still");
        check_before(&store, root.path()).await.expect_err("no authority");
    }
}
