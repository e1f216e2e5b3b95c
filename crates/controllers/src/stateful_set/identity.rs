//! Who the pods of a stateful set are: name, labels, host name, claims, by their ordinals.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use super::{API_VERSION, KIND};
use crate::pods::{controller_reference, from_template};
use crate::revisions::{REVISION_LABEL, name};

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name, when the pod is named after the set.
pub(super) fn ordinal(set: &StatefulSet, pod: &ObjectMeta) -> Option<i32> {
    let (parent, ordinal) = name(pod).rsplit_once('-')?;
    let plain = parent == name(&set.metadata) && !ordinal.starts_with('+');
    ordinal.parse().ok().filter(|ordinal| plain && *ordinal >= 0)
}

/// The first ordinal and the number of pods.
pub(super) fn range(set: &StatefulSet) -> (i32, i32) {
    let spec = set.spec.as_ref();
    let start = spec.and_then(|spec| spec.ordinals.as_ref()).and_then(|ordinals| ordinals.start);
    let replicas = spec.and_then(|spec| spec.replicas).unwrap_or(1).max(0);
    (start.unwrap_or(0), replicas)
}

pub(super) fn is_in_range(set: &StatefulSet, ordinal: i32) -> bool {
    let (start, replicas) = range(set);
    (start..start.saturating_add(replicas)).contains(&ordinal)
}

/// The name of a pod's revision.
pub(super) fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(REVISION_LABEL)).map(String::as_str).unwrap_or_default()
}

/// The labels that name a pod.
pub(super) fn labels(name: &str, ordinal: i32) -> [(&'static str, String); 2] {
    [(NAME_LABEL, name.to_owned()), (INDEX_LABEL, ordinal.to_string())]
}

/// Whether a pod has the label that names it.
pub(super) fn is_labelled(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(NAME_LABEL)) == pod.metadata.name.as_ref()
}

/// The pod of an ordinal.
pub(super) fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let mut pod = from_template(template, owner(set), namespace);
    let name = format!("{}-{ordinal}", name(&set.metadata));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let own = labels(&name, ordinal);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.extend(own.map(|(label, value)| (label.to_owned(), value)));
    labels.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.as_ref().and_then(|spec| spec.service_name.clone());
    let own = claims(set, ordinal);
    let volumes = spec.volumes.get_or_insert_default();
    volumes.retain(|volume| !own.iter().any(|(template, _)| *template == volume.name));
    volumes.splice(
        0..0,
        own.into_iter().map(|(template, claim)| Volume {
            name: template,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.metadata.name.unwrap_or_default(),
                read_only: None,
            }),
            ..Volume::default()
        }),
    );
    pod
}

pub(super) fn owner(set: &StatefulSet) -> OwnerReference {
    controller_reference(API_VERSION, KIND, &set.metadata)
}

/// The claims of an ordinal, with the names of their templates.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<(String, PersistentVolumeClaim)> {
    let spec = set.spec.as_ref();
    let templates = spec.and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default();
    let selected = spec.and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
    let claim = |template: &PersistentVolumeClaim| {
        let mut claim = template.clone();
        let own = name(&template.metadata).to_owned();
        claim.metadata.name = Some(format!("{own}-{}-{ordinal}", name(&set.metadata)));
        claim.metadata.namespace.clone_from(&set.metadata.namespace);
        claim.metadata.labels.get_or_insert_default().extend(selected.clone());
        claim.status = None;
        (own, claim)
    };
    templates.iter().map(claim).collect()
}

/// When claims go: with the set, or with a pod that is scaled away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    pub deleted: bool,
    pub scaled: bool,
}

impl Retention {
    pub fn of(set: &StatefulSet) -> Self {
        let policy =
            set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
        let deletes = |text: Option<&String>| text.is_some_and(|text| text == "Delete");
        Retention {
            deleted: deletes(policy.and_then(|policy| policy.when_deleted.as_ref())),
            scaled: deletes(policy.and_then(|policy| policy.when_scaled.as_ref())),
        }
    }
}

/// The owners that a claim is to have, when they are others than it has. Of others' it keeps all.
pub(super) fn claim_owners(
    set: &StatefulSet,
    pod: &Pod,
    in_range: bool,
    claim: &PersistentVolumeClaim,
) -> Option<Vec<OwnerReference>> {
    let retention = Retention::of(set);
    let condemned = !in_range && retention.scaled;
    let of_set = retention.deleted && !condemned;
    let plain = |reference: OwnerReference| OwnerReference {
        controller: None,
        block_owner_deletion: None,
        ..reference
    };
    let before = claim.metadata.owner_references.clone().unwrap_or_default();
    let mut after = before.clone();
    for (wanted, reference) in [
        (of_set, plain(controller_reference(API_VERSION, KIND, &set.metadata))),
        (condemned, plain(controller_reference("v1", "Pod", &pod.metadata))),
    ] {
        let has = after.iter().any(|owner| owner.uid == reference.uid);
        match (wanted, has) {
            (true, false) => after.push(reference),
            (false, true) => after.retain(|owner| owner.uid != reference.uid),
            (true, true) | (false, false) => {}
        }
    }
    (after != before).then_some(after)
}
