//! Selectable fields: read once, when an object enters the cache.

use sampan_api::table::SelectableField;
use serde_json::Value;

/// Reads the values of a resource's selectable fields out of an object's JSON.
#[derive(Clone, Default)]
pub struct FieldReader {
    fields: Vec<SelectableField>,
}

impl FieldReader {
    pub fn new(fields: Vec<SelectableField>) -> Self {
        FieldReader { fields }
    }

    /// The values, in the order of the resource table.
    pub fn read(&self, json: &[u8]) -> Box<[Box<str>]> {
        if self.fields.is_empty() {
            return Box::default();
        }
        // What enters the cache has been parsed before: its header was read from the same bytes.
        let value: Value = serde_json::from_slice(json).unwrap_or(Value::Null);
        self.fields.iter().map(|field| field.read(&value).into_boxed_str()).collect()
    }
}
