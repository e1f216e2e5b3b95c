//! Namespaces: what is in one that is being deleted goes first.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sampan_api::{Gvr, Status};
use sampan_client::typed::Resource;
use sampan_client::{DeleteOptions, InformerEvent, ListOptions, Target, WorkQueue};

use crate::Shared;
use crate::controller::{Controller, subjects};
use crate::discovery::{Served, discover};
use crate::view::Kind;

/// The finalizer in `spec.finalizers` that this controller removes.
const FINALIZER: &str = "kubernetes";
/// When to look again at content that nothing in the view tells about.
const RECHECK_FROM: Duration = Duration::from_millis(20);
const RECHECK_TO: Duration = Duration::from_secs(15);

/// Keys are names of namespaces.
pub(crate) struct Namespaces;

/// Whether a namespace exists and is not being deleted.
pub(crate) fn is_active(shared: &Shared, name: &str) -> bool {
    shared.view.of(Kind::Namespace).get(name).is_some_and(|namespace| !namespace.header.is_terminating())
}

/// Whether an object was not created since its namespace is being deleted, or is gone.
pub(crate) fn refused_by_terminating_namespace(status: &Status) -> bool {
    let terminating = || {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    };
    match status.code {
        403 => terminating(),
        404 => status.details.as_ref().is_some_and(|details| details.kind == "namespaces"),
        _ => false,
    }
}

/// What is left of a namespace after everything in it was deleted.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// Groups that could not be asked for their resources.
    pub undiscovered: Vec<String>,
    /// Deletions that failed.
    pub failures: Vec<String>,
    /// Objects by resource.
    pub objects: BTreeMap<String, usize>,
    pub finalizers: BTreeMap<String, usize>,
}

impl Remains {
    pub fn is_nothing(&self) -> bool {
        self.undiscovered.is_empty() && self.failures.is_empty() && self.objects.is_empty()
    }
}

#[async_trait]
impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn affected(&self, shared: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match (kind, event) {
            (Kind::Namespace, InformerEvent::Applied { new, .. }) if new.header.is_terminating() => {
                queue.add(new.header.name.to_string());
            }
            // What went out of a namespace may have been the last thing in it.
            (_, InformerEvent::Deleted(_)) => {
                for object in subjects(event) {
                    let namespace = &object.header.namespace;
                    if !namespace.is_empty() && !is_active(shared, namespace) {
                        queue.add(namespace.to_string());
                    }
                }
            }
            _ => {}
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some(mut namespace) = shared.client.all::<Namespace>().find(key).await? else { return Ok(None) };
        let Some(since) = namespace.metadata.deletion_timestamp.as_ref().map(|time| time.0) else {
            return Ok(None);
        };
        let finalizers =
            namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref()).unwrap_or_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(None);
        }
        let remains = empty(shared, key).await;
        let status = status(namespace.status.take(), &remains, Timestamp::now());
        let done = remains.is_nothing();
        if let Some(status) = status {
            let stored = Namespace { status: Some(status), ..namespace.clone() };
            namespace = shared.client.all::<Namespace>().update_status(&stored).await?;
        }
        if done {
            return finalize(shared, namespace).await.map(|()| None);
        }
        Ok(Some(recheck(since, Timestamp::now())))
    }
}

/// Looks again the sooner the younger the deletion is: most of it ends at once, and what takes
/// long is a pod's grace or somebody's finalizer.
fn recheck(since: Timestamp, now: Timestamp) -> Duration {
    let age = now.duration_since(since).unsigned_abs();
    (age / 8).clamp(RECHECK_FROM, RECHECK_TO)
}

/// Deletes everything in a namespace and tells what remains: pods first, and the rest when they are gone, so
/// that none runs without the policies and secrets that it was given.
async fn empty(shared: &Shared, namespace: &str) -> Remains {
    let mut remains = Remains::default();
    let discovered = match discover(&shared.client).await {
        Ok(discovered) => discovered,
        Err(status) => {
            remains.undiscovered.push(status.to_string());
            return remains;
        }
    };
    remains.undiscovered = discovered.failures;
    let deletable = discovered.resources.iter().filter(|resource| resource.namespaced && resource.deletable);
    let (pods, others): (Vec<_>, Vec<_>) =
        deletable.partition(|resource| resource.gvr.group.is_empty() && resource.gvr.resource == "pods");
    for resources in [pods, others] {
        for resource in resources {
            if let Err(status) = empty_one(shared, namespace, resource, &mut remains).await {
                remains.failures.push(status.to_string());
            }
        }
        if !remains.objects.is_empty() {
            break;
        }
    }
    remains
}

async fn empty_one(
    shared: &Shared,
    namespace: &str,
    resource: &Served,
    remains: &mut Remains,
) -> Result<(), Status> {
    let backend = shared.client.backend();
    let options = DeleteOptions { propagation_policy: Some("Background"), ..DeleteOptions::default() };
    let everything = ListOptions::default();
    if !resource.listable {
        return Ok(());
    }
    let list =
        async || backend.list(&resource.gvr, Some(namespace), &everything).await.map(|list| list.items);
    let items = list().await?;
    if items.is_empty() {
        return Ok(());
    }
    // What is being deleted already is not asked again: for a pod that would only repeat the request.
    if items.iter().any(|object| !object.header.is_terminating()) {
        if resource.deletable_as_collection {
            backend.delete_collection(&resource.gvr, Some(namespace), &everything, &options).await?;
        } else {
            for object in &items {
                let name = &object.header.name;
                let target =
                    Target { gvr: &resource.gvr, namespace: Some(namespace), name, subresource: None };
                match backend.delete(target, &options).await {
                    Err(status) if !status.is_not_found() => return Err(status),
                    Ok(()) | Err(_) => {}
                }
            }
        }
    }
    let left = list().await?;
    if !left.is_empty() {
        remains.objects.insert(format!("{}.{}", resource.gvr.resource, resource.gvr.group), left.len());
    }
    for finalizer in left.iter().flat_map(|object| &object.header.finalizers) {
        *remains.finalizers.entry(finalizer.to_string()).or_default() += 1;
    }
    Ok(())
}

/// The new status; absent where nothing about it changes.
fn status(old: Option<NamespaceStatus>, remains: &Remains, now: Timestamp) -> Option<NamespaceStatus> {
    let mut status = old.unwrap_or_default();
    let mut changed = status.phase.as_deref() != Some("Terminating");
    status.phase = Some("Terminating".to_owned());
    let conditions = status.conditions.get_or_insert_default();
    for mut fresh in conditions_of(remains) {
        fresh.last_transition_time = Some(Time(now));
        match conditions.iter_mut().find(|known| known.type_ == fresh.type_) {
            None => {
                conditions.push(fresh);
                changed = true;
            }
            Some(known) => {
                if known.status == fresh.status {
                    fresh.last_transition_time = known.last_transition_time.clone();
                }
                changed |= *known != fresh;
                *known = fresh;
            }
        }
    }
    changed.then_some(status)
}

fn conditions_of(remains: &Remains) -> [NamespaceCondition; 5] {
    let counted = |counts: &BTreeMap<String, usize>, word: &str| {
        let texts: Vec<String> =
            counts.iter().map(|(what, count)| format!("{what} {word} {count} resource instances")).collect();
        texts.join(", ")
    };
    let condition =
        |type_: &str, fault: Option<(&str, String)>, reason: &str, message: &str| NamespaceCondition {
            type_: type_.to_owned(),
            status: if fault.is_some() { "True" } else { "False" }.to_owned(),
            reason: Some(fault.as_ref().map_or(reason, |(reason, _)| reason).to_owned()),
            message: Some(fault.map_or(message.to_owned(), |(_, message)| message)),
            last_transition_time: None,
        };
    let when = |there: bool, reason: &'static str, message: String| there.then_some((reason, message));
    let undiscovered = remains.undiscovered.len();
    let failed = remains.failures.len();
    [
        condition(
            "NamespaceDeletionDiscoveryFailure",
            when(
                undiscovered > 0,
                "DiscoveryFailed",
                format!(
                    "Discovery failed for some groups, {undiscovered} failing: unable to retrieve the complete list of server APIs: {}",
                    remains.undiscovered.join(", ")
                ),
            ),
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        condition(
            "NamespaceDeletionContentFailure",
            when(
                failed > 0,
                "ContentDeletionFailed",
                format!(
                    "Failed to delete all resource types, {failed} remaining: {}",
                    remains.failures.join(", ")
                ),
            ),
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        condition(
            "NamespaceContentRemaining",
            when(
                !remains.objects.is_empty(),
                "SomeResourcesRemain",
                format!("Some resources are remaining: {}", counted(&remains.objects, "has")),
            ),
            "ContentRemoved",
            "All content successfully removed",
        ),
        condition(
            "NamespaceFinalizersRemaining",
            when(
                !remains.finalizers.is_empty(),
                "SomeFinalizersRemain",
                format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    counted(&remains.finalizers, "in")
                ),
            ),
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ]
}

/// Lets the namespace go.
async fn finalize(shared: &Shared, mut namespace: Namespace) -> Result<(), Status> {
    let finalizers = namespace.spec.get_or_insert_default().finalizers.get_or_insert_default();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    let gvr: Gvr = Namespace::gvr();
    let name = namespace.metadata.name.clone().unwrap_or_default();
    let target = Target { gvr: &gvr, namespace: None, name: &name, subresource: Some("finalize") };
    let body = serde_json::to_vec(&namespace).map_err(Status::internal)?;
    match shared.client.backend().update(target, body.into()).await {
        Ok(_) => Ok(()),
        Err(status) if status.is_not_found() => Ok(()),
        Err(status) => Err(status),
    }
}

#[cfg(test)]
mod tests;
