//! Manifests: files, directories and standard input, with many documents each.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize as _;
use serde_json::Value;

use super::cluster::{ApiResource, Cluster, Discovery};

/// The longest file.
const FILE_BYTES: u64 = 64 << 20;

/// One object of a manifest.
pub struct Manifest<'a> {
    pub resource: &'a ApiResource,
    pub name: String,
    /// `None` for objects of the cluster.
    pub namespace: Option<String>,
    pub value: Value,
}

/// Reads every object of files and directories; `-` is standard input.
pub fn read<'a>(files: &[PathBuf], cluster: &Cluster, discovery: &'a Discovery) -> Result<Vec<Manifest<'a>>> {
    let mut manifests = Vec::new();
    for file in files {
        for path in expand(file)? {
            let text = read_text(&path)?;
            let values = documents(&text).with_context(|| format!("{} is not a manifest", path.display()))?;
            for value in values {
                let manifest = manifest(value, cluster, discovery)
                    .with_context(|| format!("error in {}", path.display()))?;
                manifests.push(manifest);
            }
        }
    }
    if manifests.is_empty() {
        bail!("no objects passed to apply or delete");
    }
    Ok(manifests)
}

/// A file, or the manifests of a directory in the order of their names.
fn expand(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))? {
        let file = entry?.path();
        let known = file.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json");
        if known && file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let mut read = |reader: &mut dyn std::io::Read| reader.take(FILE_BYTES + 1).read_to_string(&mut text);
    let result = if path == Path::new("-") {
        read(&mut std::io::stdin().lock())
    } else {
        std::fs::File::open(path).and_then(|mut file| read(&mut file))
    };
    result.with_context(|| format!("cannot read {}", path.display()))?;
    if text.len() as u64 > FILE_BYTES {
        bail!("{} is longer than {FILE_BYTES} bytes", path.display());
    }
    Ok(text)
}

/// The objects of a text; lists are taken apart, empty documents left out.
fn documents(text: &str) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for document in yaml_serde::Deserializer::from_str(text) {
        match Value::deserialize(document)? {
            Value::Null => {}
            Value::Object(mut list)
                if list.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"))
                    && list.get("items").is_some_and(Value::is_array) =>
            {
                if let Some(Value::Array(items)) = list.remove("items") {
                    objects.extend(items);
                }
            }
            object => objects.push(object),
        }
    }
    Ok(objects)
}

fn manifest<'a>(mut value: Value, cluster: &Cluster, discovery: &'a Discovery) -> Result<Manifest<'a>> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let api_version = text("/apiVersion").context("apiVersion not set")?;
    let kind = text("/kind").context("kind not set")?;
    let resource = discovery.kind(&api_version, &kind)?;
    let Some(name) = text("/metadata/name").filter(|name| !name.is_empty()) else {
        bail!("{kind}: resource name may not be empty");
    };
    let given = text("/metadata/namespace").filter(|namespace| !namespace.is_empty());
    let namespace = match given {
        _ if !resource.namespaced => None,
        Some(given) if cluster.explicit_namespace && given != cluster.namespace => bail!(
            "the namespace from the provided object {given:?} does not match the namespace {:?}. \
             You must pass '--namespace={given}' to perform this operation.",
            cluster.namespace
        ),
        Some(given) => Some(given),
        None => {
            value["metadata"]["namespace"] = Value::from(cluster.namespace.as_str());
            Some(cluster.namespace.clone())
        }
    };
    Ok(Manifest { resource, name, namespace, value })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_taken_apart() {
        let check = |text: &str, expected: Value| {
            assert_eq!(Value::Array(documents(text).expect(text)), expected, "{text}");
        };
        check("", json!([]));
        check("a: 1\n---\n# nothing\n---\nb: 2\n", json!([{"a": 1}, {"b": 2}]));
        check("{\"a\": 1}", json!([{"a": 1}]));
        check("kind: List\nitems: [{a: 1}, {b: 2}]", json!([{"a": 1}, {"b": 2}]));
        check("kind: Shopping\nitems: [1]", json!([{"kind": "Shopping", "items": [1]}]));
        assert!(documents("a: [").is_err());
    }
}
