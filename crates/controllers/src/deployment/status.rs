//! What a deployment's status says.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::{Bounds, available, replicas};
use super::template::current_set;

/// The deadline that means none.
const NO_DEADLINE: i32 = i32::MAX;

/// The status by what the replica sets report, and when to look again although nothing changes.
pub(super) fn status(
    deployment: &Deployment,
    sets: &[ReplicaSet],
    now: Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let current = current_set(deployment, sets);
    let sum = |count: &dyn Fn(&ReplicaSet) -> i32| sets.iter().map(count).sum::<i32>();
    let reported = |set: &ReplicaSet| set.status.as_ref().map_or(0, |status| status.replicas);
    let ready = |set: &ReplicaSet| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let old = deployment.status.clone().unwrap_or_default();
    let total = sum(&replicas);
    let available_total = sum(&available);
    let some = |count: i32| (count != 0).then_some(count);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(&reported)),
        updated_replicas: some(current.map_or(0, reported)),
        ready_replicas: some(sum(&ready)),
        available_replicas: some(available_total),
        unavailable_replicas: some((total - available_total).max(0)),
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
        terminating_replicas: old.terminating_replicas,
    };
    let mut conditions = old.conditions.clone().unwrap_or_default();
    set(&mut conditions, available_condition(deployment, available_total, now), now);
    let again = progress(deployment, current, sets, &old, &status, &mut conditions, now);
    failure(sets, &mut conditions, now);
    status.conditions = (!conditions.is_empty()).then_some(conditions);
    (status, again)
}

fn condition(
    type_: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> DeploymentCondition {
    DeploymentCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// Puts a condition in; its times move only when it says something else.
fn set(conditions: &mut Vec<DeploymentCondition>, mut new: DeploymentCondition, _now: Timestamp) {
    match conditions.iter_mut().find(|known| known.type_ == new.type_) {
        Some(known)
            if known.status == new.status && known.reason == new.reason && known.message == new.message => {}
        Some(known) => {
            if known.status == new.status {
                new.last_transition_time = known.last_transition_time.clone();
            }
            *known = new;
        }
        None => conditions.push(new),
    }
}

fn available_condition(deployment: &Deployment, available: i32, now: Timestamp) -> DeploymentCondition {
    if available >= Bounds::of(deployment).least_available() {
        let message = "Deployment has minimum availability.".to_owned();
        condition("Available", "True", "MinimumReplicasAvailable", message, now)
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        condition("Available", "False", "MinimumReplicasUnavailable", message, now)
    }
}

/// The `Progressing` condition: what the rollout does, or that it stands still for too long.
fn progress(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    sets: &[ReplicaSet],
    old: &DeploymentStatus,
    status: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
    now: Timestamp,
) -> Option<Duration> {
    let spec = deployment.spec.as_ref()?;
    let deadline = spec.progress_deadline_seconds.unwrap_or(600);
    if spec.paused == Some(true) {
        let message = "Deployment is paused".to_owned();
        set(conditions, condition("Progressing", "Unknown", "DeploymentPaused", message, now), now);
        return None;
    }
    let known = conditions.iter().find(|condition| condition.type_ == "Progressing").cloned();
    if known.as_ref().is_some_and(|known| known.reason.as_deref() == Some("DeploymentPaused")) {
        let message = "Deployment is resumed".to_owned();
        set(conditions, condition("Progressing", "Unknown", "DeploymentResumed", message, now), now);
    }
    let set_name = current.and_then(|set| set.metadata.name.clone()).unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1);
    let number = |count: Option<i32>| count.unwrap_or(0);
    let complete = number(status.updated_replicas) == wanted
        && number(status.replicas) == wanted
        && number(status.available_replicas) == wanted
        && sets.iter().map(replicas).sum::<i32>() == wanted;
    if complete {
        let message = format!("ReplicaSet \"{set_name}\" has successfully progressed.");
        set(conditions, condition("Progressing", "True", "NewReplicaSetAvailable", message, now), now);
        return None;
    }
    let done_before =
        known.as_ref().is_some_and(|known| known.reason.as_deref() == Some("NewReplicaSetAvailable"));
    let old_count = number(old.replicas) - number(old.updated_replicas);
    let new_count = number(status.replicas) - number(status.updated_replicas);
    let moved = number(status.updated_replicas) > number(old.updated_replicas)
        || new_count < old_count
        || number(status.ready_replicas) > number(old.ready_replicas)
        || number(status.available_replicas) > number(old.available_replicas);
    // A deployment that was complete and only lost a pod stays so: its rollout is over.
    let same_set = known
        .as_ref()
        .and_then(|known| known.message.as_deref())
        .is_some_and(|message| message.contains(&format!("\"{set_name}\"")));
    if current.is_some() && (known.is_none() || moved || (done_before && !same_set)) {
        let (reason, message) = if number(status.updated_replicas) == 0 {
            ("NewReplicaSetCreated", format!("Created new replica set \"{set_name}\""))
        } else {
            ("ReplicaSetUpdated", format!("ReplicaSet \"{set_name}\" is progressing."))
        };
        if !(done_before && same_set) {
            let fresh = condition("Progressing", "True", reason, message, now);
            conditions.retain(|condition| condition.type_ != "Progressing");
            conditions.push(DeploymentCondition {
                last_transition_time: known
                    .filter(|known| known.status == "True")
                    .map_or(fresh.last_transition_time.clone(), |known| known.last_transition_time),
                ..fresh
            });
        }
    }
    if deadline == NO_DEADLINE || (done_before && same_set) {
        return None;
    }
    let since = conditions.iter().find(|condition| condition.type_ == "Progressing")?;
    if since.reason.as_deref() == Some("ProgressDeadlineExceeded") {
        return None;
    }
    let left = i64::from(deadline) - (now.as_second() - since.last_update_time.as_ref()?.0.as_second());
    if left > 0 {
        return Some(Duration::from_secs(left.unsigned_abs() + 1));
    }
    let message = format!("ReplicaSet \"{set_name}\" has timed out progressing.");
    set(conditions, condition("Progressing", "False", "ProgressDeadlineExceeded", message, now), now);
    None
}

/// `ReplicaFailure` follows the current replica sets'.
fn failure(sets: &[ReplicaSet], conditions: &mut Vec<DeploymentCondition>, now: Timestamp) {
    let failed = sets.iter().filter(|set| replicas(set) > 0).find_map(|set| {
        set.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "ReplicaFailure")
    });
    match failed {
        None => conditions.retain(|condition| condition.type_ != "ReplicaFailure"),
        Some(failed) => {
            let reason = failed.reason.clone().unwrap_or_default();
            let message = failed.message.clone().unwrap_or_default();
            set(conditions, condition("ReplicaFailure", &failed.status, &reason, message, now), now);
        }
    }
}
