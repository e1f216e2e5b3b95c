//! What a job needs next: a pure function of the job, its pods and what is remembered.
//!
//! Each pod holds a finalizer until it is counted. A pod that ended first enters
//! `status.uncountedTerminatedPods` (or, in an indexed job, the completed indexes), then loses its
//! finalizer, then moves into the counters: each step is stored before the next, so that a pod is
//! counted once whatever fails in between.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sampan_client::events::EventType;

use super::failure::{Backoff, Judgement, finished_at, has_failed, judge, replaces_only_ended};
use super::indexes::Indexes;
use crate::pods::{is_active, is_ready, phase, rank};

mod conditions;
mod outcome;

use conditions::{conclude, note_suspension};
use outcome::Outcome;

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub(super) const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// The most pods that one pass creates or deletes, and that wait to be counted.
const BURST: usize = 500;

#[derive(Clone, Copy)]
pub(super) struct Snapshot<'a> {
    pub job: &'a Job,
    pub pods: &'a [Pod],
    pub backoff: Backoff,
    /// Whether the pods show everything that earlier passes did.
    pub settled: bool,
    pub now: Timestamp,
}

/// A pod to create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Creation {
    pub index: Option<i32>,
    /// Failures of the index that count, and that do not; where the limit is per index.
    pub failures: Option<(u32, u32)>,
}

/// Pods are given by their place in the snapshot.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub create: Vec<Creation>,
    /// Deleted without being counted.
    pub discard: Vec<usize>,
    /// Deleted, since the job is over.
    pub end: Vec<usize>,
    pub status: JobStatus,
    /// Lose the finalizer once the status is stored.
    pub release: Vec<usize>,
    pub backoff: Backoff,
    pub again: Option<Duration>,
    pub events: Vec<(EventType, String, String)>,
}

pub(super) fn condition<'a>(status: Option<&'a JobStatus>, type_: &str) -> Option<&'a JobCondition> {
    let conditions = status?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == type_ && condition.status == "True")
}

/// The condition of a job that is over.
pub(crate) fn finished(job: &Job) -> Option<&JobCondition> {
    condition(job.status.as_ref(), "Complete").or_else(|| condition(job.status.as_ref(), "Failed"))
}

pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn count_of(pod: &Pod, name: &str) -> u32 {
    annotation(pod, name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// Facts about a job that the steps of a plan share.
struct Facts<'a> {
    snapshot: Snapshot<'a>,
    spec: &'a JobSpec,
    /// For an indexed job.
    completions: Option<i32>,
    active: Vec<usize>,
    terminating: usize,
    succeeded: i32,
    failed: i32,
    completed: Indexes,
    failed_indexes: Option<Indexes>,
    /// The failed pod of an index whose failures a replacement has yet to take over.
    replaced: HashMap<i32, usize>,
    backoff: Backoff,
}

pub(super) fn plan(snapshot: Snapshot<'_>) -> Plan {
    let Some(spec) = snapshot.job.spec.as_ref() else { return Plan::default() };
    let mut status = snapshot.job.status.clone().unwrap_or_default();
    settle_counters(&mut status, snapshot.pods);
    let suspended = spec.suspend.unwrap_or(false);
    if status.start_time.is_none() && !suspended {
        status.start_time = Some(Time(snapshot.now));
    }
    let facts = facts(snapshot, spec, &status);
    let mut plan = Plan { backoff: facts.backoff, ..Plan::default() };
    let mut outcome = facts.outcome(&status, &mut plan.again);
    let mut active = facts.active.len();
    if outcome.is_some() {
        plan.end.clone_from(&facts.active);
        active = 0;
    } else {
        let managed = snapshot.settled && snapshot.job.metadata.deletion_timestamp.is_none();
        if managed {
            facts.manage(suspended, &mut plan);
            active = active + plan.create.len() - plan.discard.len();
        }
        let enough = spec.completions.map_or(facts.succeeded > 0, |wanted| facts.succeeded >= wanted);
        if enough && active == 0 {
            outcome = Some(Outcome::success(
                "CompletionsReached",
                "Reached expected number of succeeded pods".into(),
            ));
        } else if managed {
            note_suspension(suspended, &mut status, &mut plan.events, snapshot.now);
        }
    }
    // Pods that are not seen yet would be left out of what is counted.
    let outcome = outcome.filter(|_| snapshot.settled);
    let all = facts.track(outcome.as_ref(), &mut status, &mut plan);
    let ready = facts.active.iter().filter(|at| is_ready(&snapshot.pods[**at])).count();
    status.active = Some(active as i32).filter(|active| *active > 0);
    status.ready = Some(if outcome.is_some() { 0 } else { ready as i32 });
    status.terminating = Some((facts.terminating + plan.end.len()) as i32);
    if let Some(outcome) = outcome {
        let over = all && plan.release.is_empty() && plan.end.is_empty() && facts.terminating == 0;
        conclude(&outcome, over, &mut status, &mut plan.events, snapshot.now);
    }
    status.conditions = status.conditions.filter(|conditions| !conditions.is_empty());
    plan.status = status;
    plan
}

/// Counts the pods that were noted and have lost their finalizer since.
fn settle_counters(status: &mut JobStatus, pods: &[Pod]) {
    let tracked: HashSet<&str> = pods.iter().filter(|pod| is_tracked(pod)).map(uid).collect();
    let settle = |uids: &mut Option<Vec<String>>, counter: &mut Option<i32>| {
        let Some(list) = uids else { return };
        let before = list.len();
        list.retain(|uid| tracked.contains(uid.as_str()));
        let counted = (before - list.len()) as i32;
        if counted > 0 {
            *counter = Some(counter.unwrap_or(0) + counted);
        }
        if list.is_empty() {
            *uids = None;
        }
    };
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    settle(&mut uncounted.succeeded, &mut status.succeeded);
    settle(&mut uncounted.failed, &mut status.failed);
}

fn facts<'a>(snapshot: Snapshot<'a>, spec: &'a JobSpec, status: &JobStatus) -> Facts<'a> {
    let Snapshot { job, pods, .. } = snapshot;
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let completions = spec.completions.filter(|_| indexed);
    let valid = |pod: &Pod| completions.is_none() || index_of(pod, completions).is_some();
    let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
    let noted_succeeded = uncounted.succeeded.unwrap_or_default();
    let noted_failed = uncounted.failed.unwrap_or_default();
    let fresh = |pod: &&Pod, noted: &[String]| {
        is_tracked(pod) && valid(pod) && !noted.iter().any(|one| one == uid(pod))
    };
    let succeeded: Vec<&Pod> =
        pods.iter().filter(|pod| fresh(pod, &noted_succeeded) && phase(pod) == "Succeeded").collect();
    let failed: Vec<&Pod> =
        pods.iter().filter(|pod| fresh(pod, &noted_failed) && has_failed(job, pod)).collect();
    let counted = failed.iter().filter(|pod| judge(job, pod) != Judgement::Ignore).count();
    let mut facts = Facts {
        snapshot,
        spec,
        completions,
        active: (0..pods.len()).filter(|at| is_active(&pods[*at])).collect(),
        terminating: pods.iter().filter(|pod| is_terminating(pod)).count(),
        succeeded: status.succeeded.unwrap_or(0) + (succeeded.len() + noted_succeeded.len()) as i32,
        failed: status.failed.unwrap_or(0) + (counted + noted_failed.len()) as i32,
        completed: Indexes::default(),
        failed_indexes: None,
        replaced: HashMap::new(),
        backoff: snapshot.backoff.after(succeeded.iter().copied(), failed.iter().copied()),
    };
    if let Some(completions) = completions {
        facts.completed =
            Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions);
        for pod in pods.iter().filter(|pod| is_tracked(pod) && phase(pod) == "Succeeded") {
            index_of(pod, Some(completions)).into_iter().for_each(|index| facts.completed.insert(index));
        }
        facts.succeeded = facts.completed.len();
        if spec.backoff_limit_per_index.is_some() {
            facts.note_failed_indexes(status, completions);
        }
    }
    facts
}

fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some() && !matches!(phase(pod), "Succeeded" | "Failed")
}

/// The completion index of a pod, where it is one of the job's.
fn index_of(pod: &Pod, completions: Option<i32>) -> Option<i32> {
    let index: i32 = annotation(pod, INDEX)?.parse().ok()?;
    (index >= 0 && completions.is_some_and(|completions| index < completions)).then_some(index)
}

impl Facts<'_> {
    fn pod(&self, at: usize) -> &Pod {
        &self.snapshot.pods[at]
    }

    fn note_failed_indexes(&mut self, status: &JobStatus, completions: i32) {
        let Snapshot { job, pods, .. } = self.snapshot;
        let limit = self.spec.backoff_limit_per_index.unwrap_or(0).max(0) as u32;
        let mut failed = Indexes::parse(status.failed_indexes.as_deref().unwrap_or_default(), completions);
        let candidates = || {
            let tracked = pods.iter().enumerate().filter(|(_, pod)| is_tracked(pod) && has_failed(job, pod));
            tracked.filter_map(|(at, pod)| Some((at, pod, index_of(pod, Some(completions))?)))
        };
        for (_, pod, index) in candidates() {
            let is_final = match judge(job, pod) {
                Judgement::FailIndex => true,
                Judgement::Ignore => false,
                Judgement::Count | Judgement::FailJob(_) => count_of(pod, FAILURES) >= limit,
            };
            if is_final {
                failed.insert(index);
            }
        }
        let active: HashSet<i32> =
            self.active.iter().filter_map(|at| index_of(self.pod(*at), Some(completions))).collect();
        let age = |pod: &Pod| (count_of(pod, FAILURES) + count_of(pod, IGNORED_FAILURES), finished_at(pod));
        for (at, pod, index) in candidates() {
            if self.completed.contains(index) || failed.contains(index) || active.contains(&index) {
                continue;
            }
            let known = self.replaced.entry(index).or_insert(at);
            if age(&pods[*known]) < age(pod) {
                *known = at;
            }
        }
        self.failed_indexes = Some(failed);
    }

    /// Creates and discards pods: never both in one pass.
    fn manage(&self, suspended: bool, plan: &mut Plan) {
        if suspended {
            plan.discard.clone_from(&self.active);
            return;
        }
        let parallelism = self.spec.parallelism.unwrap_or(1).max(0) as usize;
        let active = self.active.len();
        let wanted = match self.spec.completions {
            None if self.succeeded > 0 => active,
            None => parallelism,
            Some(completions) => parallelism.min((completions - self.succeeded).max(0) as usize),
        };
        let terminating = if replaces_only_ended(self.snapshot.job) { self.terminating } else { 0 };
        let mut discard = self.surplus((active + terminating).saturating_sub(wanted).min(active));
        discard.truncate(BURST);
        if !discard.is_empty() {
            plan.discard = discard;
            return;
        }
        let missing = wanted.saturating_sub(terminating + active).min(BURST);
        if missing > 0 {
            self.create(missing, plan);
        }
    }

    fn create(&self, missing: usize, plan: &mut Plan) {
        let per_index = self.spec.backoff_limit_per_index.is_some();
        if !per_index {
            let wait = self.backoff.remaining(self.snapshot.now);
            if !wait.is_zero() {
                sooner(&mut plan.again, wait);
                return;
            }
        }
        let Some(completions) = self.completions else {
            plan.create = vec![Creation::default(); missing];
            return;
        };
        let mut taken = self.completed.clone();
        self.failed_indexes.iter().for_each(|failed| taken.extend(failed));
        let only_ended = replaces_only_ended(self.snapshot.job);
        let holding =
            self.snapshot.pods.iter().filter(|pod| is_active(pod) || (only_ended && is_terminating(pod)));
        holding.filter_map(|pod| index_of(pod, self.completions)).for_each(|index| taken.insert(index));
        for index in taken.missing(completions, missing) {
            let failed = self.replaced.get(&index).map(|at| self.pod(*at)).filter(|_| per_index);
            let (mut failures, mut ignored) = (0, 0);
            if let Some(failed) = failed {
                (failures, ignored) = (count_of(failed, FAILURES), count_of(failed, IGNORED_FAILURES));
                let wait =
                    Backoff::of(failures + ignored + 1, finished_at(failed)).remaining(self.snapshot.now);
                if !wait.is_zero() {
                    sooner(&mut plan.again, wait);
                    continue;
                }
                let counts = judge(self.snapshot.job, failed) != Judgement::Ignore;
                if counts { failures += 1 } else { ignored += 1 }
            }
            plan.create
                .push(Creation { index: Some(index), failures: per_index.then_some((failures, ignored)) });
        }
    }

    /// The active pods that are too many: at least so many, and all that repeat an index or have
    /// none of the job's.
    fn surplus(&self, at_least: usize) -> Vec<usize> {
        let mut ranked = self.active.clone();
        ranked.sort_by_cached_key(|at| rank(self.pod(*at), 0));
        let (mut surplus, mut left) = (Vec::new(), ranked);
        if self.completions.is_some() {
            let mut seen = HashSet::new();
            // The pod of an index that is kept is the one that serves most.
            let (kept, rest): (Vec<usize>, Vec<usize>) = left.iter().rev().partition(|at| {
                index_of(self.pod(**at), self.completions).is_some_and(|index| seen.insert(index))
            });
            surplus = rest;
            left = kept.into_iter().rev().collect();
        }
        let more = at_least.saturating_sub(surplus.len());
        surplus.extend(left.into_iter().take(more));
        surplus
    }

    /// Notes the pods that ended, and lets them go. Answers whether all were noted.
    fn track(&self, outcome: Option<&Outcome>, status: &mut JobStatus, plan: &mut Plan) -> bool {
        let Snapshot { job, pods, .. } = self.snapshot;
        let mut uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
        let mut completed = Indexes::default();
        if let Some(completions) = self.completions {
            completed = Indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions);
        }
        let mut order: Vec<usize> = (0..pods.len()).filter(|at| is_tracked(&pods[*at])).collect();
        order.sort_by_key(|at| index_of(&pods[*at], self.completions));
        let mut all = true;
        for at in order {
            let pod = &pods[at];
            let failed = has_failed(job, pod);
            // What is deleted in this pass is counted by the next, which sees it deleted.
            let leaves = plan.discard.contains(&at) || plan.end.contains(&at);
            if leaves || !self.may_release(at, failed, outcome) {
                continue;
            }
            let noted = uncounted.succeeded.as_ref().map_or(0, Vec::len)
                + uncounted.failed.as_ref().map_or(0, Vec::len);
            if noted >= BURST || plan.release.len() >= BURST {
                all = false;
                break;
            }
            plan.release.push(at);
            let index = index_of(pod, self.completions);
            if phase(pod) == "Succeeded" {
                match self.completions {
                    Some(_) => index.into_iter().for_each(|index| completed.insert(index)),
                    None => note(&mut uncounted.succeeded, pod),
                }
            } else if failed || outcome.is_some_and(|outcome| !outcome.success) {
                let counts = judge(job, pod) != Judgement::Ignore;
                if counts && (self.completions.is_none() || index.is_some()) {
                    note(&mut uncounted.failed, pod);
                }
            }
        }
        if self.completions.is_some() {
            status.succeeded = Some(completed.len()).filter(|count| *count > 0);
            status.completed_indexes = Some(completed.to_string()).filter(|text| !text.is_empty());
            status.failed_indexes = self.failed_indexes.as_ref().map(Indexes::to_string);
        }
        let all = all && uncounted == UncountedTerminatedPods::default();
        status.uncounted_terminated_pods = Some(uncounted);
        all
    }

    fn may_release(&self, at: usize, failed: bool, outcome: Option<&Outcome>) -> bool {
        let pod = self.pod(at);
        if outcome.is_some()
            || self.snapshot.job.metadata.deletion_timestamp.is_some()
            || phase(pod) == "Succeeded"
        {
            return true;
        }
        // A replacement takes over the failures of its index first.
        let waits =
            index_of(pod, self.completions).is_some_and(|index| self.replaced.get(&index) == Some(&at));
        failed && !waits
    }
}

fn note(uids: &mut Option<Vec<String>>, pod: &Pod) {
    let uids = uids.get_or_insert_default();
    if !uids.iter().any(|one| one == uid(pod)) {
        uids.push(uid(pod).to_owned());
    }
}

fn sooner(again: &mut Option<Duration>, wait: Duration) {
    *again = Some(again.map_or(wait, |known| known.min(wait)));
}

#[cfg(test)]
mod tests;
