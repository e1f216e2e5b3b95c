//! How a job ends: by its limits, its policies, or its success.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};

use super::{Facts, condition, sooner};
use crate::job::failure::{Judgement, has_failed, judge};
use crate::job::indexes::Indexes;
use crate::pods::phase;

/// How a job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub success: bool,
    pub reason: String,
    pub message: String,
}

impl Outcome {
    fn failure(reason: &str, message: &str) -> Self {
        Outcome { success: false, reason: reason.to_owned(), message: message.to_owned() }
    }

    pub fn success(reason: &str, message: String) -> Self {
        Outcome { success: true, reason: reason.to_owned(), message }
    }
}

impl Facts<'_> {
    /// How the job ends, where that is decided. Notes when a deadline comes.
    pub(super) fn outcome(&self, status: &JobStatus, again: &mut Option<Duration>) -> Option<Outcome> {
        let copied = |condition: &JobCondition, success| Outcome {
            success,
            reason: condition.reason.clone().unwrap_or_default(),
            message: condition.message.clone().unwrap_or_default(),
        };
        if let Some(target) = condition(Some(status), "FailureTarget") {
            return Some(copied(target, false));
        }
        if let Some(met) = condition(Some(status), "SuccessCriteriaMet") {
            return Some(copied(met, true));
        }
        let failing = self.policy_failure().or_else(|| self.limit_failure(status, again));
        failing.or_else(|| self.policy_success()).or_else(|| self.index_failure())
    }

    fn policy_failure(&self) -> Option<Outcome> {
        self.spec.pod_failure_policy.as_ref()?;
        let job = self.snapshot.job;
        let failed = self.snapshot.pods.iter().filter(|pod| has_failed(job, pod));
        failed.map(|pod| judge(job, pod)).find_map(|judgement| match judgement {
            Judgement::FailJob(message) => Some(Outcome::failure("PodFailurePolicy", &message)),
            Judgement::Count | Judgement::Ignore | Judgement::FailIndex => None,
        })
    }

    fn limit_failure(&self, status: &JobStatus, again: &mut Option<Duration>) -> Option<Outcome> {
        let default = if self.spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
        let limit = self.spec.backoff_limit.unwrap_or(default);
        if self.failed > limit || self.restarts_exceed(limit) {
            return Some(Outcome::failure(
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            ));
        }
        let deadline = self.spec.active_deadline_seconds.filter(|_| !self.spec.suspend.unwrap_or(false))?;
        let since = status.start_time.as_ref()?.0;
        let left = SignedDuration::from_secs(deadline) - self.snapshot.now.duration_since(since);
        if left.is_negative() || left.is_zero() {
            return Some(Outcome::failure(
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            ));
        }
        sooner(again, left.unsigned_abs());
        None
    }

    /// Containers that restart in their pod fail as well.
    fn restarts_exceed(&self, limit: i32) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let pods = self.snapshot.pods.iter().filter(|pod| matches!(phase(pod), "Running" | "Pending"));
        let statuses = pods.filter_map(|pod| pod.status.as_ref()).flat_map(|status| {
            let init = status.init_container_statuses.iter().flatten();
            init.chain(status.container_statuses.iter().flatten())
        });
        let restarts: i32 = statuses.map(|status| status.restart_count).sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn policy_success(&self) -> Option<Outcome> {
        let completions = self.completions?;
        let rules = &self.spec.success_policy.as_ref()?.rules;
        let met = rules.iter().position(|rule| {
            let wanted = rule.succeeded_indexes.as_deref().map(|text| Indexes::parse(text, completions));
            let succeeded = (0..completions).filter(|index| {
                self.completed.contains(*index)
                    && wanted.as_ref().is_none_or(|wanted| wanted.contains(*index))
            });
            let needed = rule.succeeded_count.or(wanted.as_ref().map(Indexes::len));
            needed.is_some_and(|needed| succeeded.count() as i32 >= needed)
        })?;
        Some(Outcome::success("SuccessPolicy", format!("Matched rules at index {met}")))
    }

    fn index_failure(&self) -> Option<Outcome> {
        let failed = self.failed_indexes.as_ref()?.len();
        if self.spec.max_failed_indexes.is_some_and(|most| failed > most) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(Outcome::failure("MaxFailedIndexesExceeded", message));
        }
        let all = failed + self.completed.len() >= self.completions?;
        (failed > 0 && all).then(|| Outcome::failure("FailedIndexes", "Job has failed indexes"))
    }
}
