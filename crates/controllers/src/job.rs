//! Jobs: pods that run to their end, as many times as asked for.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use parking_lot::Mutex;
use sampan_api::Status;
use sampan_api::object::ObjectRef;
use sampan_client::events::reference;
use sampan_client::{InformerEvent, PatchKind, WorkQueue};
use serde_json::json;

use crate::Shared;
use crate::claim::Claimant;
use crate::controller::{Controller, subjects};
use crate::namespace::refused_by_terminating_namespace;
use crate::owned_pods::{NotCreated, OwnedPods, Owner, Victim};
use crate::pods::{controller_reference, from_template};
use crate::view::Kind;

mod failure;
mod indexes;
mod plan;

pub(crate) use plan::finished;

use failure::Backoff;
use plan::{Creation, FAILURES, FINALIZER, IGNORED_FAILURES, INDEX, Plan, Snapshot, is_tracked, plan};

const API_VERSION: &str = "batch/v1";
const KIND: &str = "Job";
/// Who manages a job whose spec names nobody.
const MANAGER: &str = "kubernetes.io/job-controller";

pub(crate) struct Jobs {
    pods: OwnedPods,
    memory: Mutex<HashMap<String, Memory>>,
}

impl Default for Jobs {
    fn default() -> Jobs {
        Jobs { pods: OwnedPods::new(Kind::Job, API_VERSION, KIND), memory: Mutex::default() }
    }
}

/// What is remembered of a job between passes.
#[derive(Clone, Debug, Default)]
struct Memory {
    uid: String,
    backoff: Backoff,
    /// The revision of the last status that was written: an older view would count pods again.
    written: u64,
}

#[async_trait]
impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job"
    }

    fn affected(&self, shared: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match kind {
            Kind::Job => subjects(event).for_each(|job| queue.add(job.key())),
            Kind::Pod => self.pods.changed(shared, event, queue),
            _ => {}
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some((namespace, name)) = key.split_once('/') else { return Ok(None) };
        let job: Option<Job> = shared.view.get(Kind::Job, key);
        let uid = job.as_ref().and_then(|job| job.metadata.uid.clone());
        let orphans =
            shared.view.list::<Pod>(Kind::Pod, namespace, |pod| is_left_by(pod, name, uid.as_deref()));
        release(shared, namespace, orphans.iter()).await?;
        let Some(job) = job else {
            self.pods.forget(key);
            self.memory.lock().remove(key);
            return Ok(None);
        };
        let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
        if manager.is_some_and(|manager| manager != MANAGER) {
            return Ok(None);
        }
        if finished(&job).is_some() {
            self.memory.lock().remove(key);
            return Ok(None);
        }
        self.advance(shared, key, namespace, job).await
    }
}

/// Whether a pod of a job that is gone still holds its finalizer.
fn is_left_by(pod: &ObjectRef, name: &str, uid: Option<&str>) -> bool {
    let owner =
        pod.header.controller().filter(|owner| &*owner.kind == KIND && &*owner.api_version == API_VERSION);
    let left = owner.is_some_and(|owner| &*owner.name == name && Some(&*owner.uid) != uid);
    left && pod.header.finalizers.iter().any(|finalizer| &**finalizer == FINALIZER)
}

impl Jobs {
    fn recall(&self, key: &str, job: &Job) -> Memory {
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let known = self.memory.lock().get(key).filter(|memory| memory.uid == uid).cloned();
        known.unwrap_or(Memory { uid, ..Memory::default() })
    }

    /// One pass: pods first, then the status, then the finalizers of the pods that it counts.
    async fn advance(
        &self,
        shared: &Shared,
        key: &str,
        namespace: &str,
        job: Job,
    ) -> Result<Option<Duration>, Status> {
        let mut memory = self.recall(key, &job);
        if revision(&job) < memory.written {
            // The view will show what was written, and bring the key back.
            return Ok(None);
        }
        let settled = self.pods.settled(key);
        let claimant = Claimant {
            namespace,
            kind: Kind::Job,
            owner: controller_reference(API_VERSION, KIND, &job.metadata),
            selector: job.spec.as_ref().and_then(|spec| spec.selector.as_ref()),
            adopts: job.metadata.deletion_timestamp.is_none(),
            finalizer: Some(FINALIZER),
        };
        let pods = claimant.claim(shared).await?;
        let snapshot =
            Snapshot { job: &job, pods: &pods, backoff: memory.backoff, settled, now: Timestamp::now() };
        let mut plan = plan(snapshot);
        let failure = self.act(shared, key, namespace, &job, &pods, &mut plan).await.err();
        if job.status.as_ref() != Some(&plan.status) {
            let stored = Job { status: Some(plan.status.clone()), ..job.clone() };
            let stored = shared.client.namespaced::<Job>(namespace).update_status(&stored).await?;
            memory.written = revision(&stored);
        }
        memory.backoff = plan.backoff;
        self.memory.lock().insert(key.to_owned(), memory);
        for (kind, reason, message) in plan.events {
            shared.events.event(&reference(&job), kind, &reason, message);
        }
        release(shared, namespace, plan.release.iter().map(|at| &pods[*at])).await?;
        failure.map_or(Ok(plan.again), Err)
    }

    /// Creates and deletes pods, and corrects the status where that fails.
    async fn act(
        &self,
        shared: &Shared,
        key: &str,
        namespace: &str,
        job: &Job,
        pods: &[Pod],
        plan: &mut Plan,
    ) -> Result<(), Status> {
        let owner = Owner { key, namespace, subject: &reference(job) };
        let created = self.pods.create(shared, owner, &plan.create, |creation| pod(job, creation)).await;
        release(shared, namespace, plan.discard.iter().map(|at| &pods[*at])).await?;
        let victims: Vec<Victim> =
            plan.discard.iter().chain(&plan.end).map(|at| Victim::of(&pods[*at])).collect();
        let deleted = self.pods.delete(shared, owner, &victims).await;
        let Err(NotCreated { count: missing, status }) = created else { return deleted };
        let active = plan.status.active.unwrap_or(0) - missing as i32;
        plan.status.active = Some(active).filter(|active| *active > 0);
        if refused_by_terminating_namespace(&status) { deleted } else { Err(status) }
    }
}

fn revision(job: &Job) -> u64 {
    job.metadata.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Takes the job's finalizer off pods, all at once.
async fn release(shared: &Shared, namespace: &str, pods: impl Iterator<Item = &Pod>) -> Result<(), Status> {
    let api = &shared.client.namespaced::<Pod>(namespace);
    let releases = pods.filter(|pod| is_tracked(pod)).map(|pod| async move {
        let metadata = &pod.metadata;
        let rest: Vec<&String> = metadata.finalizers.iter().flatten().filter(|one| *one != FINALIZER).collect();
        let patch = json!({"metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version, "finalizers": rest}});
        match api.patch(metadata.name.as_deref().unwrap_or_default(), PatchKind::Merge, &patch).await {
            Err(status) if !status.is_not_found() => Err(status),
            Ok(_) | Err(_) => Ok(()),
        }
    });
    join_all(releases).await.into_iter().collect()
}

/// The pod of a creation.
fn pod(job: &Job, creation: &Creation) -> Pod {
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let owner = controller_reference(API_VERSION, KIND, &job.metadata);
    let mut pod = from_template(&template, owner, job.metadata.namespace.as_deref().unwrap_or_default());
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        finalizers.push(FINALIZER.to_owned());
    }
    let Some(index) = creation.index else { return pod };
    let name = job.metadata.name.as_deref().unwrap_or_default();
    pod.metadata.generate_name = Some(format!("{name}-{index}-"));
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if let Some((failures, ignored)) = creation.failures {
        annotations.insert(FAILURES.to_owned(), failures.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), ignored.to_string());
        }
    }
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{name}-{index}"));
        spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(tell_index);
    }
    pod
}

/// Gives a container its completion index in the environment.
fn tell_index(container: &mut Container) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    let env = container.env.get_or_insert_default();
    if env.iter().any(|one| one.name == NAME) {
        return;
    }
    let field = ObjectFieldSelector { api_version: None, field_path: format!("metadata.labels['{INDEX}']") };
    env.push(EnvVar {
        name: NAME.to_owned(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() }),
    });
}

#[cfg(test)]
mod tests;
