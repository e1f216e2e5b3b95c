//! Which replica set is the current one: the one whose pod template is the deployment's.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::HASH_LABEL;
use crate::hash::safe_name;

/// A short name for a template: equal for equal templates.
pub(super) fn hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let json = serde_json::to_vec(template).expect("a template serialises");
    safe_name(&json, collisions)
}

/// Whether two templates are the same but for the hash label.
fn same(one: &PodTemplateSpec, other: &PodTemplateSpec) -> bool {
    let plain = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(labels) = template.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut()) {
            labels.remove(HASH_LABEL);
        }
        template
    };
    plain(one) == plain(other)
}

/// The oldest replica set with the deployment's template.
pub(super) fn current_set<'a>(deployment: &Deployment, sets: &'a [ReplicaSet]) -> Option<&'a ReplicaSet> {
    let template = &deployment.spec.as_ref()?.template;
    let fits = |set: &&ReplicaSet| {
        set.spec.as_ref().and_then(|spec| spec.template.as_ref()).is_some_and(|own| same(own, template))
    };
    sets.iter().filter(fits).min_by_key(|set| {
        (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.metadata.name.clone())
    })
}
