//! Events, as clients of the old and of the new API may write them.
//!
//! Faults are told by the names of the core group, as upstream tells them whichever group is asked.

use serde_json::{Map, Value};

use super::field::{At, Faults};
use crate::names;

/// Fields of `events.k8s.io` with their names in the core group.
const RENAMED: [(&str, &str); 6] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];
/// What of an event never changes through the new API, after its time.
const FIXED: [&str; 12] = [
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "action",
    "related",
    "reportingController",
    "reportingInstance",
];
const TEXT_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

/// An event of `events.k8s.io` under the names of the core group, but for its reporter.
fn renamed(event: &Value) -> Value {
    let mut out = Map::new();
    for (name, value) in event.as_object().into_iter().flatten() {
        let old = RENAMED.iter().find(|(new, _)| new == name).map_or(name.as_str(), |(_, old)| *old);
        out.insert(old.to_owned(), value.clone());
    }
    Value::Object(out)
}

/// Of the core group: nothing but what every event has to be.
pub(super) fn core(root: &At<'_, '_>, faults: &mut Faults) {
    any(root, "reportingComponent", faults);
}

pub(super) fn create(root: &At<'_, '_>, faults: &mut Faults) {
    let event = renamed(root.value);
    let root = At::root(&event);
    any(&root, "reportingController", faults);
    series(&root, faults);
    if !root.get("eventTime").is_set() {
        faults.required(&root.get("eventTime"), "");
    }
    let kind = root.get("type");
    if !matches!(kind.text(), "Normal" | "Warning") {
        faults.invalid_text(&kind, "", &format!("has invalid value: {}", kind.text()));
    }
    let source = root.get("source");
    let sourced = ["component", "host"].iter().any(|part| !source.get(part).text().is_empty());
    let unset = [
        ("firstTimestamp", !root.get("firstTimestamp").is_set()),
        ("lastTimestamp", !root.get("lastTimestamp").is_set()),
        ("count", root.get("count").int().unwrap_or_default() == 0),
        ("source", !sourced),
    ];
    for (field, unset) in unset {
        if !unset {
            faults.invalid_text(&root.get(field), "", "needs to be unset");
        }
    }
}

pub(super) fn update(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (event, old) = (renamed(root.value), renamed(before.value));
    let (root, before) = (At::root(&event), At::root(&old));
    any(&root, "reportingController", faults);
    if root.get("series").value != before.get("series").value {
        series(&root, faults);
    }
    for field in FIXED {
        faults.immutable(&root.get(field), &before.get(field));
    }
    faults.immutable(&root.get("eventTime"), &before.get("eventTime"));
}

fn series(root: &At<'_, '_>, faults: &mut Faults) {
    let series = root.get("series");
    if !series.is_set() {
        return;
    }
    if series.get("count").int().unwrap_or_default() < 2 {
        faults.invalid_text(&series.get("count"), "", "should be at least 2");
    }
    if !series.get("lastObservedTime").is_set() {
        faults.required(&series.get("lastObservedTime"), "");
    }
}

/// An event lives where what it tells of lives; events of the cluster live in `default`. One that has an
/// `eventTime` comes from a client that knows the new API.
fn any(root: &At<'_, '_>, reporter: &str, faults: &mut Faults) {
    let metadata = root.get("metadata");
    let namespace = metadata.get("namespace").text();
    let object = root.get("involvedObject");
    let involved = object.get("namespace");
    let timed = root.get("eventTime").is_set();
    let matches = match (involved.text(), timed) {
        ("", false) => matches!(namespace, "" | "default"),
        ("", true) => matches!(namespace, "default" | "kube-system"),
        (other, false) => other == namespace,
        (_, true) => true,
    };
    if !matches {
        faults.invalid_text(&involved, involved.text(), "does not match event.namespace");
    }
    if timed {
        timely(root, reporter, faults);
    }
    for message in names::dns1123_subdomain(namespace) {
        faults.invalid_text(&root.get("namespace"), namespace, &message);
    }
}

fn timely(root: &At<'_, '_>, reporter: &str, faults: &mut Faults) {
    let reporter = root.get(reporter);
    if reporter.text().is_empty() {
        faults.required(&reporter, "");
    }
    for message in names::qualified_name(reporter.text()) {
        faults.invalid_text(&reporter, reporter.text(), &message);
    }
    for field in ["reportingInstance", "action", "reason"] {
        let at = root.get(field);
        if at.text().is_empty() {
            faults.required(&at, "");
        }
        short(&at, TEXT_MAX, faults);
    }
    short(&root.get("message"), NOTE_MAX, faults);
}

fn short(at: &At<'_, '_>, limit: usize, faults: &mut Faults) {
    if at.text().len() > limit {
        faults.invalid_text(at, "", &format!("can have at most {limit} characters"));
    }
}
