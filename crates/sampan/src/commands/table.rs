//! `meta.k8s.io/v1` tables, printed in columns as kubectl does.

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

/// Spaces between columns, and the narrowest column with its spaces.
const PADDING: usize = 3;
const NARROWEST: usize = 6;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Table {
    pub metadata: ListMeta,
    #[serde(rename = "columnDefinitions")]
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMeta {
    pub resource_version: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Column {
    name: String,
    /// Above 0 only in wide tables.
    priority: i32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Row {
    cells: Vec<Value>,
    object: PartialObject,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PartialObject {
    metadata: PartialMetadata,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PartialMetadata {
    namespace: Option<String>,
    resource_version: Option<String>,
}

impl Table {
    pub fn read(bytes: &[u8]) -> Result<Self> {
        Table::of(serde_json::from_slice(bytes)?)
    }

    /// A table, or of what is none (a server that makes no tables) the names and ages.
    pub fn of(value: Value) -> Result<Self> {
        if value["kind"] == "Table" {
            return Ok(serde_json::from_value(value)?);
        }
        let metadata = serde_json::from_value(value["metadata"].clone()).unwrap_or_default();
        let items = match value.get("items").and_then(Value::as_array) {
            Some(items) => items.clone(),
            None => vec![value],
        };
        let column = |name: &str| Column { name: name.to_owned(), priority: 0 };
        let row = |item: Value| Row {
            cells: vec![item["metadata"]["name"].clone(), item["metadata"]["creationTimestamp"].clone()],
            object: serde_json::from_value(item).unwrap_or_default(),
        };
        Ok(Table {
            metadata,
            columns: vec![column("Name"), column("Created At")],
            rows: items.into_iter().map(row).collect(),
        })
    }

    /// The revision up to which this table goes.
    pub fn revision(&self) -> Option<String> {
        let row = self.rows.last().and_then(|row| row.object.metadata.resource_version.clone());
        row.or_else(|| Some(self.metadata.resource_version.clone())).filter(|revision| !revision.is_empty())
    }
}

/// How tables are printed.
pub struct Printer {
    pub wide: bool,
    /// With a column of namespaces.
    pub namespaces: bool,
    pub headers: bool,
    /// Put before names, with a slash.
    pub prefix: Option<String>,
    /// Of the columns printed last, so that further rows stand below them.
    pub widths: Vec<usize>,
}

impl Printer {
    pub fn print(&mut self, table: &Table) -> String {
        let shown: Vec<usize> =
            (0..table.columns.len()).filter(|at| self.wide || table.columns[*at].priority == 0).collect();
        let mut lines: Vec<Vec<String>> = Vec::with_capacity(table.rows.len() + 1);
        if self.headers && !table.rows.is_empty() {
            let namespace = self.namespaces.then(|| "NAMESPACE".to_owned());
            let names = shown.iter().map(|at| table.columns[*at].name.to_uppercase());
            lines.push(namespace.into_iter().chain(names).collect());
        }
        for row in &table.rows {
            let namespace =
                self.namespaces.then(|| row.object.metadata.namespace.clone().unwrap_or_default());
            let cells = shown.iter().enumerate().map(|(place, at)| {
                let text = cell(row.cells.get(*at).unwrap_or(&Value::Null));
                match &self.prefix {
                    Some(prefix) if place == 0 => format!("{prefix}/{text}"),
                    Some(_) | None => text,
                }
            });
            lines.push(namespace.into_iter().chain(cells).collect());
        }
        let columns = lines.first().map_or(0, Vec::len);
        self.widths.resize(columns.max(self.widths.len()), NARROWEST);
        for line in &lines {
            for (width, text) in self.widths.iter_mut().zip(line) {
                *width = (*width).max(text.chars().count() + PADDING);
            }
        }
        let mut text = String::new();
        for line in lines {
            let last = line.len().saturating_sub(1);
            for (at, cell) in line.into_iter().enumerate() {
                let spaces = if at == last { 0 } else { self.widths[at] - cell.chars().count() };
                text.push_str(&cell);
                text.extend(std::iter::repeat_n(' ', spaces));
            }
            text.push('\n');
        }
        text
    }
}

/// A cell in one line, without what would steer a terminal.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => "<none>".to_owned(),
        other => other.to_string(),
    };
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => {
                line.push_str("...");
                break;
            }
            '\t' => line.push(' '),
            control if control.is_control() => line.push('\u{fffd}'),
            plain => line.push(plain),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table() -> Table {
        Table::of(json!({"kind": "Table",
            "columnDefinitions": [{"name": "Name"}, {"name": "Up", "priority": 0}, {"name": "IP", "priority": 1}],
            "rows": [
                {"cells": ["a", 1, "10.0.0.1"], "object": {"metadata": {"namespace": "n", "resourceVersion": "7"}}},
                {"cells": ["longer", "x\u{1b}[2J\ny", null], "object": {"metadata": {"namespace": "m"}}},
            ]}))
        .expect("a table")
    }

    fn printer() -> Printer {
        Printer { wide: false, namespaces: false, headers: true, prefix: None, widths: Vec::new() }
    }

    #[test]
    fn columns_are_aligned() {
        let check = |printer: &mut Printer, expected: &str| assert_eq!(printer.print(&table()), expected);
        check(&mut printer(), "NAME     UP\na        1\nlonger   x\u{fffd}[2J...\n");
        let mut wide = Printer { wide: true, headers: false, ..printer() };
        check(&mut wide, "a        1          10.0.0.1\nlonger   x\u{fffd}[2J...   <none>\n");
        let mut all = Printer { namespaces: true, prefix: Some("pod".into()), ..printer() };
        check(
            &mut all,
            "NAMESPACE   NAME         UP\nn           pod/a        1\nm           pod/longer   x\u{fffd}[2J...\n",
        );
    }

    #[test]
    fn servers_without_tables_are_understood() {
        let list = json!({"kind": "PodList", "metadata": {"resourceVersion": "9"},
            "items": [{"metadata": {"name": "a", "creationTimestamp": "t"}}]});
        let table = Table::of(list).expect("a list");
        assert_eq!(printer().print(&table), "NAME   CREATED AT\na      t\n");
        assert_eq!(table.revision().as_deref(), Some("9"));
    }
}
