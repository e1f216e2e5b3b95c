//! The conditions of a job, and the events that tell of them.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sampan_client::events::EventType;

use super::outcome::Outcome;

/// Sets a condition; one that was never there does not become false. Answers whether it changed.
fn set(
    status: &mut JobStatus,
    type_: &str,
    value: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> bool {
    let fresh = JobCondition {
        type_: type_.to_owned(),
        status: if value { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    let conditions = status.conditions.get_or_insert_default();
    match conditions.iter_mut().find(|known| known.type_ == type_) {
        Some(known) if known.status == fresh.status => false,
        Some(known) => {
            *known = fresh;
            true
        }
        None if value => {
            conditions.push(fresh);
            true
        }
        None => false,
    }
}

pub(super) fn note_suspension(
    suspended: bool,
    status: &mut JobStatus,
    events: &mut Vec<(EventType, String, String)>,
    now: Timestamp,
) {
    let (reason, message, event) = if suspended {
        ("JobSuspended", "Job suspended", "Suspended")
    } else {
        ("JobResumed", "Job resumed", "Resumed")
    };
    if set(status, "Suspended", suspended, reason, message, now) {
        events.push((EventType::Normal, event.to_owned(), message.to_owned()));
        if !suspended {
            // The deadline counts from the resumption.
            status.start_time = Some(Time(now));
        }
    }
}

/// Says how the job ends, and that it has, when nothing of it is left to end.
pub(super) fn conclude(
    outcome: &Outcome,
    over: bool,
    status: &mut JobStatus,
    events: &mut Vec<(EventType, String, String)>,
    now: Timestamp,
) {
    let (interim, terminal) =
        if outcome.success { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") };
    set(status, interim, true, &outcome.reason, &outcome.message, now);
    if !over || !set(status, terminal, true, &outcome.reason, &outcome.message, now) {
        return;
    }
    if outcome.success {
        status.completion_time = Some(Time(now));
        events.push((EventType::Normal, "Completed".to_owned(), "Job completed".to_owned()));
    } else {
        events.push((EventType::Warning, outcome.reason.clone(), outcome.message.clone()));
    }
}
