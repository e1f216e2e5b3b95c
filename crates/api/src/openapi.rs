//! OpenAPI documents of what is served, made from the resource table and the schemas.
//!
//! Version 3 has a listing at `/openapi/v3` and one document per group and version; version 2 is one
//! document of everything. They are made on request, out of tables that are in memory anyway, and
//! whoever serves them caches them per table. The JSON has the shape that Kubernetes' clients read:
//! they find types by `x-kubernetes-group-version-kind`, the abilities of `PATCH` by its query
//! parameters and content types, and merge keys in the extensions of fields.
//!
//! Version 2 also has a protobuf form ([`V2_PROTOBUF`]), which clients before 1.27 ask for.

mod components;
mod parameters;
mod paths;
mod protobuf;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::discovery;
use crate::table::{ResourceDef, SchemaRef, Table};
use components::Components;

/// Which version of OpenAPI is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// A reference to a type.
    fn reference(self, name: &str) -> Value {
        match self {
            Dialect::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Dialect::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// `api/v1` or `apis/<group>/<version>`: the path of a group and version without its first slash.
pub fn version_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// `/openapi/v3`: where the documents are. Each address carries a hash of what its document is made
/// from, so that clients may cache it for good.
pub fn v3_root(table: &Table) -> Vec<u8> {
    let mut paths = BTreeMap::new();
    for group in table.groups() {
        for version in &group.versions {
            let path = version_path(&group.name, version);
            let hash = v3_hash(table, &group.name, version);
            let address = format!("/openapi/v3/{path}?hash={hash}");
            paths.insert(path, json!({"serverRelativeURL": address}));
        }
    }
    json!({"paths": paths}).to_string().into_bytes()
}

/// The hash of one document's sources: equal for equal documents of one build.
pub fn v3_hash(table: &Table, group: &str, version: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    digest.update(include_bytes!("../schema/types.txt"));
    digest.update(discovery::resource_list(table, group, version).unwrap_or_default());
    for entry in table.version(group, version) {
        if let SchemaRef::Custom(schema, id) = &entry.schema {
            digest.update(format!("{id:?}"));
            schema.fingerprint(|part| digest.update(part));
        }
        if let Some(version) = &entry.version {
            digest.update(version.source.to_string());
        }
    }
    digest.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// `/openapi/v3/api/v1` and `/openapi/v3/apis/<group>/<version>`; None for a version that is not
/// served.
pub fn v3(table: &Table, group: &str, version: &str) -> Option<Vec<u8>> {
    let entries: Vec<&ResourceDef> = table.version(group, version).map(|entry| &**entry).collect();
    if entries.is_empty() {
        return None;
    }
    let mut components = Components::new(Dialect::V3);
    let mut paths = Map::new();
    paths::add_version(&mut paths, &mut components, group, version);
    for entry in entries {
        paths::add_resource(&mut paths, &mut components, entry);
    }
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": crate::KUBERNETES_VERSION},
        "paths": paths,
        "components": {
            "schemas": components.finish(),
            "securitySchemes": {"BearerToken": bearer_token()},
        },
    });
    Some(document.to_string().into_bytes())
}

/// The `Content-Type` of the protobuf form of version 2.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Whether an `Accept` header asks for the protobuf form of version 2 before JSON. Clients write its
/// name with an `@`, which no media type may have, and expect the answer to be named without.
pub fn v2_wants_protobuf(accept: &str) -> bool {
    let named = |text: &str| text.split(';').next().unwrap_or_default().trim().replace('@', ".");
    let known = |name: &String| name == V2_PROTOBUF || matches!(name.as_str(), "application/json" | "*/*");
    accept.split(',').map(named).find(known).is_some_and(|name| name == V2_PROTOBUF)
}

/// `/openapi/v2`: everything in one document, as JSON.
pub fn v2(table: &Table) -> Vec<u8> {
    v2_document(table).to_string().into_bytes()
}

/// A document of version 2 as [`V2_PROTOBUF`].
pub fn v2_to_protobuf(document: &Value) -> Vec<u8> {
    protobuf::document(document)
}

fn v2_document(table: &Table) -> Value {
    let mut components = Components::new(Dialect::V2);
    let mut paths = Map::new();
    for group in table.groups() {
        for version in &group.versions {
            paths::add_version(&mut paths, &mut components, &group.name, version);
        }
    }
    for entry in table.entries() {
        paths::add_resource(&mut paths, &mut components, entry);
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": crate::KUBERNETES_VERSION},
        "paths": paths,
        "definitions": components.finish(),
        "securityDefinitions": {"BearerToken": bearer_token()},
        "security": [{"BearerToken": []}],
    })
}

fn bearer_token() -> Value {
    json!({"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"})
}

#[cfg(test)]
mod tests;
