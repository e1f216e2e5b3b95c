//! Cron jobs: a job at every time of a schedule.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use sampan_api::Status;
use sampan_client::events::{EventType, reference};
use sampan_client::{DeleteOptions, InformerEvent, PatchKind, WorkQueue};
use serde_json::{Value, json};

use crate::Shared;
use crate::controller::{Controller, owner_key, subjects};
use crate::namespace::refused_by_terminating_namespace;
use crate::revisions::name;
use crate::view::Kind;

mod plan;
mod schedule;

use plan::{Plan, Snapshot, begun, plan};
use schedule::Timetable;

const API_VERSION: &str = "batch/v1";
const KIND: &str = "CronJob";

pub(crate) struct CronJobs;

#[async_trait]
impl Controller for CronJobs {
    fn name(&self) -> &'static str {
        "cronjob"
    }

    fn affected(&self, _: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match kind {
            Kind::CronJob => subjects(event).for_each(|object| queue.add(object.key())),
            Kind::Job => {
                let keys = subjects(event).filter_map(|object| owner_key(object, API_VERSION, KIND));
                keys.for_each(|key| queue.add(key));
            }
            _ => {}
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some(cron) = shared.view.get::<CronJob>(Kind::CronJob, key) else { return Ok(None) };
        let Some((namespace, _)) = key.split_once('/') else { return Ok(None) };
        let uid = cron.metadata.uid.clone().unwrap_or_default();
        let jobs = shared.view.list::<Job>(Kind::Job, namespace, |job| {
            job.header.controller().is_some_and(|owner| *owner.uid == *uid)
        });
        let missing = missing(shared, &cron, &jobs, namespace).await?;
        let timetable = timetable(&cron).await;
        let snapshot =
            Snapshot { cron: &cron, jobs: &jobs, missing: &missing, timetable, now: Timestamp::now() };
        let mut plan = plan(&snapshot);
        for (kind, reason, message) in plan.events.drain(..) {
            shared.events.event(&reference(&cron), kind, reason, message);
        }
        let done = execute(shared, &cron, namespace, &mut plan).await;
        if cron.status.clone().unwrap_or_default() != plan.status {
            let patch = json!({"status": status_patch(&cron, &plan.status)?});
            let api = shared.client.namespaced::<CronJob>(namespace);
            api.patch_status(name(&cron.metadata), PatchKind::Merge, &patch).await?;
        }
        done?;
        Ok(plan.again)
    }
}

/// The active jobs that nobody has any more. The view may only not show them yet.
async fn missing(
    shared: &Shared,
    cron: &CronJob,
    jobs: &[Job],
    namespace: &str,
) -> Result<BTreeSet<String>, Status> {
    let api = shared.client.namespaced::<Job>(namespace);
    let mut missing = BTreeSet::new();
    for active in cron.status.iter().flat_map(|status| status.active.iter().flatten()) {
        let (Some(job), Some(uid)) = (&active.name, &active.uid) else { continue };
        if jobs.iter().any(|job| job.metadata.uid.as_ref() == Some(uid)) {
            continue;
        }
        let found = api.find(job).await?;
        if found.is_none_or(|found| found.metadata.uid.as_ref() != Some(uid)) {
            missing.insert(uid.clone());
        }
    }
    Ok(missing)
}

/// The schedule in its zone, or the reason and message of an event.
async fn timetable(cron: &CronJob) -> Result<Timetable, (&'static str, String)> {
    let spec = cron.spec.as_ref();
    let text = spec.map(|spec| spec.schedule.clone()).unwrap_or_default();
    let own = spec.and_then(|spec| spec.time_zone.clone());
    let zone_name = schedule::zone_name(&text, own.as_deref()).map(str::to_owned);
    let read = {
        let zone_name = zone_name.clone();
        tokio::task::spawn_blocking(move || schedule::zone(zone_name.as_deref()))
    };
    let zone = read.await.unwrap_or_else(|error| Err(error.to_string()));
    let zone = zone.map_err(|error| {
        ("UnknownTimeZone", format!("invalid timeZone: {:?}: {error}", zone_name.unwrap_or_default()))
    })?;
    let schedule = text
        .parse()
        .map_err(|error| ("UnparseableSchedule", format!("unparseable schedule: {text:?} : {error}")))?;
    Ok(Timetable { schedule, zone })
}

/// A merge patch from the old status to the new one: what went away must be null.
fn status_patch(cron: &CronJob, status: &CronJobStatus) -> Result<Value, Status> {
    let mut patch = json!({"active": null});
    let new = serde_json::to_value(status).map_err(Status::internal)?;
    if cron.status.is_none() {
        return Ok(new);
    }
    if let Some(fields) = patch.as_object_mut() {
        fields.extend(new.as_object().cloned().unwrap_or_default());
    }
    Ok(patch)
}

async fn execute(shared: &Shared, cron: &CronJob, namespace: &str, plan: &mut Plan) -> Result<(), Status> {
    let api = shared.client.namespaced::<Job>(namespace);
    let tell = |kind: EventType, reason: &str, message: String| {
        shared.events.event(&reference(cron), kind, reason, message);
    };
    for (job, uid) in &plan.delete {
        let options = DeleteOptions {
            uid: Some(uid.clone()),
            propagation_policy: Some("Background"),
            ..DeleteOptions::default()
        };
        match api.delete(job, &options).await {
            Ok(()) => tell(EventType::Normal, "SuccessfulDelete", format!("Deleted job {job}")),
            Err(status) if status.is_not_found() || status.is_conflict() => {}
            Err(status) => {
                tell(EventType::Warning, "FailedDelete", format!("Deleted job: {status}"));
                return Err(status);
            }
        }
    }
    let Some((job, due)) = plan.create.take() else { return Ok(()) };
    match api.create(&job).await {
        Ok(created) => {
            let message = format!("Created job {}", name(&created.metadata));
            tell(EventType::Normal, "SuccessfulCreate", message);
            begun(&mut plan.status, &created, due);
            Ok(())
        }
        // Of a pass whose result the view does not show yet, or somebody else's.
        Err(status) if status.is_already_exists() => {
            let existing = api.find(name(&job.metadata)).await?;
            let ours = existing.filter(|existing| {
                let owners = existing.metadata.owner_references.iter().flatten();
                owners.into_iter().any(|owner| Some(&owner.uid) == cron.metadata.uid.as_ref())
            });
            match ours {
                Some(ours) => {
                    begun(&mut plan.status, &ours, due);
                    Ok(())
                }
                None => Err(status),
            }
        }
        Err(status) if refused_by_terminating_namespace(&status) => Ok(()),
        Err(status) => {
            tell(EventType::Warning, "FailedCreate", format!("Error creating job: {status}"));
            Err(status)
        }
    }
}
