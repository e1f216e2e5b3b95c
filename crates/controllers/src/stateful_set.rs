//! Stateful sets: pods with names and storage of their own, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use sampan_api::Status;
use sampan_api::object::ObjectRef;
use sampan_client::events::{EventType, reference};
use sampan_client::{DeleteOptions, InformerEvent, PatchKind, WorkQueue};
use serde_json::json;

use crate::Shared;
use crate::claim::Claimant;
use crate::controller::{Controller, owner_key, subjects};
use crate::owned_pods::orphan_appeared;
use crate::revisions::{self, Author, name};
use crate::view::Kind;

mod identity;
mod plan;

use plan::{Action, Plan, Revision, Snapshot, plan};

const API_VERSION: &str = "apps/v1";
const KIND: &str = "StatefulSet";

pub(crate) struct StatefulSets;

#[async_trait]
impl Controller for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset"
    }

    fn affected(&self, shared: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match kind {
            Kind::StatefulSet => subjects(event).for_each(|object| queue.add(object.key())),
            Kind::Pod | Kind::ControllerRevision => {
                for object in subjects(event) {
                    match owner_key(object, API_VERSION, KIND) {
                        Some(key) => queue.add(key),
                        None => orphan_appeared(shared, Kind::StatefulSet, object, queue),
                    }
                }
            }
            // A claim that is being deleted stands in the way of a pod that needs it.
            Kind::PersistentVolumeClaim => {
                if let InformerEvent::Deleted(claim) = event {
                    user_of(shared, claim).into_iter().for_each(|key| queue.add(key));
                }
            }
            _ => {}
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some(set) = shared.view.get::<StatefulSet>(Kind::StatefulSet, key) else { return Ok(None) };
        let Some((namespace, _)) = key.split_once('/') else { return Ok(None) };
        let Some(spec) = set.spec.as_ref() else { return Ok(None) };
        let adopts = set.metadata.deletion_timestamp.is_none();
        let claimant = Claimant {
            namespace,
            kind: Kind::StatefulSet,
            owner: identity::owner(&set),
            selector: Some(&spec.selector),
            adopts,
            finalizer: None,
        };
        let pods = claimant.claim(shared).await?;
        let author = Author {
            namespace,
            kind: Kind::StatefulSet,
            metadata: &set.metadata,
            owner: identity::owner(&set),
            selector: &spec.selector,
            template: &spec.template,
            collisions: set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0),
        };
        let mut history = author.history(shared, adopts).await?;
        if !adopts && history.is_empty() {
            return Ok(None);
        }
        let (update, collisions) = author.latest(shared, &mut history).await?;
        let current = current(&set, &history).unwrap_or(&update);
        let planned = planned(shared, &set, (current, &update), collisions, &pods);
        let live = pods.iter().map(identity::revision);
        let live: BTreeSet<&str> = live.chain([name(&current.metadata), name(&update.metadata)]).collect();
        let done = execute(shared, &set, namespace, planned.actions).await;
        if set.status.as_ref() != Some(&planned.status) {
            let patch = json!({"status": planned.status});
            let api = shared.client.namespaced::<StatefulSet>(namespace);
            api.patch_status(name(&set.metadata), PatchKind::Merge, &patch).await?;
        }
        done?;
        author.truncate(shared, &history, &live, spec.revision_history_limit).await?;
        Ok(planned.again)
    }
}

/// The revision that was complete last.
fn current<'a>(set: &StatefulSet, history: &'a [ControllerRevision]) -> Option<&'a ControllerRevision> {
    let current = set.status.as_ref()?.current_revision.as_deref()?;
    history.iter().find(|revision| name(&revision.metadata) == current)
}

fn planned(
    shared: &Shared,
    set: &StatefulSet,
    (current, update): (&ControllerRevision, &ControllerRevision),
    collisions: i32,
    pods: &[Pod],
) -> Plan {
    let own = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let before = revisions::template(current).unwrap_or_else(|| own.clone());
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let has_claims = set.spec.as_ref().is_some_and(|spec| spec.volume_claim_templates.is_some());
    let claims =
        shared.view.list::<PersistentVolumeClaim>(Kind::PersistentVolumeClaim, namespace, |_| has_claims);
    let claims: BTreeMap<String, PersistentVolumeClaim> =
        claims.into_iter().map(|claim| (name(&claim.metadata).to_owned(), claim)).collect();
    plan(&Snapshot {
        set,
        current: Revision { name: name(&current.metadata), template: &before },
        update: Revision { name: name(&update.metadata), template: &own },
        collisions,
        pods,
        claims: &claims,
        now: Timestamp::now(),
    })
}

async fn execute(
    shared: &Shared,
    set: &StatefulSet,
    namespace: &str,
    actions: Vec<Action>,
) -> Result<(), Status> {
    let pods = shared.client.namespaced::<Pod>(namespace);
    let claims = shared.client.namespaced::<PersistentVolumeClaim>(namespace);
    let set_name = name(&set.metadata);
    let tell = |kind: EventType, reason: &str, message: String| {
        shared.events.event(&reference(set), kind, reason, message);
    };
    for action in actions {
        match action {
            Action::CreateClaim(claim) => {
                let claim_name = name(&claim.metadata).to_owned();
                match claims.create(&claim).await {
                    Ok(_) => tell(
                        EventType::Normal,
                        "SuccessfulCreate",
                        format!("create Claim {claim_name} in StatefulSet {set_name} success"),
                    ),
                    Err(status) if status.is_already_exists() => {}
                    Err(status) => {
                        tell(
                            EventType::Warning,
                            "FailedCreate",
                            format!(
                                "create Claim {claim_name} in StatefulSet {set_name} failed error: {status}"
                            ),
                        );
                        return Err(status);
                    }
                }
            }
            Action::Create(pod) => {
                let pod_name = name(&pod.metadata).to_owned();
                match pods.create(&pod).await {
                    Ok(_) => tell(
                        EventType::Normal,
                        "SuccessfulCreate",
                        format!("create Pod {pod_name} in StatefulSet {set_name} successful"),
                    ),
                    // Of a pass whose result the view does not show yet, or somebody else's.
                    Err(status) if status.is_already_exists() => {}
                    Err(status) => {
                        tell(
                            EventType::Warning,
                            "FailedCreate",
                            format!("create Pod {pod_name} in StatefulSet {set_name} failed error: {status}"),
                        );
                        return Err(status);
                    }
                }
            }
            Action::Delete { name: pod_name, uid, failed } => {
                if failed {
                    let message =
                        format!("StatefulSet {namespace}/{set_name} is recreating failed Pod {pod_name}");
                    tell(EventType::Warning, "RecreatingFailedPod", message);
                }
                let options = DeleteOptions { uid: Some(uid), ..DeleteOptions::default() };
                match pods.delete(&pod_name, &options).await {
                    Ok(()) => tell(
                        EventType::Normal,
                        "SuccessfulDelete",
                        format!("delete Pod {pod_name} in StatefulSet {set_name} successful"),
                    ),
                    Err(status) if status.is_not_found() || status.is_conflict() => {}
                    Err(status) => return Err(status),
                }
            }
            Action::Label { name: pod_name, ordinal } => {
                let labels: BTreeMap<_, _> = identity::labels(&pod_name, ordinal).into_iter().collect();
                let patch = json!({"metadata": {"labels": labels}});
                match pods.patch(&pod_name, PatchKind::Merge, &patch).await {
                    Err(status) if !status.is_not_found() => return Err(status),
                    Ok(_) | Err(_) => {}
                }
            }
            Action::OwnClaim { name: claim_name, owners } => {
                let patch = json!({"metadata": {"ownerReferences": owners}});
                match claims.patch(&claim_name, PatchKind::Merge, &patch).await {
                    Err(status) if !status.is_not_found() => return Err(status),
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
    Ok(())
}

/// The set that a claim is of, by the claim's name.
fn user_of(shared: &Shared, claim: &ObjectRef) -> Vec<String> {
    let namespace = &claim.header.namespace;
    let uses = |set: &ObjectRef| {
        let prefix = format!("-{}-", set.header.name);
        claim.header.name.rsplit_once(&*prefix).is_some_and(|(_, ordinal)| ordinal.parse::<u32>().is_ok())
    };
    let sets = shared.view.of(Kind::StatefulSet).list(namespace);
    sets.iter().filter(|set| uses(set)).map(|set| set.key()).collect()
}
