//! Documents made from the resource table: discovery, OpenAPI, version.
//!
//! They are made when someone asks, and kept until the table changes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use sampan_api::KUBERNETES_VERSION;
use sampan_api::discovery::{self, Format, Root};
use sampan_api::openapi;
use sampan_api::table::Table;
use serde_json::{Value, json};

use crate::aggregator::{Described, merge};
use crate::registry::Registry;

/// A document with its media type and entity tag.
#[derive(Clone)]
pub struct Document {
    pub bytes: Bytes,
    pub content_type: &'static str,
    pub etag: Arc<str>,
}

/// The documents of the current table.
pub struct Documents {
    registry: Arc<Registry>,
    /// `host:port` as clients reach the server.
    address: String,
    made: Mutex<Made>,
    /// What remote servers say of the groups that they answer.
    remotes: Mutex<Arc<[Described]>>,
}

/// What was made of one table.
struct Made {
    table: Table,
    documents: HashMap<String, Document>,
}

impl Documents {
    pub fn new(registry: Arc<Registry>, address: String) -> Self {
        let made = Mutex::new(Made { table: registry.table(), documents: HashMap::new() });
        Documents { registry, address, made, remotes: Mutex::default() }
    }

    /// The plain JSON document at a path, of what this server itself answers.
    pub fn get(&self, path: &str) -> Option<Bytes> {
        self.make(&self.registry.table(), path, Format::Legacy).map(Bytes::from)
    }

    /// Takes note of what remote servers say; what was made before is made anew.
    pub fn set_remotes(&self, described: Vec<Described>) {
        *self.remotes.lock() = described.into();
        self.made.lock().documents.clear();
    }

    /// The document at a path in the form that the client prefers.
    pub fn find(&self, path: &str, accept: &str) -> Option<Document> {
        let remotes = self.remotes.lock().clone();
        let format =
            if matches!(path, "/api" | "/apis") { Format::negotiate(accept) } else { Format::Legacy };
        let protobuf = path == "/openapi/v2" && openapi::v2_wants_protobuf(accept);
        let key = format!("{path} {format:?}");
        let table = self.registry.table();
        {
            let mut made = self.made.lock();
            if !made.table.is(&table) {
                *made = Made { table: table.clone(), documents: HashMap::new() };
            }
            if let Some(document) = made.documents.get(&key).filter(|_| !protobuf) {
                return Some(document.clone());
            }
        }
        let mut ours = self.make(&table, path, format);
        if !remotes.is_empty() {
            ours = merge::document(path, format, ours, &remotes);
        }
        let (bytes, content_type) = if protobuf {
            let document = serde_json::from_slice(&ours?).ok()?;
            (openapi::v2_to_protobuf(&document), openapi::V2_PROTOBUF)
        } else {
            (ours?, format.content_type())
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        let etag: String = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let document = Document { bytes: bytes.into(), content_type, etag: format!("\"{etag}\"").into() };
        // OpenAPI documents are large and asked for rarely: they are not kept.
        if !path.starts_with("/openapi") {
            let mut made = self.made.lock();
            if made.table.is(&table) {
                made.documents.insert(key, document.clone());
            }
        }
        Some(document)
    }

    fn make(&self, table: &Table, path: &str, format: Format) -> Option<Vec<u8>> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match (parts.as_slice(), format) {
            (["api"], Format::Legacy) => Some(discovery::api_versions(table, &self.address)),
            (["apis"], Format::Legacy) => Some(discovery::group_list(table)),
            (["api"], format) => discovery::aggregated(table, Root::Core, format),
            (["apis"], format) => discovery::aggregated(table, Root::Groups, format),
            (["api", version], _) => discovery::resource_list(table, "", version),
            (["apis", group], _) => discovery::group(table, group),
            (["apis", group, version], _) => discovery::resource_list(table, group, version),
            (["version"], _) => Some(version()),
            (["openapi", "v2"], _) => Some(openapi::v2(table)),
            (["openapi", "v3"], _) => Some(openapi::v3_root(table)),
            (["openapi", "v3", "api", version], _) => openapi::v3(table, "", version),
            (["openapi", "v3", "apis", group, version], _) => openapi::v3(table, group, version),
            _ => None,
        }
    }
}

/// `/version`.
fn version() -> Vec<u8> {
    version_info().to_string().into_bytes()
}

/// `version.Info`: what this build says of itself.
pub fn version_info() -> Value {
    json!({
        "major": "1", "minor": "35", "gitVersion": format!("{KUBERNETES_VERSION}+sampan{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": format!("linux/{}", architecture()),
        // Since 1.34: what this server behaves like, and with how old a peer it goes together.
        "emulationMajor": "1", "emulationMinor": "35", "minCompatibilityMajor": "1", "minCompatibilityMinor": "34",
    })
}

/// The architecture as Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
