//! `additionalPrinterColumns`: the table of a custom resource.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::json_path::JsonPath;
use crate::printers;

/// One column beyond the name.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: String,
    pub kind: String,
    pub format: String,
    pub description: String,
    pub priority: i64,
    /// Absent where its text is no path: the cells are empty then.
    path: Option<JsonPath>,
}

/// The columns of a version; the age alone where it has none.
pub fn read(version: &Value) -> Vec<Column> {
    let columns = version.get("additionalPrinterColumns").and_then(Value::as_array);
    let Some(columns) = columns.filter(|columns| !columns.is_empty()) else {
        return vec![Column {
            name: "Age".to_owned(),
            kind: "date".to_owned(),
            format: String::new(),
            description: AGE.to_owned(),
            priority: 0,
            path: JsonPath::parse(".metadata.creationTimestamp").ok(),
        }];
    };
    let text = |column: &Value, key: &str| -> String {
        column.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let read = |column: &Value| {
        let path = text(column, "jsonPath");
        let mut description = text(column, "description");
        if description.is_empty() {
            description = format!("Custom resource definition column (in JSONPath format): {path}");
        }
        Column {
            name: text(column, "name"),
            kind: text(column, "type"),
            format: text(column, "format"),
            description,
            priority: column.get("priority").and_then(Value::as_i64).unwrap_or_default(),
            path: JsonPath::parse(&path).ok(),
        }
    };
    columns.iter().map(read).collect()
}

const NAME: &str = "The name of the object, unique among those of its kind in its namespace.";
const AGE: &str = "How long ago the object was created, by the clock of the server.";

/// `columnDefinitions` of a table.
pub fn definitions(columns: &[Column]) -> Value {
    let name =
        json!({"name": "Name", "type": "string", "format": "name", "description": NAME, "priority": 0});
    let others = columns.iter().map(|column| {
        json!({"name": column.name, "type": column.kind, "format": column.format,
            "description": column.description, "priority": column.priority})
    });
    std::iter::once(name).chain(others).collect()
}

/// The cells of one object.
pub fn cells(columns: &[Column], object: &Value, now: Timestamp) -> Vec<Value> {
    let name = object.pointer("/metadata/name").cloned().unwrap_or_else(|| "".into());
    std::iter::once(name).chain(columns.iter().map(|column| cell(column, object, now))).collect()
}

fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    let found = column.path.as_ref().map(|path| path.find(object)).unwrap_or_default();
    let Some(first) = found.first() else { return Value::Null };
    match (column.kind.as_str(), *first) {
        ("string", _) => found.iter().map(|value| shown(value)).collect::<Vec<_>>().join(" ").into(),
        ("integer", Value::Number(number)) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|number| number as i64))
            .map_or(Value::Null, Value::from),
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => (*first).clone(),
        ("date", Value::String(text)) => match text.parse::<Timestamp>() {
            Ok(_) => printers::age(first, now).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}
