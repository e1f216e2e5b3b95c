//! Where the cluster's state is kept: in a file of this server, or in an etcd cluster that servers share.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sampan_storage::etcd;
use sampan_storage::grpc::Endpoint;
use serde::Deserialize;

/// The `storage` part of a configuration.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawStorage {
    /// Where the cluster's state is kept: embedded, or etcd://HOST:PORT,… (with TLS etcds:// or https://)
    /// [default: embedded]
    #[arg(long = "storage", global = true, value_name = "PLACE")]
    pub place: Option<String>,
    /// Authority of etcd's certificates
    #[arg(long, global = true, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// Certificate by which etcd knows this server
    #[arg(long, global = true, value_name = "FILE")]
    pub etcd_certfile: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub etcd_keyfile: Option<PathBuf>,
}

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    Embedded,
    Etcd(Vec<Endpoint>),
}

impl RawStorage {
    pub fn or(self, other: RawStorage) -> RawStorage {
        RawStorage {
            place: self.place.or(other.place),
            etcd_cafile: self.etcd_cafile.or(other.etcd_cafile),
            etcd_certfile: self.etcd_certfile.or(other.etcd_certfile),
            etcd_keyfile: self.etcd_keyfile.or(other.etcd_keyfile),
        }
    }

    /// The same files, for another place: of no use where it is embedded.
    pub fn at(self, place: &str) -> RawStorage {
        if place == "embedded" {
            return RawStorage { place: Some(place.to_owned()), ..RawStorage::default() };
        }
        RawStorage { place: Some(place.to_owned()), ..self }
    }

    pub fn check(self) -> Result<Storage> {
        let files = [&self.etcd_cafile, &self.etcd_certfile, &self.etcd_keyfile];
        match self.place.as_deref() {
            None | Some("embedded") if files.iter().any(|file| file.is_some()) => {
                bail!("storage: etcd's certificates are given, but not where etcd is (--storage etcds://…)")
            }
            None | Some("embedded") => Ok(Storage::Embedded),
            Some(place) => {
                let found = etcd::endpoints(place, self.etcd_cafile, self.etcd_certfile, self.etcd_keyfile);
                Ok(Storage::Etcd(found.context("storage")?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_is_named_with_its_members() {
        let read = |yaml: &str| yaml_serde::from_str::<RawStorage>(yaml).expect("known fields").check();
        assert_eq!(read("{}").expect("valid"), Storage::Embedded);
        let Storage::Etcd(members) = read("place: etcd://a:2379,b").expect("valid") else {
            panic!("is etcd")
        };
        assert_eq!(members.len(), 2);
        for wrong in ["place: redis://a", "place: etcds://a", "etcdCafile: ca.crt"] {
            assert!(format!("{:#}", read(wrong).expect_err("refused")).starts_with("storage"), "{wrong}");
        }
    }
}
