//! When a job's pod has failed, what the pod failure policy says about it, and how long a
//! replacement waits.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::pods::phase;

/// The wait for a replacement after one failure; it doubles with each further one.
const BACKOFF: SignedDuration = SignedDuration::from_secs(10);
const BACKOFF_MAX: SignedDuration = SignedDuration::from_mins(6);

/// Whether pods are replaced only when they have ended, and not already when they begin to.
pub(super) fn replaces_only_ended(job: &Job) -> bool {
    let spec = job.spec.as_ref();
    let policy = spec.and_then(|spec| spec.pod_replacement_policy.as_deref());
    policy == Some("Failed") || spec.is_some_and(|spec| spec.pod_failure_policy.is_some())
}

pub(super) fn has_failed(job: &Job, pod: &Pod) -> bool {
    match phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        // A pod that is deleted may never get to tell that it failed.
        _ => pod.metadata.deletion_timestamp.is_some() && !replaces_only_ended(job),
    }
}

/// What the policy says about a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Count,
    Ignore,
    FailIndex,
    /// The whole job fails, for this reason.
    FailJob(String),
}

pub(super) fn judge(job: &Job, pod: &Pod) -> Judgement {
    let policy = job.spec.as_ref().and_then(|spec| spec.pod_failure_policy.as_ref());
    for (at, rule) in policy.iter().flat_map(|policy| &policy.rules).enumerate() {
        let Some(cause) = cause(rule, pod) else { continue };
        match rule.action.as_str() {
            "Ignore" => return Judgement::Ignore,
            "FailIndex" => return Judgement::FailIndex,
            "FailJob" => return Judgement::FailJob(format!("{cause} matching FailJob rule at index {at}")),
            "Count" => return Judgement::Count,
            _ => {}
        }
    }
    Judgement::Count
}

/// What of a pod a rule matches.
fn cause(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let metadata = &pod.metadata;
    let name = format!(
        "{}/{}",
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default()
    );
    let status = pod.status.as_ref()?;
    if let Some(codes) = &rule.on_exit_codes {
        let containers = status.container_statuses.iter().flatten();
        let all = containers.chain(status.init_container_statuses.iter().flatten());
        let (container, code) = all.filter_map(|container| exit_code(container, codes)).next()?;
        return Some(format!("Container {container} for pod {name} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let fits = |condition: &&k8s_openapi::api::core::v1::PodCondition| {
        patterns.iter().any(|pattern| {
            pattern.type_ == condition.type_
                && pattern.status.as_deref().unwrap_or("True") == condition.status
        })
    };
    let condition = status.conditions.iter().flatten().find(fits)?;
    Some(format!("Pod {name} has condition {}", condition.type_))
}

fn exit_code<'a>(
    status: &'a ContainerStatus,
    codes: &PodFailurePolicyOnExitCodesRequirement,
) -> Option<(&'a str, i32)> {
    let code = status.state.as_ref()?.terminated.as_ref()?.exit_code;
    let meant = codes.container_name.as_ref().is_none_or(|name| *name == status.name);
    let fits = match codes.operator.as_str() {
        "In" => codes.values.contains(&code),
        "NotIn" => !codes.values.contains(&code),
        _ => false,
    };
    (meant && code != 0 && fits).then_some((&status.name, code))
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    failures: u32,
    last: Option<Timestamp>,
}

impl Backoff {
    pub fn of(failures: u32, last: Timestamp) -> Self {
        Backoff { failures, last: Some(last) }
    }

    /// After further pods ended: a success ends a row of failures.
    pub fn after<'a>(
        self,
        succeeded: impl Iterator<Item = &'a Pod>,
        failed: impl Iterator<Item = &'a Pod>,
    ) -> Self {
        let success = succeeded.map(finished_at).max();
        let start = if success.is_some() { Backoff::default() } else { self };
        failed.map(finished_at).filter(|at| success.is_none_or(|success| *at > success)).fold(
            start,
            |backoff, at| Backoff {
                failures: backoff.failures.saturating_add(1),
                last: Some(backoff.last.map_or(at, |last| last.max(at))),
            },
        )
    }

    /// How long the next pod has to wait.
    pub fn remaining(&self, now: Timestamp) -> Duration {
        let Some(last) = self.last.filter(|_| self.failures > 0) else { return Duration::ZERO };
        let doublings = (self.failures - 1).min(16);
        let wait = BACKOFF.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        let left = wait - now.duration_since(last);
        if left.is_negative() { Duration::ZERO } else { left.unsigned_abs() }
    }
}

/// When a pod ended, as well as can be told.
pub(super) fn finished_at(pod: &Pod) -> Timestamp {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let ends: Option<Vec<Timestamp>> = containers
        .iter()
        .map(|container| Some(container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref()?.0))
        .collect();
    let unready = || {
        let conditions = status?.conditions.as_deref()?;
        let condition = conditions.iter().find(|one| one.type_ == "Ready" && one.status == "False")?;
        condition.last_transition_time.as_ref().map(|time| time.0)
    };
    let deleted = || {
        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
        let due = pod.metadata.deletion_timestamp.as_ref()?.0;
        due.checked_sub(SignedDuration::from_secs(grace)).ok()
    };
    let created = || pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let ended = ends.and_then(|ends| ends.into_iter().max());
    ended.or_else(unready).or_else(deleted).or_else(created).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(code: i32, conditions: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "status": {"phase": "Failed", "conditions": conditions,
            "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code, "finishedAt": "2024-01-01T00:00:00Z"}}}]}}))
        .expect("a pod")
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let job: Job =
            serde_json::from_value(json!({"spec": {"template": {}, "podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 2]}}]}}}))
            .expect("a job");
        let disrupted = json!([{"type": "DisruptionTarget", "status": "True"}]);
        let message = "Container c for pod n/p failed with exit code 42 matching FailJob rule at index 1";
        for (pod, expected) in [
            (pod(42, disrupted), Judgement::Ignore),
            (pod(42, json!([])), Judgement::FailJob(message.to_owned())),
            (pod(7, json!([])), Judgement::FailIndex),
            (pod(1, json!([])), Judgement::Count),
        ] {
            assert_eq!(judge(&job, &pod), expected);
        }
    }

    #[test]
    fn waits_double_until_a_success() {
        let failed = pod(1, json!([]));
        let at = finished_at(&failed);
        let mut backoff = Backoff::default();
        assert_eq!(backoff.remaining(at), Duration::ZERO);
        for seconds in [10, 20, 40, 80, 160, 320, 360, 360] {
            backoff = backoff.after([].into_iter(), [&failed].into_iter());
            assert_eq!(backoff.remaining(at), Duration::from_secs(seconds));
        }
        assert_eq!(backoff.remaining(at + SignedDuration::from_mins(7)), Duration::ZERO);
        assert_eq!(backoff.after([&failed].into_iter(), [].into_iter()), Backoff::default());
    }
}
