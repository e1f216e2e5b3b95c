//! `sampan apply`: makes objects as manifests say, with the same bookkeeping as kubectl's.
//!
//! What was applied last is kept in an annotation, so that what a manifest no longer has is
//! removed, and what others added stays.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use clap::Args;
use sampan_api::strategic::SchemaMerge;
use sampan_api::table::Table;
use sampan_client::{Backend as _, PatchKind, Target};
use serde_json::{Map, Value, json};

use super::cluster::{Cluster, ClusterArgs, Discovery};
use super::manifest::{self, Manifest};
use super::three_way;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// Manifest, directory of manifests, or `-` for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

impl ApplyArgs {
    pub async fn run(self) -> Result<()> {
        let cluster = self.cluster.open()?;
        let discovery = Discovery::read(&cluster.remote).await?;
        let builtin = Table::builtin();
        let mut failed = 0;
        for manifest in manifest::read(&self.filename, &cluster, &discovery)? {
            let label = format!("{}/{}", manifest.resource.label(), manifest.name);
            match apply(&cluster, &builtin, manifest).await {
                Ok(done) => println!("{label} {done}"),
                Err(error) => {
                    eprintln!("error: {label}: {error:#}");
                    failed += 1;
                }
            }
        }
        if failed > 0 {
            bail!("{failed} objects could not be applied");
        }
        Ok(())
    }
}

async fn apply(cluster: &Cluster, builtin: &Table, manifest: Manifest<'_>) -> Result<&'static str> {
    let Manifest { resource, name, namespace, value } = manifest;
    let annotated = annotate(value)?;
    let target =
        Target { gvr: &resource.gvr, namespace: namespace.as_deref(), name: &name, subresource: None };
    let current = match cluster.remote.get(target).await {
        Ok(current) => current,
        Err(status) if status.is_not_found() => {
            let body = Bytes::from(serde_json::to_vec(&annotated)?);
            cluster.remote.create(Target { name: "", ..target }, body).await?;
            return Ok("created");
        }
        Err(status) => return Err(status.into()),
    };
    let value: Value = current.decode()?;
    let last = value["metadata"]["annotations"][LAST_APPLIED].as_str();
    if last.is_none() {
        eprintln!(
            "Warning: resource {}/{name} is missing the {LAST_APPLIED} annotation which is required by apply. \
             The missing annotation will be patched automatically.",
            resource.gvr.resource
        );
    }
    let last: Map<String, Value> = match last {
        Some(last) => serde_json::from_str(last).context("the last applied configuration cannot be read")?,
        None => Map::new(),
    };
    let schema = builtin.get_gvr(&resource.gvr).and_then(|entry| entry.schema());
    let (kind, patch) = match schema {
        Some((schema, at)) => {
            let schema = SchemaMerge::new(schema, at);
            (PatchKind::Strategic, three_way::strategic(&last, &annotated, &schema))
        }
        None => (PatchKind::Merge, three_way::merge(&last, &annotated)),
    };
    let body = Bytes::from(serde_json::to_vec(&patch)?);
    let patched = cluster.remote.patch(target, kind, body).await?;
    let unchanged = patched.header.revision == current.header.revision;
    Ok(if unchanged { "unchanged" } else { "configured" })
}

/// A manifest with its own text in the annotation, as kubectl writes it.
fn annotate(value: Value) -> Result<Map<String, Value>> {
    let Value::Object(mut object) = value else { bail!("a manifest must be an object") };
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut).context("metadata not set")?;
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    annotations.as_object_mut().context("metadata.annotations must be an object")?.remove(LAST_APPLIED);
    let text = format!("{}\n", serde_json::to_string(&object)?);
    object["metadata"]["annotations"][LAST_APPLIED] = Value::from(text);
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_is_kubectls() {
        let value =
            json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a", "namespace": "n"}});
        let annotated = annotate(value).expect("valid");
        let text = "{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"annotations\":{},\"name\":\"a\",\"namespace\":\"n\"}}\n";
        assert_eq!(annotated["metadata"]["annotations"][LAST_APPLIED], text);
        assert_eq!(annotate(Value::Object(annotated.clone())).expect("valid"), annotated);
    }
}
