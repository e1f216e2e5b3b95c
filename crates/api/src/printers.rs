//! What `kubectl get` shows: the columns of a resource and the cells of an object.
//!
//! Columns, priorities and the words in the cells are those of Kubernetes' server-side printers; the
//! columns of priority 1 are shown by `-o wide`. A printer is one function per kind that names each
//! column beside what it makes of the object, so that the two cannot diverge; the columns alone are
//! what it says about no object at all. An object may have any shape: what is missing or of a wrong
//! type prints as if it were empty.

mod batch;
mod config;
mod network;
mod nodes;
mod pods;
mod policy;
mod storage;
mod workloads;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::custom::columns;
use crate::table::ResourceDef;

/// `columnDefinitions` of a table of this resource.
pub fn columns(def: &ResourceDef) -> Value {
    if let Some(version) = &def.version {
        return columns::definitions(&version.columns);
    }
    let mut row = Row::new(&Value::Null, Timestamp::UNIX_EPOCH);
    print(def, &mut row);
    let columns = row.columns.iter().map(|column| {
        let Column { name, kind, format, priority } = column;
        json!({"name": name, "type": kind, "format": format, "description": "", "priority": priority})
    });
    Value::Array(columns.collect())
}

/// The cells of one object, one per column.
pub fn cells(def: &ResourceDef, object: &Value, now: Timestamp) -> Vec<Value> {
    if let Some(version) = &def.version {
        return columns::cells(&version.columns, object, now);
    }
    let mut row = Row::new(object, now);
    print(def, &mut row);
    row.cells
}

/// The `conditions` of an object's row; none for most.
pub fn row_conditions(def: &ResourceDef, object: &Value) -> Option<Value> {
    if def.custom || !def.gvr.group.is_empty() || def.kind != "Pod" {
        return None;
    }
    let (reason, message) = match text(&object["status"]["phase"]) {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

fn print(def: &ResourceDef, row: &mut Row<'_>) {
    let printer = match (def.custom, def.gvr.group.as_ref()) {
        (true, _) => None,
        (false, "") => nodes::printer(&def.kind)
            .or_else(|| pods::printer(&def.kind))
            .or_else(|| network::printer(&def.kind))
            .or_else(|| config::printer(&def.kind))
            .or_else(|| storage::printer(&def.kind))
            .or_else(|| workloads::printer(&def.kind)),
        (false, "apps") => workloads::printer(&def.kind),
        (false, "batch") => batch::printer(&def.kind),
        (false, "autoscaling" | "policy" | "scheduling.k8s.io" | "flowcontrol.apiserver.k8s.io") => {
            policy::printer(&def.kind)
        }
        (false, "networking.k8s.io" | "discovery.k8s.io") => network::printer(&def.kind),
        (false, "storage.k8s.io" | "resource.k8s.io") => storage::printer(&def.kind),
        (false, "events.k8s.io" | "coordination.k8s.io" | "node.k8s.io" | "certificates.k8s.io") => {
            nodes::printer(&def.kind)
        }
        (false, _) => config::printer(&def.kind),
    };
    match printer {
        Some(printer) => printer(row),
        None if def.custom => {
            row.name();
            row.age();
        }
        None => {
            row.name();
            let created = row.object["metadata"]["creationTimestamp"].clone();
            row.push("Created At", "date", "", 0, created);
        }
    }
}

/// Prints the objects of one kind.
type Printer = fn(&mut Row<'_>);

#[derive(Clone, Copy)]
struct Column {
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    priority: u8,
}

/// One line of the table under construction.
struct Row<'a> {
    object: &'a Value,
    now: Timestamp,
    columns: Vec<Column>,
    cells: Vec<Value>,
}

impl<'a> Row<'a> {
    fn new(object: &'a Value, now: Timestamp) -> Self {
        Row { object, now, columns: Vec::new(), cells: Vec::new() }
    }

    fn push(
        &mut self,
        name: &'static str,
        kind: &'static str,
        format: &'static str,
        priority: u8,
        cell: Value,
    ) {
        self.columns.push(Column { name, kind, format, priority });
        self.cells.push(cell);
    }

    fn name(&mut self) {
        let name = text(&self.object["metadata"]["name"]);
        self.push("Name", "string", "name", 0, name.into());
    }

    fn age(&mut self) {
        let age = age(&self.object["metadata"]["creationTimestamp"], self.now);
        self.text("Age", age);
    }

    fn text(&mut self, name: &'static str, cell: impl Into<Value>) {
        self.push(name, "string", "", 0, cell.into());
    }

    /// Shown by `-o wide` only.
    fn wide(&mut self, name: &'static str, cell: impl Into<Value>) {
        self.push(name, "string", "", 1, cell.into());
    }

    fn number(&mut self, name: &'static str, cell: i64) {
        self.push(name, "integer", "", 0, cell.into());
    }

    fn flag(&mut self, name: &'static str, cell: bool) {
        self.push(name, "boolean", "", 0, cell.into());
    }

    fn spec(&self) -> &'a Value {
        &self.object["spec"]
    }

    fn status(&self) -> &'a Value {
        &self.object["status"]
    }

    fn is_terminating(&self) -> bool {
        self.object["metadata"]["deletionTimestamp"].is_string()
    }
}

/// A string; empty where there is none.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A string, or a word for none.
fn text_or<'v>(value: &'v Value, none: &'v str) -> &'v str {
    Some(text(value)).filter(|text| !text.is_empty()).unwrap_or(none)
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// How many items or entries there are.
fn count(value: &Value) -> i64 {
    match value {
        Value::Array(items) => items.len() as i64,
        Value::Object(entries) => entries.len() as i64,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// A quantity, a port or a percentage as it is written; `0` where there is none.
fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => "0".to_owned(),
    }
}

/// Whether the condition of a type has the status True.
fn has_condition(conditions: &Value, kind: &str) -> bool {
    condition(conditions, kind).is_some_and(|condition| condition["status"] == "True")
}

fn condition<'v>(conditions: &'v Value, kind: &str) -> Option<&'v Value> {
    items(conditions).iter().find(|condition| condition["type"] == kind)
}

/// The first few of a list and how many more there are.
fn some_of(list: &[String], most: usize, separator: &str) -> String {
    match list.len().checked_sub(most) {
        Some(more @ 1..) => format!("{} + {more} more...", list[..most].join(separator)),
        Some(0) | None => list.join(separator),
    }
}

/// `k=v,k2=v2`, sorted by key.
fn labels(labels: &Value) -> String {
    let mut pairs: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    pairs.sort_unstable();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// A label selector in the form in which it is asked for; None when an operator is unknown.
fn selector_text(selector: &Value) -> Option<String> {
    let mut terms: Vec<(&str, String)> = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        terms.push((key, format!("{key}={}", text(value))));
    }
    for one in items(&selector["matchExpressions"]) {
        let key = text(&one["key"]);
        let mut values: Vec<&str> = items(&one["values"]).iter().map(text).collect();
        values.sort_unstable();
        let values = values.join(",");
        terms.push((
            key,
            match text(&one["operator"]) {
                "In" => format!("{key} in ({values})"),
                "NotIn" => format!("{key} notin ({values})"),
                "Exists" => key.to_owned(),
                "DoesNotExist" => format!("!{key}"),
                _ => return None,
            },
        ));
    }
    terms.sort_by(|a, b| a.0.cmp(b.0));
    Some(terms.into_iter().map(|(_, term)| term).collect::<Vec<_>>().join(","))
}

fn selector(selector: &Value) -> String {
    match selector_text(selector) {
        None => "<error>".to_owned(),
        Some(text) if text.is_empty() => "<none>".to_owned(),
        Some(text) => text,
    }
}

/// The names and the images of containers.
fn containers_of(row: &mut Row<'_>, pod_template: &Value) {
    let all = |key: &str| {
        items(&pod_template["spec"]["containers"])
            .iter()
            .map(|one| text(&one[key]))
            .collect::<Vec<_>>()
            .join(",")
    };
    row.wide("Containers", all("name"));
    row.wide("Images", all("image"));
}

fn seconds(timestamp: &Value) -> Option<i64> {
    timestamp.as_str()?.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// The time since a timestamp in kubectl's short form; `<unknown>` where there is none.
pub fn age(timestamp: &Value, now: Timestamp) -> String {
    let then: Option<Timestamp> = timestamp.as_str().and_then(|text| text.parse().ok());
    then.map_or_else(|| "<unknown>".to_owned(), |then| duration(now.as_second() - then.as_second()))
}

/// Seconds in kubectl's short form, as `5m10s` or `3d`.
pub fn duration(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let pair = |whole: i64, unit: &str, rest: i64, small: &str| match rest {
        0 => format!("{whole}{unit}"),
        rest => format!("{whole}{unit}{rest}{small}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => pair(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 2920 => pair(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests;
