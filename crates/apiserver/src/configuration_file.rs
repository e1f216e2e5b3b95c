//! Configuration files with a kind and a version, as Kubernetes' components have them.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The versions of `apiserver.config.k8s.io`. v1 is served; its beta forms have the same fields and are read too.
pub const APISERVER_CONFIG: &[&str] =
    &["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];

/// A file that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum FileKindError {
    #[error("it is no {expected}")]
    Yaml {
        expected: &'static str,
        #[source]
        source: yaml_serde::Error,
    },
    #[error("it is {kind} of {api_version}, not {expected} of {version}")]
    Kind { api_version: String, kind: String, expected: &'static str, version: &'static str },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
}

/// Reads the YAML or JSON of a file of one kind, in one of its versions, of which the first is the one to name.
pub fn read<T: DeserializeOwned>(
    text: &[u8],
    kind: &'static str,
    versions: &'static [&'static str],
) -> Result<T, FileKindError> {
    let yaml = |source| FileKindError::Yaml { expected: kind, source };
    let head: Head = yaml_serde::from_slice(text).map_err(yaml)?;
    if head.kind != kind || !versions.contains(&head.api_version.as_str()) {
        let version = versions.first().copied().unwrap_or_default();
        return Err(FileKindError::Kind {
            api_version: head.api_version,
            kind: head.kind,
            expected: kind,
            version,
        });
    }
    yaml_serde::from_slice(text).map_err(yaml)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::IgnoredAny;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Boat {
        #[serde(rename = "apiVersion")]
        _api_version: IgnoredAny,
        #[serde(rename = "kind")]
        _kind: IgnoredAny,
        masts: u32,
    }

    #[test]
    fn what_is_of_another_kind_is_named() {
        let read = |text: &str| read::<Boat>(text.as_bytes(), "Boat", &["sea/v1", "sea/v1beta1"]);
        assert_eq!(read("apiVersion: sea/v1beta1\nkind: Boat\nmasts: 3").expect("valid").masts, 3);
        let check = |text: &str, expected: &str| {
            assert_eq!(read(text).expect_err("refused").to_string(), expected, "{text}");
        };
        check("apiVersion: sea/v1\nkind: Fish\nfins: 2", "it is Fish of sea/v1, not Boat of sea/v1");
        check("apiVersion: sea/v2\nkind: Boat\nmasts: 3", "it is Boat of sea/v2, not Boat of sea/v1");
        check("apiVersion: sea/v1\nkind: Boat\nmasts: 3\noars: 2", "it is no Boat");
        check("kind: Boat", "it is no Boat");
    }
}
