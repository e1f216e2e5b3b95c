//! What objects cost, and whether a resource quota allows them.
//!
//! An [`Evaluator`] knows what one resource's objects use. [`charge`] decides what a write adds to
//! the quotas of its namespace, and [`usage`] what everything in a namespace adds up to. Both are
//! functions of values: the API server charges with the write itself, the quota controller counts
//! anew.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::pod_resources::{self, ResourceList};
use crate::quantity::Quantity;

mod claims;
mod pods;
mod scopes;
mod services;
#[cfg(test)]
mod tests;

pub use pods::charged_until;

/// The kinds of counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Pods,
    Services,
    Claims,
    DeviceClaims,
    /// Objects alone, also under an old name where the resource has one.
    Objects(Option<&'static str>),
}

/// Knows what the objects of one resource use.
#[derive(Clone, Debug)]
pub struct Evaluator {
    kind: Kind,
    /// `count/<resource>.<group>`.
    count: String,
}

/// A write that quotas may count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written<'a> {
    Create,
    /// An update, of the object itself where the subresource is empty.
    Update {
        subresource: &'a str,
    },
}

/// The new `status.used` of one of the quotas.
#[derive(Clone, Debug, PartialEq)]
pub struct Charge {
    /// The place of the quota in the list.
    pub quota: usize,
    pub used: ResourceList,
}

impl Evaluator {
    pub fn new(group: &str, resource: &str) -> Self {
        let count =
            if group.is_empty() { format!("count/{resource}") } else { format!("count/{resource}.{group}") };
        let kind = match (group, resource) {
            ("", "pods") => Kind::Pods,
            ("", "services") => Kind::Services,
            ("", "persistentvolumeclaims") => Kind::Claims,
            ("resource.k8s.io", "resourceclaims") => Kind::DeviceClaims,
            ("", "configmaps") => Kind::Objects(Some("configmaps")),
            ("", "resourcequotas") => Kind::Objects(Some("resourcequotas")),
            ("", "replicationcontrollers") => Kind::Objects(Some("replicationcontrollers")),
            ("", "secrets") => Kind::Objects(Some("secrets")),
            _ => Kind::Objects(None),
        };
        Evaluator { kind, count }
    }

    /// Whether a write of this kind can use more than before.
    pub fn handles(&self, written: Written<'_>) -> bool {
        match (self.kind, written) {
            (_, Written::Create) => true,
            (Kind::Pods, Written::Update { subresource }) => subresource == "resize",
            (Kind::Services | Kind::Claims | Kind::DeviceClaims, Written::Update { subresource }) => {
                subresource.is_empty()
            }
            (Kind::Objects(_), Written::Update { .. }) => false,
        }
    }

    /// Whether a name in a quota stands for something that these objects use.
    pub fn counts(&self, name: &str) -> bool {
        name == self.count
            || match self.kind {
                Kind::Pods => pods::counts(name),
                Kind::Services => services::counts(name),
                Kind::Claims => claims::counts(name),
                Kind::DeviceClaims => claims::counts_devices(name),
                Kind::Objects(alias) => alias == Some(name),
            }
    }

    /// What an object uses at a moment.
    pub fn usage(&self, object: &Value, now: Timestamp) -> ResourceList {
        let mut used = match self.kind {
            Kind::Pods => pods::usage(object, now),
            Kind::Services => services::usage(object),
            Kind::Claims => claims::usage(object),
            Kind::DeviceClaims => claims::device_usage(object),
            Kind::Objects(alias) => alias.map(|alias| (alias.to_owned(), one())).into_iter().collect(),
        };
        used.insert(self.count.clone(), one());
        used
    }

    /// Whether an object falls under a quota's scopes.
    pub fn in_scope(&self, quota: &Value, object: &Value) -> bool {
        scopes::of_quota(quota).all(|scope| match self.kind {
            Kind::Pods => scope.holds_pod(object),
            Kind::Claims => scope.holds_claim(object),
            Kind::Services | Kind::DeviceClaims | Kind::Objects(_) => false,
        })
    }

    /// What an object must state, for a quota on these names to count it; the error says what it
    /// does not.
    fn constraints(&self, names: &[&str], object: &Value) -> Result<(), String> {
        match self.kind {
            Kind::Pods => pods::constraints(names, object),
            Kind::Services | Kind::Claims | Kind::DeviceClaims | Kind::Objects(_) => Ok(()),
        }
    }
}

fn one() -> Quantity {
    Quantity::from_milli(1000)
}

/// What a write adds to the quotas of its namespace. `old` is the state before an update. The error
/// says why a quota forbids it.
pub fn charge(
    quotas: &[Value],
    evaluator: &Evaluator,
    object: &Value,
    old: Option<&Value>,
    now: Timestamp,
) -> Result<Vec<Charge>, String> {
    let mut pertinent = Vec::new();
    for (at, quota) in quotas.iter().enumerate() {
        let hard = pod_resources::list(&quota["status"]["hard"]);
        let counted: Vec<&str> =
            hard.keys().map(String::as_str).filter(|name| evaluator.counts(name)).collect();
        if counted.is_empty() || !evaluator.in_scope(quota, object) {
            continue;
        }
        let name = quota["metadata"]["name"].as_str().unwrap_or_default();
        evaluator.constraints(&counted, object).map_err(|why| format!("failed quota: {name}: {why}"))?;
        let used = pod_resources::list(&quota["status"]["used"]);
        if counted.iter().any(|counted| !used.contains_key(*counted)) {
            return Err(format!("status unknown for quota: {name}, resources: {}", counted.join(",")));
        }
        pertinent.push((at, name, hard, used));
    }
    if pertinent.is_empty() {
        return Ok(Vec::new());
    }
    let mut delta = evaluator.usage(object, now);
    let negative: Vec<&str> =
        delta.iter().filter(|(_, amount)| amount.is_negative()).map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    if let Some(old) = old {
        for (name, amount) in evaluator.usage(old, now) {
            *delta.entry(name).or_default() -= amount;
        }
    }
    // What an update frees is counted by the controller, except for pods, whose resources shrink in place.
    delta.retain(|_, amount| !amount.is_zero() && (evaluator.kind == Kind::Pods || !amount.is_negative()));
    let mut charges = Vec::new();
    for (at, name, hard, mut used) in pertinent {
        let asked: ResourceList = delta
            .iter()
            .filter(|(name, _)| hard.contains_key(*name))
            .map(|(name, amount)| (name.clone(), *amount))
            .collect();
        if asked.is_empty() {
            continue;
        }
        let before = used.clone();
        pod_resources::add(&mut used, &asked);
        let exceeded: Vec<&str> =
            asked.keys().filter(|name| used[*name] > hard[*name]).map(String::as_str).collect();
        if !exceeded.is_empty() {
            return Err(format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                shown(&asked, &exceeded),
                shown(&before, &exceeded),
                shown(&hard, &exceeded)
            ));
        }
        charges.push(Charge { quota: at, used });
    }
    Ok(charges)
}

fn shown(list: &ResourceList, names: &[&str]) -> String {
    let entries = list.iter().filter(|(name, _)| names.contains(&name.as_str()));
    let texts: Vec<String> = entries.map(|(name, amount)| format!("{name}={amount}")).collect();
    texts.join(",")
}

/// What the objects of one resource use together of what a quota counts.
pub fn usage<'a>(
    quota: &Value,
    evaluator: &Evaluator,
    objects: impl Iterator<Item = &'a Value>,
    now: Timestamp,
) -> ResourceList {
    let hard = pod_resources::list(&quota["spec"]["hard"]);
    let mut used: ResourceList = hard
        .keys()
        .filter(|name| evaluator.counts(name))
        .map(|name| (name.clone(), Quantity::ZERO))
        .collect();
    if used.is_empty() {
        return used;
    }
    for object in objects.filter(|object| evaluator.in_scope(quota, object)) {
        for (name, amount) in evaluator.usage(object, now) {
            if let Some(sum) = used.get_mut(&name) {
                *sum += amount;
            }
        }
    }
    used
}

/// A resource list as JSON.
pub fn to_json(list: &ResourceList) -> Value {
    let entries = list.iter().map(|(name, amount)| (name.clone(), Value::from(amount.to_string())));
    Value::Object(entries.collect::<Map<String, Value>>())
}
