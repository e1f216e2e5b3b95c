//! What the next step of a rollout is: a pure function of the deployment and its replica sets.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::template::{current_set, hash};
use super::{DESIRED, MAXIMUM, REVISION, REVISION_HISTORY, recreates};

pub(crate) type Annotations = BTreeMap<String, String>;

/// Annotations that belong to one object and are not handed down.
const OWN_ANNOTATIONS: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAXIMUM,
    "deprecated.deployment.rollback.to",
];

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Create {
        hash: String,
        replicas: i32,
        annotations: Annotations,
    },
    Scale {
        name: String,
        from: i32,
        to: i32,
        annotations: Annotations,
    },
    Annotate {
        name: String,
        annotations: Annotations,
    },
    /// The revision that the deployment itself shows.
    SetRevision(String),
    Delete {
        name: String,
        uid: String,
    },
}

/// How far a rollout may go beyond and below the wanted number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub replicas: i32,
    pub surge: i32,
    pub unavailable: i32,
}

impl Bounds {
    pub fn of(deployment: &Deployment) -> Self {
        let replicas = wanted(deployment);
        if recreates(deployment) {
            return Bounds { replicas, surge: 0, unavailable: replicas };
        }
        let rolling = deployment
            .spec
            .as_ref()
            .and_then(|spec| spec.strategy.as_ref()?.rolling_update.clone())
            .unwrap_or_default();
        let quarter = IntOrString::String("25%".into());
        let surge = resolve(rolling.max_surge.as_ref().unwrap_or(&quarter), replicas, true);
        let mut unavailable = resolve(rolling.max_unavailable.as_ref().unwrap_or(&quarter), replicas, false);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Bounds { replicas, surge, unavailable: unavailable.min(replicas) }
    }

    fn most(self) -> i32 {
        if self.replicas == 0 { 0 } else { self.replicas + self.surge }
    }

    pub fn least_available(self) -> i32 {
        self.replicas - self.unavailable
    }
}

/// A number, or a percentage of another one.
fn resolve(value: &IntOrString, of: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let scaled = percent * i64::from(of);
            let rounded = if round_up { (scaled + 99) / 100 } else { scaled / 100 };
            i32::try_from(rounded.max(0)).unwrap_or(i32::MAX)
        }
    }
}

pub(super) fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).max(0)
}

pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

fn revision(set: &ReplicaSet) -> i64 {
    let text = set.metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn name(set: &ReplicaSet) -> String {
    set.metadata.name.clone().unwrap_or_default()
}

/// The next steps. `old_pods_left` matters to `Recreate` only: whether pods of old sets still run.
pub(crate) fn plan(deployment: &Deployment, sets: &[ReplicaSet], old_pods_left: bool) -> Vec<Action> {
    let Some(spec) = deployment.spec.as_ref() else { return Vec::new() };
    let bounds = Bounds::of(deployment);
    let current = current_set(deployment, sets);
    let old: Vec<&ReplicaSet> =
        sets.iter().filter(|set| !current.is_some_and(|current| std::ptr::eq(*set, current))).collect();
    if spec.paused == Some(true) || is_scaling(sets, bounds) {
        return scale_in_proportion(deployment, current, &old, bounds);
    }
    let mut actions = annotate(deployment, current, &old, bounds);
    if recreates(deployment) {
        actions.extend(recreate(deployment, current, &old, bounds, old_pods_left));
    } else {
        actions.extend(roll(deployment, current, &old, bounds));
    }
    if current.is_some() && is_complete(current, &old, bounds) {
        actions.extend(clean_up(spec.revision_history_limit.unwrap_or(10), &old));
    }
    actions
}

fn is_complete(current: Option<&ReplicaSet>, old: &[&ReplicaSet], bounds: Bounds) -> bool {
    let done =
        current.is_some_and(|set| replicas(set) == bounds.replicas && available(set) >= bounds.replicas);
    done && old.iter().all(|set| replicas(set) == 0)
}

/// Whether the wanted number changed since the sets were last scaled.
fn is_scaling(sets: &[ReplicaSet], bounds: Bounds) -> bool {
    sets.iter().filter(|set| replicas(set) > 0).any(|set| {
        let annotation = set.metadata.annotations.as_ref().and_then(|annotations| annotations.get(DESIRED));
        annotation.and_then(|text| text.parse::<i32>().ok()).is_some_and(|desired| desired != bounds.replicas)
    })
}

fn sizes(bounds: Bounds) -> Annotations {
    Annotations::from([
        (DESIRED.to_owned(), bounds.replicas.to_string()),
        (MAXIMUM.to_owned(), (bounds.replicas + bounds.surge).to_string()),
    ])
}

fn scale(set: &ReplicaSet, to: i32, bounds: Bounds) -> Option<Action> {
    let from = replicas(set);
    let wanted = sizes(bounds);
    let known = set.metadata.annotations.as_ref();
    let same = wanted.iter().all(|(key, value)| known.and_then(|known| known.get(key)) == Some(value));
    (from != to || !same).then(|| Action::Scale { name: name(set), from, to, annotations: wanted })
}

/// Keeps the shares of a rollout that is in between while the wanted number changes.
fn scale_in_proportion(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    bounds: Bounds,
) -> Vec<Action> {
    let mut active: Vec<&ReplicaSet> =
        current.into_iter().chain(old.iter().copied()).filter(|set| replicas(set) > 0).collect();
    // One set, or none: it takes the whole change.
    if active.len() <= 1 {
        let newest = active.first().copied().or(current);
        return newest.and_then(|set| scale(set, bounds.replicas, bounds)).into_iter().collect();
    }
    // A current set that is fully there leaves nothing to share.
    if let Some(current) = current
        && replicas(current) == wanted(deployment)
        && available(current) == wanted(deployment)
    {
        return old.iter().filter(|set| replicas(set) > 0).filter_map(|set| scale(set, 0, bounds)).collect();
    }
    if recreates(deployment) {
        return Vec::new();
    }
    let total: i32 = active.iter().map(|set| replicas(set)).sum();
    let mut to_add = bounds.most() - total;
    // Growth goes to the newest first, shrinking to the oldest; the largest come first.
    active.sort_by_key(|set| {
        let created = set.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
        (std::cmp::Reverse(replicas(set)), if to_add > 0 { -created } else { created })
    });
    let mut sizes: Vec<i32> = Vec::new();
    for set in &active {
        let share = share_of(set, bounds, to_add);
        let share = if to_add > 0 { share.min(to_add).max(0) } else { share.max(to_add).min(0) };
        sizes.push(replicas(set) + share);
        to_add -= share;
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add).max(0);
    }
    active.iter().zip(sizes).filter_map(|(set, size)| scale(set, size, bounds)).collect()
}

/// A set's part of the change, by its part of what there was.
fn share_of(set: &ReplicaSet, bounds: Bounds, to_add: i32) -> i32 {
    if to_add == 0 || replicas(set) == 0 {
        return 0;
    }
    let before = set.metadata.annotations.as_ref().and_then(|annotations| annotations.get(MAXIMUM));
    let before: f64 = before.and_then(|text| text.parse().ok()).unwrap_or_else(|| f64::from(bounds.most()));
    if bounds.replicas == 0 {
        return -replicas(set);
    }
    let size = f64::from(replicas(set)) * f64::from(bounds.replicas + bounds.surge) / before.max(1.0);
    size.round() as i32 - replicas(set)
}

/// Keeps the revision and what is handed down up to date on the current set, and the revision on
/// the deployment.
fn annotate(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    _bounds: Bounds,
) -> Vec<Action> {
    let Some(current) = current else { return Vec::new() };
    let next = old.iter().map(|set| revision(set)).max().unwrap_or(0) + 1;
    let mut wanted = handed_down(deployment);
    let own = revision(current);
    let shown = own.max(next);
    if own < next {
        wanted.insert(REVISION.to_owned(), next.to_string());
        if own > 0 {
            let known = current
                .metadata
                .annotations
                .as_ref()
                .and_then(|annotations| annotations.get(REVISION_HISTORY));
            let history = known
                .filter(|known| !known.is_empty())
                .map_or(own.to_string(), |known| format!("{known},{own}"));
            wanted.insert(REVISION_HISTORY.to_owned(), history);
        }
    }
    let known = current.metadata.annotations.clone().unwrap_or_default();
    let missing: Annotations =
        wanted.into_iter().filter(|(key, value)| known.get(key) != Some(value)).collect();
    let mut actions = Vec::new();
    if !missing.is_empty() {
        actions.push(Action::Annotate { name: name(current), annotations: missing });
    }
    let on_deployment =
        deployment.metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    if on_deployment != Some(&shown.to_string()) {
        actions.push(Action::SetRevision(shown.to_string()));
    }
    actions
}

fn handed_down(deployment: &Deployment) -> Annotations {
    let annotations = deployment.metadata.annotations.clone().unwrap_or_default();
    annotations.into_iter().filter(|(key, _)| !OWN_ANNOTATIONS.contains(&key.as_str())).collect()
}

fn create(deployment: &Deployment, old: &[&ReplicaSet], replicas: i32, bounds: Bounds) -> Vec<Action> {
    let Some(spec) = deployment.spec.as_ref() else { return Vec::new() };
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let next = (old.iter().map(|set| revision(set)).max().unwrap_or(0) + 1).to_string();
    let mut annotations = handed_down(deployment);
    annotations.extend(sizes(bounds));
    annotations.insert(REVISION.to_owned(), next.clone());
    let mut actions = vec![Action::Create { hash: hash(&spec.template, collisions), replicas, annotations }];
    let shown = deployment.metadata.annotations.as_ref().and_then(|annotations| annotations.get(REVISION));
    if shown != Some(&next) {
        actions.push(Action::SetRevision(next));
    }
    actions
}

/// `RollingUpdate`.
fn roll(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    bounds: Bounds,
) -> Vec<Action> {
    let old_total: i32 = old.iter().map(|set| replicas(set)).sum();
    let room = (bounds.most() - old_total).max(0);
    let Some(current) = current else {
        return create(deployment, old, bounds.replicas.min(room), bounds);
    };
    let own = replicas(current);
    let grown = if own < bounds.replicas { bounds.replicas.min(own.max(room)) } else { bounds.replicas };
    let mut actions: Vec<Action> = scale(current, grown, bounds).into_iter().collect();
    // The view does not show the pods of a step that was just decided: shrink in the next pass.
    if grown == own {
        actions.extend(shrink_old(current, old, bounds));
    }
    actions
}

/// Takes old pods away: first those that do not serve, then as many as may be missing.
fn shrink_old(current: &ReplicaSet, old: &[&ReplicaSet], bounds: Bounds) -> Vec<Action> {
    let mut sets: Vec<&ReplicaSet> = old.iter().copied().filter(|set| replicas(set) > 0).collect();
    sets.sort_by_key(|set| set.metadata.creation_timestamp.as_ref().map(|time| time.0));
    let total: i32 = sets.iter().map(|set| replicas(set)).sum();
    if total == 0 {
        return Vec::new();
    }
    let current_unavailable = (replicas(current) - available(current)).max(0);
    let mut most = total + replicas(current) - bounds.least_available() - current_unavailable;
    let mut sizes: Vec<i32> = sets.iter().map(|set| replicas(set)).collect();
    for (size, set) in sizes.iter_mut().zip(&sets) {
        let unhealthy = (*size - available(set)).max(0).min(most.max(0));
        *size -= unhealthy;
        most -= unhealthy;
    }
    let healthy: i32 = sets.iter().map(|set| available(set)).sum::<i32>() + available(current);
    let mut spare = (healthy - bounds.least_available()).max(0);
    for (size, set) in sizes.iter_mut().zip(&sets) {
        let cut = (*size).min(spare).min(available(set)).max(0);
        *size -= cut;
        spare -= cut;
    }
    sets.iter()
        .zip(sizes)
        .filter(|(set, size)| replicas(set) != *size)
        .filter_map(|(set, size)| scale(set, size, bounds))
        .collect()
}

/// `Recreate`: all old pods end before the first new one starts.
fn recreate(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    bounds: Bounds,
    old_pods_left: bool,
) -> Vec<Action> {
    let shrinking: Vec<Action> =
        old.iter().filter(|set| replicas(set) > 0).filter_map(|set| scale(set, 0, bounds)).collect();
    if !shrinking.is_empty() || old_pods_left {
        return shrinking;
    }
    match current {
        None => create(deployment, old, bounds.replicas, bounds),
        Some(current) => scale(current, bounds.replicas, bounds).into_iter().collect(),
    }
}

/// Forgets the oldest replica sets beyond the history limit.
fn clean_up(limit: i32, old: &[&ReplicaSet]) -> Vec<Action> {
    let idle = |set: &&&ReplicaSet| {
        let status = set.status.clone().unwrap_or_default();
        replicas(set) == 0 && status.replicas == 0 && set.metadata.deletion_timestamp.is_none()
    };
    let mut sets: Vec<&&ReplicaSet> = old.iter().filter(idle).collect();
    sets.sort_by_key(|set| (revision(set), set.metadata.creation_timestamp.as_ref().map(|time| time.0)));
    let surplus = sets.len().saturating_sub(limit.max(0) as usize);
    let gone = sets.into_iter().take(surplus);
    gone.map(|set| Action::Delete { name: name(set), uid: set.metadata.uid.clone().unwrap_or_default() })
        .collect()
}

#[cfg(test)]
mod tests;
