//! What pods and volumes refer to, read from their JSON.

use serde::Deserialize;
use serde_json::Value;

use super::graph::{PodLinks, Vertex, VolumeLinks};

const MIRROR: &str = "kubernetes.io/config.mirror";
/// The node may read the secrets of these sources of a volume; others are its driver's elsewhere.
const VOLUME_SOURCES: [&str; 7] = ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"];
const CSI_SECRETS: [&str; 3] = ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"];

type List<T> = Option<Vec<T>>;

#[derive(Deserialize, Default)]
struct Named {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    status: Option<PodStatus>,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    annotations: Option<serde_json::Map<String, Value>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    service_account_name: Option<String>,
    image_pull_secrets: List<Named>,
    containers: List<Container>,
    init_containers: List<Container>,
    ephemeral_containers: List<Container>,
    volumes: List<PodVolume>,
    resource_claims: List<PodClaim>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    resource_claim_statuses: List<ClaimStatus>,
    extended_resource_claim_status: Option<ExtendedClaimStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExtendedClaimStatus {
    resource_claim_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClaimStatus {
    name: String,
    resource_claim_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodClaim {
    name: String,
    resource_claim_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    env: List<Variable>,
    env_from: List<Variables>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Variable {
    value_from: Option<VariableSource>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct VariableSource {
    secret_key_ref: Option<Named>,
    config_map_key_ref: Option<Named>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Variables {
    secret_ref: Option<Named>,
    config_map_ref: Option<Named>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodVolume {
    name: String,
    secret: Option<SecretVolume>,
    config_map: Option<Named>,
    projected: Option<Projected>,
    persistent_volume_claim: Option<ClaimVolume>,
    ephemeral: Option<Value>,
    azure_file: Option<SecretVolume>,
    csi: Option<CsiVolume>,
    /// The sources whose secret is in `secretRef`, and those that have none.
    #[serde(flatten)]
    others: serde_json::Map<String, Value>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SecretVolume {
    secret_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClaimVolume {
    claim_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CsiVolume {
    node_publish_secret_ref: Option<Named>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Projected {
    sources: List<ProjectedSource>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ProjectedSource {
    secret: Option<Named>,
    config_map: Option<Named>,
}

/// Collects what a pod refers to.
struct Links {
    namespace: String,
    objects: Vec<(Vertex, Box<str>)>,
}

impl Links {
    fn add(&mut self, vertex: Vertex, name: Option<&str>) {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return };
        let key: Box<str> = format!("{}/{name}", self.namespace).into();
        if !self.objects.iter().any(|(known, other)| *known == vertex && *other == key) {
            self.objects.push((vertex, key));
        }
    }

    fn secret(&mut self, secret: Option<&Named>) {
        self.add(Vertex::Secret, secret.and_then(|secret| secret.name.as_deref()));
    }

    fn config_map(&mut self, map: Option<&Named>) {
        self.add(Vertex::ConfigMap, map.and_then(|map| map.name.as_deref()));
    }

    fn container(&mut self, container: &Container) {
        for variable in container.env.iter().flatten() {
            if let Some(source) = &variable.value_from {
                self.secret(source.secret_key_ref.as_ref());
                self.config_map(source.config_map_key_ref.as_ref());
            }
        }
        for variables in container.env_from.iter().flatten() {
            self.secret(variables.secret_ref.as_ref());
            self.config_map(variables.config_map_ref.as_ref());
        }
    }

    fn volume(&mut self, pod: &str, volume: &PodVolume) {
        for secret in [&volume.secret, &volume.azure_file].into_iter().flatten() {
            self.add(Vertex::Secret, secret.secret_name.as_deref());
        }
        self.config_map(volume.config_map.as_ref());
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            self.secret(source.secret.as_ref());
            self.config_map(source.config_map.as_ref());
        }
        if let Some(claim) = &volume.persistent_volume_claim {
            self.add(Vertex::Claim, claim.claim_name.as_deref());
        }
        if volume.ephemeral.as_ref().is_some_and(|source| !source.is_null()) {
            self.add(Vertex::Claim, Some(&format!("{pod}-{}", volume.name)));
        }
        if let Some(csi) = &volume.csi {
            self.secret(csi.node_publish_secret_ref.as_ref());
        }
        for source in VOLUME_SOURCES {
            let name = volume.others.get(source).and_then(|source| source.pointer("/secretRef/name"));
            self.add(Vertex::Secret, name.and_then(Value::as_str));
        }
    }
}

/// What a pod gives its node leave to read; `None` while it has no node, or cannot be read.
pub fn of_pod(json: &[u8]) -> Option<PodLinks> {
    let pod: Pod = serde_json::from_slice(json).ok()?;
    let node = pod.spec.node_name.filter(|node| !node.is_empty())?;
    let mut links = Links { namespace: pod.metadata.namespace, objects: Vec::new() };
    links.add(Vertex::Pod, Some(&pod.metadata.name));
    let mirror = pod.metadata.annotations.is_some_and(|annotations| annotations.contains_key(MIRROR));
    // A node makes mirror pods itself. It must not give itself anything by them.
    if !mirror {
        links.add(Vertex::ServiceAccount, pod.spec.service_account_name.as_deref());
        pod.spec.image_pull_secrets.iter().flatten().for_each(|secret| links.secret(Some(secret)));
        let lists = [&pod.spec.init_containers, &pod.spec.containers, &pod.spec.ephemeral_containers];
        lists.into_iter().flatten().flatten().for_each(|container| links.container(container));
        for volume in pod.spec.volumes.iter().flatten() {
            links.volume(&pod.metadata.name, volume);
        }
        let status = pod.status.unwrap_or_default();
        for claim in pod.spec.resource_claims.iter().flatten() {
            // One that is made of a template is named by the status once it is made.
            let made = status.resource_claim_statuses.iter().flatten().find(|made| made.name == claim.name);
            let made = made.and_then(|made| made.resource_claim_name.as_deref());
            links.add(Vertex::ResourceClaim, claim.resource_claim_name.as_deref().or(made));
        }
        let extended = status.extended_resource_claim_status.and_then(|status| status.resource_claim_name);
        links.add(Vertex::ResourceClaim, extended.as_deref());
    }
    Some(PodLinks { node: node.into(), objects: links.objects })
}

/// What a volume leads to; `None` while it is bound to no claim.
pub fn of_volume(volume: &Value) -> Option<VolumeLinks> {
    let spec = volume.get("spec")?;
    let text = |value: &Value, pointer: &str| {
        let text = value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        Some(text.to_owned()).filter(|text| !text.is_empty())
    };
    let namespace = text(spec, "/claimRef/namespace")?;
    let claim = format!("{namespace}/{}", text(spec, "/claimRef/name")?);
    let mut secrets: Vec<Box<str>> = Vec::new();
    let mut add = |own: Option<String>, name: Option<String>| {
        let Some(name) = name else { return };
        let key: Box<str> = format!("{}/{name}", own.as_ref().unwrap_or(&namespace)).into();
        if !secrets.contains(&key) {
            secrets.push(key);
        }
    };
    add(text(spec, "/azureFile/secretNamespace"), text(spec, "/azureFile/secretName"));
    let references = VOLUME_SOURCES.iter().map(|source| format!("/{source}/secretRef"));
    for reference in references.chain(CSI_SECRETS.iter().map(|field| format!("/csi/{field}"))) {
        let field = |name: &str| text(spec, &format!("{reference}/{name}"));
        add(field("namespace"), field("name"));
    }
    Some(VolumeLinks { claim: claim.into(), secrets })
}
