//! The files of volumes that are made of API objects: `configMap`, `secret`, `downwardAPI`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};

use crate::spec::fields::{self, FieldError, NodeFacts};

/// One file. Its owner is root unless `owner` says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFile {
    pub data: Vec<u8>,
    pub mode: u32,
    pub owner: Option<u32>,
}

/// Files by their path in the volume.
pub type Payload = BTreeMap<String, PayloadFile>;

/// Why a volume's files cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PayloadError {
    #[error("configmap \"{0}\" not found")]
    NoConfigMap(String),
    #[error("secret \"{0}\" not found")]
    NoSecret(String),
    #[error("configmap references non-existent config key: {0}")]
    NoConfigKey(String),
    #[error("references non-existent secret key: {0}")]
    NoSecretKey(String),
    #[error("path {0:?} leads out of the volume")]
    Path(String),
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// The mode of files that say nothing.
pub const DEFAULT_MODE: i32 = 0o644;

/// How an object's keys become files.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// All keys by their names when absent or empty.
    pub items: Option<&'a [KeyToPath]>,
    pub default_mode: i32,
    pub optional: bool,
}

/// The files of a config map; `None` is one that does not exist.
pub fn config_map(
    name: &str,
    map: Option<&ConfigMap>,
    selection: Selection<'_>,
) -> Result<Payload, PayloadError> {
    let Some(map) = map else {
        return if selection.optional {
            Ok(Payload::new())
        } else {
            Err(PayloadError::NoConfigMap(name.to_owned()))
        };
    };
    let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    select(text.chain(binary).collect(), selection, PayloadError::NoConfigKey)
}

/// The files of a secret; `None` is one that does not exist.
pub fn secret(
    name: &str,
    secret: Option<&Secret>,
    selection: Selection<'_>,
) -> Result<Payload, PayloadError> {
    let Some(secret) = secret else {
        return if selection.optional {
            Ok(Payload::new())
        } else {
            Err(PayloadError::NoSecret(name.to_owned()))
        };
    };
    let data = secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    select(data.collect(), selection, PayloadError::NoSecretKey)
}

fn select(
    data: BTreeMap<&str, &[u8]>,
    selection: Selection<'_>,
    missing: impl Fn(String) -> PayloadError,
) -> Result<Payload, PayloadError> {
    let mut payload = Payload::new();
    match selection.items.filter(|items| !items.is_empty()) {
        None => {
            for (key, value) in data {
                insert(&mut payload, key, value.to_vec(), selection.default_mode)?;
            }
        }
        Some(items) => {
            for item in items {
                match data.get(item.key.as_str()) {
                    Some(value) => {
                        let mode = item.mode.unwrap_or(selection.default_mode);
                        insert(&mut payload, &item.path, value.to_vec(), mode)?;
                    }
                    None if selection.optional => {}
                    None => return Err(missing(item.key.clone())),
                }
            }
        }
    }
    Ok(payload)
}

/// The files of the downward API.
pub fn downward_api(
    items: &[DownwardAPIVolumeFile],
    default_mode: i32,
    pod: &Pod,
    node: &NodeFacts,
) -> Result<Payload, PayloadError> {
    let mut payload = Payload::new();
    for item in items {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => fields::pod_field(pod, &field.field_path, node)?,
            (None, Some(resource)) => fields::resource_field(pod, None, resource, node)?,
            (None, None) => String::new(),
        };
        insert(&mut payload, &item.path, value.into_bytes(), item.mode.unwrap_or(default_mode))?;
    }
    Ok(payload)
}

/// Adds a file whose path must stay inside the volume and must not be the writer's own.
pub fn insert(payload: &mut Payload, path: &str, data: Vec<u8>, mode: i32) -> Result<(), PayloadError> {
    let mut parts = path.split('/').peekable();
    let own = parts.peek().is_some_and(|first| first.starts_with(".."));
    if path.is_empty() || own || path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(PayloadError::Path(path.to_owned()));
    }
    let mode = u32::try_from(mode).unwrap_or(0o644) & 0o777;
    payload.insert(path.to_owned(), PayloadFile { data, mode, owner: None });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(items: serde_json::Value, optional: bool, expected: Result<&[(&str, &str, u32)], &str>) {
        let map: ConfigMap = serde_json::from_value(serde_json::json!(
            {"data": {"a": "1", "b": "2"}, "binaryData": {"c": "aGk="}}))
        .expect("a config map");
        let items: Option<Vec<KeyToPath>> = serde_json::from_value(items).expect("items");
        let selection = Selection { items: items.as_deref(), default_mode: DEFAULT_MODE, optional };
        match (config_map("m", Some(&map), selection), expected) {
            (Ok(payload), Ok(expected)) => {
                let got: Vec<(&str, &str, u32)> = payload
                    .iter()
                    .map(|(path, file)| {
                        (path.as_str(), std::str::from_utf8(&file.data).expect("text"), file.mode)
                    })
                    .collect();
                assert_eq!(got, expected);
            }
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected),
            (got, expected) => panic!("{got:?} is not {expected:?}"),
        }
    }

    #[test]
    fn keys_become_files() {
        use serde_json::json;
        check(json!(null), false, Ok(&[("a", "1", 0o644), ("b", "2", 0o644), ("c", "hi", 0o644)]));
        check(json!([{"key": "a", "path": "x/y", "mode": 256}]), false, Ok(&[("x/y", "1", 0o400)]));
        check(
            json!([{"key": "z", "path": "z"}]),
            false,
            Err("configmap references non-existent config key: z"),
        );
        check(json!([{"key": "z", "path": "z"}]), true, Ok(&[]));
        check(json!([{"key": "a", "path": "../z"}]), false, Err("path \"../z\" leads out of the volume"));
        check(json!([{"key": "a", "path": "/z"}]), false, Err("path \"/z\" leads out of the volume"));
        check(json!([{"key": "a", "path": "..data"}]), false, Err("path \"..data\" leads out of the volume"));
    }

    #[test]
    fn what_does_not_exist_is_an_error_unless_optional() {
        let selection = |optional| Selection { items: None, default_mode: DEFAULT_MODE, optional };
        assert_eq!(config_map("m", None, selection(true)), Ok(Payload::new()));
        let error = secret("s", None, selection(false)).expect_err("missing");
        assert_eq!(error.to_string(), "secret \"s\" not found");
    }
}
