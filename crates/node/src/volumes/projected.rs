//! `projected`: config maps, secrets, the downward API and tokens in one directory.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, ProjectedVolumeSource, Secret};

use super::payload::{self, DEFAULT_MODE, Payload, PayloadError, Selection};
use crate::pod;
use crate::spec::fields::NodeFacts;

/// What the sources of a volume need, fetched already.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    pub config_maps: BTreeMap<String, ConfigMap>,
    pub secrets: BTreeMap<String, Secret>,
    /// By (audience, path).
    pub tokens: BTreeMap<(String, String), String>,
}

/// The files of a projected volume; later sources stand against earlier ones.
pub fn payload(
    source: &ProjectedVolumeSource,
    fetched: &Fetched,
    pod: &Pod,
    node: &NodeFacts,
) -> Result<Payload, PayloadError> {
    let default_mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let mut all = Payload::new();
    for part in source.sources.iter().flatten() {
        if let Some(map) = &part.config_map {
            let selection = Selection {
                items: map.items.as_deref(),
                default_mode,
                optional: map.optional.unwrap_or(false),
            };
            all.append(&mut payload::config_map(&map.name, fetched.config_maps.get(&map.name), selection)?);
        } else if let Some(secret) = &part.secret {
            let selection = Selection {
                items: secret.items.as_deref(),
                default_mode,
                optional: secret.optional.unwrap_or(false),
            };
            all.append(&mut payload::secret(&secret.name, fetched.secrets.get(&secret.name), selection)?);
        } else if let Some(downward) = &part.downward_api {
            let items = downward.items.as_deref().unwrap_or_default();
            all.append(&mut payload::downward_api(items, default_mode, pod, node)?);
        } else if let Some(token) = &part.service_account_token {
            let key = (token.audience.clone().unwrap_or_default(), token.path.clone());
            if let Some(value) = fetched.tokens.get(&key) {
                payload::insert(&mut all, &token.path, value.clone().into_bytes(), default_mode)?;
                if let Some(file) = all.get_mut(&token.path) {
                    restrict(file, pod);
                }
            }
        }
    }
    Ok(all)
}

/// A token is readable by the pod's processes only, as far as their user is known.
fn restrict(file: &mut payload::PayloadFile, pod: &Pod) {
    let spec = pod::spec(pod);
    if spec.security_context.as_ref().and_then(|context| context.fs_group).is_some() {
        file.mode = 0o600;
    }
    let pods_user = spec.security_context.as_ref().and_then(|context| context.run_as_user);
    let mut users = pod::containers(spec).map(|(_, container)| {
        container.security_context.as_ref().and_then(|context| context.run_as_user).or(pods_user)
    });
    let first = users.next().flatten();
    if let Some(user) = first.filter(|first| users.all(|user| user == Some(*first))) {
        file.mode = 0o600;
        file.owner = u32::try_from(user).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_laid_over_each_other() {
        let source: ProjectedVolumeSource =
            serde_json::from_value(serde_json::json!({"defaultMode": 420, "sources": [
            {"configMap": {"name": "m"}},
            {"secret": {"name": "none", "optional": true}},
            {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {"serviceAccountToken": {"path": "token"}}]}))
            .expect("a source");
        let map =
            serde_json::from_value(serde_json::json!({"data": {"a": "1", "name": "x"}})).expect("a map");
        let fetched = Fetched {
            config_maps: BTreeMap::from([("m".to_owned(), map)]),
            tokens: BTreeMap::from([((String::new(), "token".to_owned()), "secret".to_owned())]),
            ..Fetched::default()
        };
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p"},
            "spec": {"securityContext": {"runAsUser": 7}, "containers": [{"name": "c"}]}}))
        .expect("a pod");
        let node = NodeFacts {
            host_ip: [10, 0, 0, 9].into(),
            pod_ips: vec![],
            allocatable_cpu_millis: 1,
            allocatable_memory: 1,
            allocatable_storage: 1,
        };
        let payload = payload(&source, &fetched, &pod, &node).expect("builds");
        let file = |name: &str| &payload[name];
        assert_eq!(file("a").data, b"1");
        assert_eq!(file("name").data, b"p");
        assert_eq!((file("token").mode, file("token").owner), (0o600, Some(7)));
        assert_eq!(payload.len(), 3);
    }

    #[test]
    fn a_token_is_its_users() {
        let check = |context: serde_json::Value, mode: u32, owner: Option<u32>| {
            let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p"},
                "spec": {"securityContext": context, "containers": [{"name": "c"}]}}))
            .expect("a pod");
            let mut file = payload::PayloadFile { data: Vec::new(), mode: 0o644, owner: None };
            restrict(&mut file, &pod);
            assert_eq!((file.mode, file.owner), (mode, owner), "{context}");
        };
        check(serde_json::json!({}), 0o644, None);
        check(serde_json::json!({"runAsUser": 7}), 0o600, Some(7));
        check(serde_json::json!({"fsGroup": 9}), 0o600, None);
        check(serde_json::json!({"runAsUser": 7, "fsGroup": 9}), 0o600, Some(7));
    }
}
