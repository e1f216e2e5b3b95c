//! ServiceAccount: every pod runs as one, and finds its token, the cluster's CA and its namespace
//! mounted where client libraries look.

use sampan_api::names;
use sampan_api::{Gvr, Status};
use serde_json::{Value, json};

use crate::registry::Registry;

const PODS: Gvr = Gvr::new("", "v1", "pods");
pub const SERVICE_ACCOUNTS: Gvr = Gvr::new("", "v1", "serviceaccounts");
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Tokens live an hour and seven seconds, as upstream's: the seven tell them apart from asked hours.
const TOKEN_SECONDS: i64 = 3607;

pub fn admit(registry: &Registry, pod: &mut Value) -> Result<(), Status> {
    let metadata = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (metadata("namespace"), metadata("name"));
    // A mirror pod shows what a node runs by itself: it has no identity in the cluster.
    if pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some() {
        return Ok(());
    }
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    let account_name = match spec.get("serviceAccountName").and_then(Value::as_str) {
        Some(account) if !account.is_empty() => account.to_owned(),
        _ => "default".to_owned(),
    };
    spec.insert("serviceAccountName".into(), account_name.clone().into());
    spec.insert("serviceAccount".into(), account_name.clone().into());
    let key = format!("{namespace}/{account_name}");
    let account = registry.find(&SERVICE_ACCOUNTS, &key).ok_or_else(|| {
        let why =
            format!("error looking up service account {key}: serviceaccount \"{account_name}\" not found");
        Status::forbidden(&PODS, &name, why)
    })?;
    let account: Value = account.decode().map_err(Status::internal)?;
    if spec.get("imagePullSecrets").and_then(Value::as_array).is_none_or(Vec::is_empty)
        && let Some(secrets) = account.get("imagePullSecrets").filter(|secrets| !secrets.is_null())
    {
        spec.insert("imagePullSecrets".into(), secrets.clone());
    }
    let automount = spec
        .get("automountServiceAccountToken")
        .or_else(|| account.get("automountServiceAccountToken"))
        .and_then(Value::as_bool)
        .unwrap_or(true);
    if automount {
        mount_token(pod);
    }
    Ok(())
}

fn mount_token(pod: &mut Value) {
    let volume = names::generate("kube-api-access-", rand::random::<u32>);
    let mut mounted = false;
    for list in ["/spec/containers", "/spec/initContainers"] {
        for container in pod.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(container) = container.as_object_mut() else { continue };
            let mounts = container.entry("volumeMounts").or_insert_with(|| json!([]));
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if mounts.iter().all(|mount| mount["mountPath"] != MOUNT_PATH) {
                mounts.push(json!({"name": volume, "mountPath": MOUNT_PATH, "readOnly": true}));
                mounted = true;
            }
        }
    }
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut).filter(|_| mounted) else { return };
    let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [
                {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}}
        ]}}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_gets_the_token_once() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"},
            {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}]}});
        mount_token(&mut pod);
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["mountPath"], MOUNT_PATH);
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"].as_array().map(Vec::len), Some(1));
        assert_eq!(pod["spec"]["volumes"].as_array().map(Vec::len), Some(1));
    }
}
