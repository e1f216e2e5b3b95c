//! What one pass does for a cron job. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use sampan_client::events::EventType;

use super::schedule::Timetable;
use super::{API_VERSION, KIND};
use crate::job::finished;
use crate::pods::controller_reference;
use crate::revisions::name;

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// A timer that fires early would find nothing to do.
const DELTA: Duration = Duration::from_millis(100);

pub(super) struct Snapshot<'a> {
    pub cron: &'a CronJob,
    /// The cron job's own.
    pub jobs: &'a [Job],
    /// Uids of active jobs that are known to be gone.
    pub missing: &'a BTreeSet<String>,
    /// Or why there is none: reason and message of an event.
    pub timetable: Result<Timetable, (&'static str, String)>,
    pub now: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Names and uids; these first.
    pub delete: Vec<(String, String)>,
    /// A job, and the time that it is for.
    pub create: Option<(Box<Job>, Timestamp)>,
    /// Before the creation is counted.
    pub status: CronJobStatus,
    pub events: Vec<(EventType, &'static str, String)>,
    pub again: Option<Duration>,
}

pub(super) fn plan(snapshot: &Snapshot<'_>) -> Plan {
    let mut plan = Plan { status: snapshot.cron.status.clone().unwrap_or_default(), ..Plan::default() };
    plan.take_stock(snapshot);
    plan.forget_old(snapshot);
    if snapshot.cron.metadata.deletion_timestamp.is_none() {
        plan.schedule(snapshot);
    }
    if plan.status.active.as_ref().is_some_and(Vec::is_empty) {
        plan.status.active = None;
    }
    plan
}

fn uid(metadata: &ObjectMeta) -> &str {
    metadata.uid.as_deref().unwrap_or_default()
}

impl Plan {
    fn is_active(&self, uid: &str) -> bool {
        self.status.active.iter().flatten().any(|active| active.uid.as_deref() == Some(uid))
    }

    fn deactivate(&mut self, uid: &str) {
        if let Some(active) = &mut self.status.active {
            active.retain(|active| active.uid.as_deref() != Some(uid));
        }
    }

    fn tell(&mut self, kind: EventType, reason: &'static str, message: String) {
        self.events.push((kind, reason, message));
    }

    /// What became of the jobs that were begun.
    fn take_stock(&mut self, snapshot: &Snapshot<'_>) {
        for job in snapshot.jobs {
            let (uid, name) = (uid(&job.metadata), name(&job.metadata));
            let Some(end) = finished(job) else { continue };
            if self.is_active(uid) {
                self.deactivate(uid);
                let message = format!("Saw completed job: {name}, condition: {}", end.type_);
                self.tell(EventType::Normal, "SawCompletedJob", message);
            }
            let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
            if completed > self.status.last_successful_time {
                self.status.last_successful_time = completed;
            }
        }
        let gone: Vec<(String, String)> = self
            .status
            .active
            .iter()
            .flatten()
            .filter_map(|active| Some((active.uid.clone()?, active.name.clone()?)))
            .filter(|(uid, _)| snapshot.missing.contains(uid))
            .collect();
        for (uid, name) in gone {
            self.deactivate(&uid);
            self.tell(EventType::Normal, "MissingJob", format!("Active job went missing: {name}"));
        }
    }

    /// Removes the oldest jobs that are over, beyond the limits.
    fn forget_old(&mut self, snapshot: &Snapshot<'_>) {
        let spec = snapshot.cron.spec.as_ref();
        let limits = [
            ("Complete", spec.and_then(|spec| spec.successful_jobs_history_limit)),
            ("Failed", spec.and_then(|spec| spec.failed_jobs_history_limit)),
        ];
        for (kind, limit) in limits {
            let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
            let ended = snapshot.jobs.iter().filter(|job| finished(job).is_some_and(|end| end.type_ == kind));
            let mut jobs: Vec<&Job> = ended.collect();
            jobs.sort_by_key(|job| {
                let start = job.status.as_ref().and_then(|status| status.start_time.clone());
                (start.is_none(), start, job.metadata.name.clone())
            });
            for job in &jobs[..jobs.len().saturating_sub(limit)] {
                self.delete.push((name(&job.metadata).to_owned(), uid(&job.metadata).to_owned()));
            }
        }
    }

    fn schedule(&mut self, snapshot: &Snapshot<'_>) {
        let Some(spec) = snapshot.cron.spec.as_ref() else { return };
        let now = snapshot.now;
        let timetable = match &snapshot.timetable {
            Ok(timetable) => timetable,
            Err((reason, message)) => {
                return self.tell(EventType::Warning, reason, message.clone());
            }
        };
        if spec.suspend == Some(true) {
            return;
        }
        self.again = timetable
            .next(now)
            .map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default() + DELTA);
        let created = snapshot.cron.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let last = self.status.last_schedule_time.as_ref().map_or(created, |time| time.0);
        let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        let earliest = deadline.and_then(|deadline| now.checked_sub(deadline).ok());
        let since = earliest.map_or(last, |earliest| earliest.max(last));
        let Some((due, many)) = timetable.latest(since, now) else { return };
        if many {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.tell(EventType::Warning, "TooManyMissedTimes", message.to_owned());
        }
        if deadline.is_some_and(|deadline| due.checked_add(deadline).is_ok_and(|end| end < now)) {
            let message = format!("Missed scheduled time to start a job: {due}");
            return self.tell(EventType::Warning, "MissSchedule", message);
        }
        let job_name = format!("{}-{}", name(&snapshot.cron.metadata), due.as_second() / 60);
        let active = self.status.active.clone().unwrap_or_default();
        let is_known = active.iter().any(|active| active.name.as_ref() == Some(&job_name))
            || self.status.last_schedule_time.as_ref().is_some_and(|time| time.0 == due);
        if is_known {
            return;
        }
        match spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let message =
                    "Not starting job because prior execution is running and concurrency policy is Forbid";
                return self.tell(EventType::Normal, "JobAlreadyActive", message.to_owned());
            }
            Some("Replace") => {
                for old in active {
                    let (Some(name), Some(uid)) = (old.name, old.uid) else { continue };
                    self.deactivate(&uid);
                    self.delete.push((name, uid));
                }
            }
            Some(_) | None => {}
        }
        self.create = Some((Box::new(job(snapshot.cron, job_name, due, timetable)), due));
    }
}

/// The job for one time.
fn job(cron: &CronJob, job_name: String, due: Timestamp, timetable: &Timetable) -> Job {
    let template = cron.spec.as_ref().map(|spec| spec.job_template.clone()).unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    let local = timetable.zone.to_datetime(due);
    let offset = timetable.zone.to_offset(due);
    let offset = match offset.seconds() {
        0 => "Z".to_owned(),
        seconds => {
            let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.abs() / 60);
            format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
        }
    };
    annotations.insert(SCHEDULED_AT.to_owned(), format!("{local}{offset}"));
    Job {
        metadata: ObjectMeta {
            name: Some(job_name),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference(API_VERSION, KIND, &cron.metadata)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// The status after a job was created for a time.
pub(super) fn begun(status: &mut CronJobStatus, job: &Job, due: Timestamp) {
    status.last_schedule_time = Some(Time(due));
    // Of times within one minute the first has its job, which may be over.
    if finished(job).is_none() {
        status.active.get_or_insert_default().push(sampan_client::events::reference(job));
    }
}

#[cfg(test)]
mod tests;
