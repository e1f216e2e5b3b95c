//! What an object may be: the checks that its type alone cannot express.
//!
//! [`create`] holds a new object and [`update`] a changed one against the rules of its kind and
//! answers every fault with Kubernetes' field path, reason and message; none means valid. Types are
//! the schema's business: a value of the wrong type counts as absent here and never panics.
//! Defaults must have been applied before.

use serde_json::Value;

use crate::status::Cause;

mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod config;
mod container;
mod cron;
mod csi;
mod definition;
mod devices;
mod events;
mod extension;
mod field;
mod flow_control;
mod metadata;
mod namespace;
mod networking;
mod node;
mod pod;
mod pod_resize;
mod pod_update;
mod policy;
mod probe;
mod quota;
mod rbac;
mod resources;
mod scheduling;
mod security;
mod selector;
mod service;
mod storage;
mod volume;

pub use cron::{CronError, Schedule};

use field::{At, Faults};

/// Most faults that are told of one object; an author mends from the top.
const MAX_FAULTS: usize = 256;

/// The faults of a new object of a group and kind.
///
/// Kinds without rules of their own, custom ones among them, have their metadata checked.
pub fn create(group: &str, kind: &str, value: &Value) -> Vec<Cause> {
    let mut faults = Faults::new(MAX_FAULTS);
    let root = At::root(value);
    metadata::create(group, kind, &root.get("metadata"), &mut faults);
    metadata::owned_finalizers(group, &root.get("metadata"), &mut faults);
    content(group, kind, &root, &mut faults);
    if (group, kind) == ("", "Pod") {
        pod::only_on_create(&root, &mut faults);
    }
    match (group, kind) {
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition::create(&root, &mut faults),
        ("events.k8s.io", "Event") => events::create(&root, &mut faults),
        ("resource.k8s.io", _) => devices::create(kind, &root, &mut faults),
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            certificates::request(&root, None, &mut faults);
        }
        _ => {}
    }
    faults.into_causes()
}

/// The faults of a new custom resource that every object may have; its own are its schema's business.
pub fn create_custom(value: &Value) -> Vec<Cause> {
    let mut faults = Faults::new(MAX_FAULTS);
    metadata::create("", "", &At::root(value).get("metadata"), &mut faults);
    faults.into_causes()
}

/// The same of a custom resource that is to replace `old`.
pub fn update_custom(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new(MAX_FAULTS);
    metadata::update(&At::root(new).get("metadata"), &At::root(old).get("metadata"), &mut faults);
    faults.into_causes()
}

/// The faults of the metadata of an object inside of another one, at `metadata`.
pub fn embedded_metadata(value: &Value) -> Vec<Cause> {
    let mut faults = Faults::new(MAX_FAULTS);
    let holder = serde_json::json!({"metadata": value});
    metadata::embedded(&At::root(&holder).get("metadata"), &mut faults);
    faults.into_causes()
}

/// The faults of a label selector that stands at a field of an object, whose path is given.
pub fn label_selector(field: &str, selector: &Value) -> Vec<Cause> {
    let mut faults = Faults::new(MAX_FAULTS);
    selector::label_selector(&At::root(selector), &mut faults);
    let mut causes = faults.into_causes();
    for cause in &mut causes {
        cause.field = format!("{field}.{}", cause.field);
    }
    causes
}

/// A value as messages show it: texts quoted, long ones cut, everything else as JSON.
pub fn shown(value: &Value) -> String {
    field::Shown(value).to_string()
}

/// The faults of an object that is to replace `old`: its own, and changes that its kind forbids.
pub fn update(group: &str, kind: &str, new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new(MAX_FAULTS);
    let (root, before) = (At::root(new), At::root(old));
    metadata::update(&root.get("metadata"), &before.get("metadata"), &mut faults);
    metadata::owned_finalizers(group, &root.get("metadata"), &mut faults);
    content(group, kind, &root, &mut faults);
    match (group, kind) {
        ("", "Pod") => pod_update::update(&root, &before, &mut faults),
        ("", "Service") => service::update(&root, &before, &mut faults),
        ("", "ConfigMap" | "Secret") => config::update(kind, &root, &before, &mut faults),
        ("", "PersistentVolume" | "PersistentVolumeClaim") | ("storage.k8s.io", _) => {
            storage::update(kind, &root, &before, &mut faults);
        }
        ("", "Node") => node::update(&root, &before, &mut faults),
        ("", "ResourceQuota") => quota::update(&root, &before, &mut faults),
        ("apps", _) => apps::update(kind, &root, &before, &mut faults),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            definition::update(&root, &before, &mut faults);
        }
        ("batch", _) => batch::update(kind, &root, &before, &mut faults),
        ("events.k8s.io", "Event") => events::update(&root, &before, &mut faults),
        ("resource.k8s.io", _) => devices::update(kind, &root, &before, &mut faults),
        ("rbac.authorization.k8s.io", _) => rbac::update(kind, &root, &before, &mut faults),
        ("discovery.k8s.io", "EndpointSlice") => networking::update_slice(&root, &before, &mut faults),
        ("scheduling.k8s.io", "PriorityClass") => policy::update_priority_class(&root, &before, &mut faults),
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            certificates::update(&root, &before, certificates::Writer::Main, &mut faults);
        }
        ("node.k8s.io", "RuntimeClass") => faults.immutable(&root.get("handler"), &before.get("handler")),
        ("networking.k8s.io", "IngressClass") => networking::update_class(&root, &before, &mut faults),
        _ => {}
    }
    faults.into_causes()
}

/// The faults of an object that is to replace `old` through its status.
pub fn update_status(group: &str, kind: &str, new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new(MAX_FAULTS);
    let (root, before) = (At::root(new), At::root(old));
    match (group, kind) {
        ("resource.k8s.io", "ResourceClaim") => devices::status::update(&root, &before, &mut faults),
        ("storage.k8s.io", "VolumeAttachment") => csi::attachment_status(&root.get("status"), &mut faults),
        ("certificates.k8s.io", "CertificateSigningRequest") => {
            certificates::update(&root, &before, certificates::Writer::Status, &mut faults);
        }
        _ => {}
    }
    faults.into_causes()
}

/// The faults of a certificate signing request that is to replace `old` through its approval.
pub fn update_approval(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new(MAX_FAULTS);
    let (root, before) = (At::root(new), At::root(old));
    metadata::update(&root.get("metadata"), &before.get("metadata"), &mut faults);
    certificates::update(&root, &before, certificates::Writer::Approval, &mut faults);
    faults.into_causes()
}

/// The faults of a pod that is to replace `old` through its `ephemeralcontainers` subresource.
pub fn update_ephemeral_containers(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new(MAX_FAULTS);
    let (root, before) = (At::root(new), At::root(old));
    metadata::update(&root.get("metadata"), &before.get("metadata"), &mut faults);
    content("", "Pod", &root, &mut faults);
    if before.get("metadata").get("annotations").get("kubernetes.io/config.mirror").is_set() {
        faults.forbidden(&root, "static pods do not support ephemeral containers");
        return faults.into_causes();
    }
    let (spec, old) = (root.get("spec"), before.get("spec"));
    let field = "ephemeralContainers";
    pod_update::ephemeral_containers(&spec.get(field), &old.get(field), &mut faults);
    faults.into_causes()
}

/// The faults of a pod that is to replace `old` through its `resize` subresource.
pub fn update_resize(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::new(MAX_FAULTS);
    let (root, before) = (At::root(new), At::root(old));
    metadata::update(&root.get("metadata"), &before.get("metadata"), &mut faults);
    content("", "Pod", &root, &mut faults);
    pod_resize::update(&root, &before, &mut faults);
    faults.into_causes()
}

/// What holds of an object at any time.
fn content(group: &str, kind: &str, root: &At<'_, '_>, faults: &mut Faults) {
    match (group, kind) {
        ("", "Pod") => pod::pod(root, faults),
        ("", "PodTemplate") => pod::template(&root.get("template"), faults),
        ("", "ReplicationController") => apps::replication_controller(root, faults),
        ("", "Service") => service::service(root, faults),
        ("", "ConfigMap") => config::config_map(root, faults),
        ("", "Secret") => config::secret(root, faults),
        ("", "Namespace") => namespace::namespace(root, faults),
        ("", "Event") => events::core(root, faults),
        ("", "Binding") => namespace::binding(root, faults),
        ("", "Endpoints") => networking::endpoints(root, faults),
        ("", "Node") => node::node(root, faults),
        ("", "PersistentVolume") => storage::volume(root, faults),
        ("", "PersistentVolumeClaim") => storage::claim(root, faults),
        ("", "ResourceQuota") => quota::quota(root, faults),
        ("", "LimitRange") => quota::limit_range(root, faults),
        ("apps", _) => apps::content(kind, root, faults),
        ("batch", _) => batch::content(kind, root, faults),
        ("rbac.authorization.k8s.io", _) => rbac::content(kind, root, faults),
        ("networking.k8s.io", "Ingress") => networking::ingress(root, faults),
        ("networking.k8s.io", "IngressClass") => networking::class(root, faults),
        ("networking.k8s.io", "NetworkPolicy") => networking::policy(root, faults),
        ("node.k8s.io", "RuntimeClass") => node::runtime_class(root, faults),
        ("discovery.k8s.io", "EndpointSlice") => networking::slice(root, faults),
        ("storage.k8s.io", "StorageClass") => storage::class(root, faults),
        ("storage.k8s.io", "CSIDriver") => csi::driver(root, faults),
        ("storage.k8s.io", "CSINode") => csi::node(root, faults),
        ("storage.k8s.io", "CSIStorageCapacity") => csi::capacity(root, faults),
        ("storage.k8s.io", "VolumeAttachment") => csi::attachment(root, faults),
        ("storage.k8s.io", "VolumeAttributesClass") => csi::attributes_class(root, faults),
        ("policy", "PodDisruptionBudget") => policy::disruption_budget(root, faults),
        ("scheduling.k8s.io", "PriorityClass") => policy::priority_class(root, faults),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition::content(root, faults),
        ("coordination.k8s.io", "Lease") => policy::lease(root, faults),
        ("flowcontrol.apiserver.k8s.io", _) => flow_control::content(kind, root, faults),
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration",
        ) => extension::webhooks(kind, root, faults),
        ("apiregistration.k8s.io", "APIService") => extension::api_service(root, faults),
        ("autoscaling", "HorizontalPodAutoscaler") => autoscaling::autoscaler(root, faults),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
