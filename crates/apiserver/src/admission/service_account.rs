//! ServiceAccount: every pod runs as one, and finds its token, the cluster's CA and its namespace
//! mounted where client libraries look.

use std::time::Duration;

use sampan_api::{Gvr, Status};
use serde_json::{Value, json};

use super::{Attributes, Operation};

pub const SERVICE_ACCOUNTS: Gvr = Gvr::new("", "v1", "serviceaccounts");
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Tokens live an hour and seven seconds, as upstream's: the seven tell them apart from asked hours.
const TOKEN_SECONDS: i64 = 3607;

/// How long the controller that makes every namespace's default account may take.
const DEFAULT_ACCOUNT_WAIT: Duration = Duration::from_secs(2);
const ENFORCE_MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

pub async fn mutate(attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    // A mirror pod shows what a node runs by itself: it has no identity in the cluster.
    if !attributes.is(Operation::Create, "", "pods") || is_mirror(pod) {
        return Ok(());
    }
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
    let name = match spec.get("serviceAccountName").and_then(Value::as_str) {
        Some(account) if !account.is_empty() => account.to_owned(),
        _ => "default".to_owned(),
    };
    spec.insert("serviceAccountName".into(), name.clone().into());
    spec.insert("serviceAccount".into(), name.clone().into());
    let account = account(attributes, &name).await?;
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

pub async fn validate(attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    let gvr = attributes.resource.gvr();
    let debugs =
        gvr.group.is_empty() && gvr.resource == "pods" && attributes.subresource == "ephemeralcontainers";
    if !debugs && !attributes.is(Operation::Create, "", "pods") {
        return Ok(());
    }
    let refused = |why: &str| Status::forbidden(gvr, attributes.name, why);
    if is_mirror(pod) {
        return if debugs { Ok(()) } else { mirror_faults(pod).map_or(Ok(()), |why| Err(refused(why))) };
    }
    let name = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    let account = account(attributes, name).await?;
    let enforced = account["metadata"]["annotations"][ENFORCE_MOUNTABLE].as_str();
    if !matches!(enforced, Some("1" | "t" | "T" | "true" | "TRUE" | "True")) {
        return Ok(());
    }
    let why = if debugs {
        foreign_variable(&account, pod, "ephemeralContainers", "ephemeral container")
    } else {
        foreign_secret(&account, pod)
    };
    why.map_or(Ok(()), |why| Err(refused(&why)))
}

fn is_mirror(pod: &Value) -> bool {
    pod.pointer("/metadata/annotations/kubernetes.io~1config.mirror").is_some()
}

/// The account. The default one of a namespace that was just made is waited for.
async fn account(attributes: &Attributes<'_>, name: &str) -> Result<Value, Status> {
    let key = format!("{}/{name}", attributes.namespace.unwrap_or_default());
    let cache = attributes.registry.resource(&SERVICE_ACCOUNTS)?.cache;
    let mut changes = cache.subscribe();
    let found = async {
        loop {
            if let Some(account) = cache.get(&key) {
                return Some(account);
            }
            if name != "default" || changes.changed().await.is_err() {
                return None;
            }
        }
    };
    let found = tokio::time::timeout(DEFAULT_ACCOUNT_WAIT, found).await.ok().flatten();
    let found = found.ok_or_else(|| {
        let why = format!("error looking up service account {key}: serviceaccount \"{name}\" not found");
        Status::forbidden(attributes.resource.gvr(), attributes.name, why)
    })?;
    found.decode().map_err(Status::internal)
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What the pod of a node's own manifest may not refer to.
fn mirror_faults(pod: &Value) -> Option<&'static str> {
    let spec = &pod["spec"];
    if spec["serviceAccountName"].as_str().is_some_and(|name| !name.is_empty()) {
        return Some("a mirror pod may not reference service accounts");
    }
    let volumes = items(&spec["volumes"]);
    let projected = || volumes.iter().flat_map(|volume| items(&volume["projected"]["sources"]));
    let containers = ["containers", "initContainers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| items(&spec[list]));
    let mut variables = containers.flat_map(|container| {
        let env = items(&container["env"]).iter().map(|one| &one["valueFrom"]["secretKeyRef"]);
        env.chain(items(&container["envFrom"]).iter().map(|one| &one["secretRef"]))
    });
    let secret = volumes.iter().any(|volume| !volume["secret"].is_null())
        || projected().any(|source| !source["secret"].is_null())
        || variables.any(|secret| !secret.is_null())
        || !items(&spec["imagePullSecrets"]).is_empty();
    if secret {
        return Some("a mirror pod may not reference secrets");
    }
    projected()
        .any(|source| !source["serviceAccountToken"].is_null())
        .then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

/// The first secret that a pod uses and its account does not name.
fn foreign_secret(account: &Value, pod: &Value) -> Option<String> {
    let name = account["metadata"]["name"].as_str().unwrap_or_default();
    for volume in items(&pod["spec"]["volumes"]) {
        if let Some(secret) =
            volume["secret"]["secretName"].as_str().filter(|secret| !names(account, "secrets", secret))
        {
            return Some(format!(
                "volume with secret.secretName=\"{secret}\" is not allowed because service account {name} does not reference that secret"
            ));
        }
    }
    let variable = foreign_variable(account, pod, "initContainers", "init container")
        .or_else(|| foreign_variable(account, pod, "containers", "container"));
    variable.or_else(|| {
        let (at, secret) = items(&pod["spec"]["imagePullSecrets"])
            .iter()
            .map(|secret| secret["name"].as_str().unwrap_or_default())
            .enumerate()
            .find(|(_, secret)| !names(account, "imagePullSecrets", secret))?;
        Some(format!(
            "imagePullSecrets[{at}].name=\"{secret}\" is not allowed because service account {name} does not reference that imagePullSecret"
        ))
    })
}

fn foreign_variable(account: &Value, pod: &Value, list: &str, noun: &str) -> Option<String> {
    for container in items(&pod["spec"][list]) {
        for variable in items(&container["env"]) {
            let secret = variable["valueFrom"]["secretKeyRef"]["name"].as_str();
            if let Some(secret) = secret.filter(|secret| !names(account, "secrets", secret)) {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                return Some(format!(
                    "{noun} {} with envVar {} referencing secret.secretName=\"{secret}\" is not allowed because service account {} does not reference that secret",
                    text(&container["name"]),
                    text(&variable["name"]),
                    text(&account["metadata"]["name"])
                ));
            }
        }
    }
    None
}

fn names(account: &Value, list: &str, secret: &str) -> bool {
    items(&account[list]).iter().any(|one| one["name"] == secret)
}

fn mount_token(pod: &mut Value) {
    let volume = sampan_api::names::generate("kube-api-access-", rand::random::<u32>);
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

    #[test]
    fn an_account_may_limit_secrets() {
        let account = json!({"metadata": {"name": "a"}, "secrets": [{"name": "own"}]});
        let check = |spec: Value, expected: Option<&str>| {
            assert_eq!(foreign_secret(&account, &json!({"spec": spec})).as_deref(), expected);
        };
        check(json!({"volumes": [{"name": "v", "secret": {"secretName": "own"}}]}), None);
        check(
            json!({"volumes": [{"name": "v", "secret": {"secretName": "other"}}]}),
            Some(
                "volume with secret.secretName=\"other\" is not allowed because service account a does not reference that secret",
            ),
        );
        check(
            json!({"containers": [{"name": "c", "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "other"}}}]}]}),
            Some(
                "container c with envVar E referencing secret.secretName=\"other\" is not allowed because service account a does not reference that secret",
            ),
        );
        check(
            json!({"imagePullSecrets": [{"name": "p"}]}),
            Some(
                "imagePullSecrets[0].name=\"p\" is not allowed because service account a does not reference that imagePullSecret",
            ),
        );
    }

    #[test]
    fn a_mirror_pod_refers_to_nothing() {
        let check = |spec: Value, expected: Option<&str>| {
            assert_eq!(mirror_faults(&json!({"spec": spec})), expected);
        };
        check(json!({"containers": [{"name": "c"}]}), None);
        check(json!({"serviceAccountName": "a"}), Some("a mirror pod may not reference service accounts"));
        check(json!({"volumes": [{"secret": {}}]}), Some("a mirror pod may not reference secrets"));
        check(
            json!({"volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]}),
            Some("a mirror pod may not use ServiceAccountToken volume projections"),
        );
    }
}
