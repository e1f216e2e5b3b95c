//! `v1` Event ↔ `events.k8s.io/v1` Event: one storage, two sets of field names.

use serde_json::{Map, Value};

/// Core name, events.k8s.io name.
const RENAMED: [(&str, &str); 6] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// The reporter has another name only in the core group.
const REPORTER: (&str, &str) = ("reportingComponent", "reportingController");

fn rename(object: &mut Value, pairs: impl Iterator<Item = (&'static str, &'static str)>) {
    let Some(fields) = object.as_object_mut() else { return };
    let moved: Vec<_> = pairs.filter_map(|(from, to)| fields.remove(from).map(|value| (to, value))).collect();
    fields.extend(moved.into_iter().map(|(to, value)| (to.to_owned(), value)).collect::<Map<_, _>>());
}

pub fn to_events(object: &mut Value) {
    rename(object, RENAMED.into_iter().chain([REPORTER]));
}

pub fn to_core(object: &mut Value) {
    rename(object, RENAMED.into_iter().chain([REPORTER]).map(|(core, events)| (events, core)));
}
