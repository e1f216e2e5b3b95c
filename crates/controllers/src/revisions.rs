//! Histories of pod templates, as controller revisions: what stateful sets and daemon sets roll out and
//! back. A revision's data is a patch that puts its template into its owner, which is how kubectl undoes.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use sampan_api::Status;
use sampan_api::selector::Selector;
use sampan_client::{DeleteOptions, PatchKind};
use serde_json::{Value, json};

use crate::Shared;
use crate::claim::may_adopt;
use crate::hash::safe_name;
use crate::view::{Kind, decode};

/// The label that names a revision by its hash, on the revision itself.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";
/// The label that names a pod's revision.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";
/// Names that are tried before a pass gives up.
const ATTEMPTS: i32 = 8;

/// Who has a history.
pub(crate) struct Author<'a> {
    pub namespace: &'a str,
    pub kind: Kind,
    pub metadata: &'a ObjectMeta,
    pub owner: OwnerReference,
    pub selector: &'a LabelSelector,
    pub template: &'a PodTemplateSpec,
    pub collisions: i32,
}

/// What has to be done to have a revision of a template.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// It is the latest of the history.
    Latest(usize),
    /// It is in the history and becomes the latest, with this number.
    Again(usize, i64),
    /// There is none yet; it gets this number.
    New(i64),
}

/// Finds a template in a history that is sorted by number.
pub(crate) fn step(history: &[ControllerRevision], data: &Value) -> Step {
    let next = history.last().map_or(0, |last| last.revision) + 1;
    let equal = |revision: &ControllerRevision| revision.data.as_ref().is_some_and(|own| own.0 == *data);
    match history.iter().rposition(equal) {
        Some(at) if at + 1 == history.len() => Step::Latest(at),
        Some(at) => Step::Again(at, next),
        None => Step::New(next),
    }
}

/// The revisions that are too many: the oldest of those that nobody uses, beyond a limit.
pub(crate) fn surplus<'a>(
    history: &'a [ControllerRevision],
    live: &BTreeSet<&str>,
    limit: usize,
) -> Vec<&'a ControllerRevision> {
    let unused: Vec<&ControllerRevision> =
        history.iter().filter(|revision| !live.contains(name(&revision.metadata))).collect();
    let surplus = unused.len().saturating_sub(limit);
    unused.into_iter().take(surplus).collect()
}

/// The patch that a revision of a template holds.
pub(crate) fn data(template: &PodTemplateSpec) -> Result<Value, Status> {
    let mut template = serde_json::to_value(template).map_err(Status::internal)?;
    template["$patch"] = "replace".into();
    Ok(json!({"spec": {"template": template}}))
}

/// The template that a revision holds.
pub(crate) fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The hash that a revision is named by.
pub(crate) fn hash(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    let own = |label: &str| labels.and_then(|labels| labels.get(label));
    own(HASH_LABEL).or_else(|| own(REVISION_LABEL)).map(String::as_str).unwrap_or_default()
}

pub(crate) fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

impl Author<'_> {
    /// The revisions of this owner, oldest first; fitting ones that nobody owns are adopted.
    pub async fn history(&self, shared: &Shared, adopts: bool) -> Result<Vec<ControllerRevision>, Status> {
        let selector = serde_json::to_value(self.selector).map_err(Status::internal)?;
        let Ok(selector) = Selector::from_json(&selector) else { return Ok(Vec::new()) };
        let api = shared.client.namespaced::<ControllerRevision>(self.namespace);
        let mut history = Vec::new();
        for object in shared.view.of(Kind::ControllerRevision).list(self.namespace) {
            let fits = selector.matches(|key| object.header.label(key));
            match object.header.controller() {
                Some(owner) if *owner.uid == *self.owner.uid => {
                    history.extend(decode::<ControllerRevision>(&object));
                }
                None if fits && adopts && !object.header.is_terminating() => {
                    may_adopt(shared, self.kind, self.namespace, &self.owner).await?;
                    let patch =
                        json!({"metadata": {"uid": object.header.uid, "ownerReferences": [self.owner]}});
                    history.push(api.patch(&object.header.name, PatchKind::Merge, &patch).await?);
                }
                Some(_) | None => {}
            }
        }
        history.sort_by_key(|revision: &ControllerRevision| {
            (revision.revision, revision.metadata.creation_timestamp.as_ref().map(|time| time.0))
        });
        Ok(history)
    }

    /// The revision of the owner's template, made or made the latest where that is needed; also how
    /// many names were taken by others.
    pub async fn latest(
        &self,
        shared: &Shared,
        history: &mut Vec<ControllerRevision>,
    ) -> Result<(ControllerRevision, i32), Status> {
        let data = data(self.template)?;
        let api = shared.client.namespaced::<ControllerRevision>(self.namespace);
        match step(history, &data) {
            Step::Latest(at) => Ok((history[at].clone(), self.collisions)),
            Step::Again(at, number) => {
                let patch = json!({"revision": number});
                let again = api.patch(name(&history[at].metadata), PatchKind::Merge, &patch).await?;
                history.remove(at);
                history.push(again.clone());
                Ok((again, self.collisions))
            }
            Step::New(number) => {
                let (created, collisions) = self.create(shared, &data, number).await?;
                history.push(created.clone());
                Ok((created, collisions))
            }
        }
    }

    async fn create(
        &self,
        shared: &Shared,
        data: &Value,
        number: i64,
    ) -> Result<(ControllerRevision, i32), Status> {
        let api = shared.client.namespaced::<ControllerRevision>(self.namespace);
        let mut collisions = self.collisions;
        loop {
            let revision = self.revision(data, number, collisions);
            match api.create(&revision).await {
                Ok(created) => return Ok((created, collisions)),
                Err(status) if status.is_already_exists() && collisions < self.collisions + ATTEMPTS => {
                    let existing = api.find(name(&revision.metadata)).await?;
                    let ours = existing.filter(|existing| {
                        let owners = existing.metadata.owner_references.iter().flatten();
                        owners.into_iter().any(|owner| owner.uid == self.owner.uid)
                            && existing.data == revision.data
                    });
                    // Of a pass whose result the view does not show yet.
                    if let Some(ours) = ours {
                        return Ok((ours, collisions));
                    }
                    collisions += 1;
                }
                Err(status) => return Err(status),
            }
        }
    }

    fn revision(&self, data: &Value, number: i64, collisions: i32) -> ControllerRevision {
        let hash = safe_name(data.to_string().as_bytes(), collisions);
        let mut labels =
            self.template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
        labels.insert(HASH_LABEL.to_owned(), hash.clone());
        labels.insert(REVISION_LABEL.to_owned(), hash.clone());
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(format!("{}-{hash}", self.owner.name)),
                namespace: Some(self.namespace.to_owned()),
                labels: Some(labels),
                annotations: self.metadata.annotations.clone(),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(data.clone())),
            revision: number,
        }
    }

    /// Removes revisions that are too many.
    pub async fn truncate(
        &self,
        shared: &Shared,
        history: &[ControllerRevision],
        live: &BTreeSet<&str>,
        limit: Option<i32>,
    ) -> Result<(), Status> {
        let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
        let api = shared.client.namespaced::<ControllerRevision>(self.namespace);
        for revision in surplus(history, live, limit) {
            let options = DeleteOptions { uid: revision.metadata.uid.clone(), ..DeleteOptions::default() };
            match api.delete(name(&revision.metadata), &options).await {
                Err(status) if !status.is_not_found() => return Err(status),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(name: &str, number: i64, image: &str) -> ControllerRevision {
        serde_json::from_value(json!({"metadata": {"name": name}, "revision": number, "data": of(image)}))
            .expect("a revision")
    }

    fn of(image: &str) -> Value {
        let template = json!({"spec": {"containers": [{"name": "c", "image": image}]}});
        data(&serde_json::from_value(template).expect("a template")).expect("it serialises")
    }

    #[test]
    fn a_template_is_found_or_becomes_the_latest() {
        let history = [revision("a", 1, "one"), revision("b", 2, "two")];
        assert_eq!(step(&[], &of("one")), Step::New(1));
        assert_eq!(step(&history, &of("two")), Step::Latest(1));
        assert_eq!(step(&history, &of("one")), Step::Again(0, 3));
        assert_eq!(step(&history, &of("three")), Step::New(3));
    }

    #[test]
    fn a_revision_holds_a_patch_and_gives_its_template_back() {
        let data = of("one");
        assert_eq!(data["spec"]["template"]["$patch"], "replace");
        let template = template(&revision("a", 1, "one")).expect("a template");
        assert_eq!(template.spec.expect("a spec").containers[0].image.as_deref(), Some("one"));
    }

    #[test]
    fn the_oldest_unused_revisions_go() {
        let history = ["a", "b", "c", "d"].map(|name| revision(name, 1, name));
        let left = |live: &[&str], limit: usize| {
            let live = live.iter().copied().collect();
            surplus(&history, &live, limit)
                .into_iter()
                .map(|one| name(&one.metadata).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(left(&["d"], 1), ["a", "b"]);
        assert_eq!(left(&["a", "d"], 1), ["b"]);
        assert_eq!(left(&[], 10), [""; 0]);
        assert_eq!(left(&["d"], 0), ["a", "b", "c"]);
    }
}
