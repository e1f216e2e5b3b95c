//! Selectable fields: read once, when an object enters the cache.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sampan_api::table::SelectableField;
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Reads the values of a resource's selectable fields out of an object's JSON.
#[derive(Clone, Default)]
pub struct FieldReader {
    fields: Vec<SelectableField>,
    paths: Arc<Paths>,
}

impl FieldReader {
    pub fn new(fields: Vec<SelectableField>) -> Self {
        let mut paths = Paths::default();
        for field in &fields {
            paths.add(&field.path);
            if let Some(fallback) = &field.fallback {
                paths.add(fallback);
            }
        }
        FieldReader { fields, paths: Arc::new(paths) }
    }

    /// The values, in the order of the resource table.
    pub fn read(&self, json: &[u8]) -> Box<[Box<str>]> {
        if self.fields.is_empty() {
            return Box::default();
        }
        // What enters the cache has been parsed before: its header was read from the same bytes.
        let mut json = serde_json::Deserializer::from_slice(json);
        let value = Sparse(&self.paths).deserialize(&mut json).unwrap_or(Value::Null);
        self.fields.iter().map(|field| field.read(&value).into_boxed_str()).collect()
    }
}

/// The paths of fields, by their steps. One without further steps is wanted whole.
#[derive(Debug, Default)]
struct Paths {
    steps: BTreeMap<String, Paths>,
}

impl Paths {
    fn add(&mut self, path: &str) {
        let mut at = self;
        for step in path.split('/') {
            at = at.steps.entry(step.to_owned()).or_default();
        }
    }
}

/// Decodes those parts of a value that lie on some paths, and passes over the others.
struct Sparse<'a>(&'a Paths);

impl<'de> DeserializeSeed<'de> for Sparse<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sparse<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut found = Map::new();
        while let Some(key) = entries.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.0.steps.get(key.as_ref()) {
                Some(paths) => {
                    found.insert(key.into_owned(), entries.next_value_seed(Sparse(paths))?);
                }
                None => {
                    entries.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(found))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut found = Vec::new();
        loop {
            let step = found.len().to_string();
            let item = match self.0.steps.get(&step) {
                Some(paths) => items.next_element_seed(Sparse(paths))?,
                None => items.next_element::<IgnoredAny>()?.map(|_| Value::Null),
            };
            match item {
                Some(item) => found.push(item),
                None => return Ok(Value::Array(found)),
            }
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Value, E> {
        Ok(Value::Bool(yes))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_wherever_it_is() {
        let field =
            |path: &'static str, fallback: Option<&'static str>, absent: &'static str| SelectableField {
                name: path.into(),
                path: path.into(),
                fallback: fallback.map(Into::into),
                absent: absent.into(),
            };
        let reader = FieldReader::new(vec![
            field("spec/nodeName", None, ""),
            field("status/podIPs/1/ip", Some("status/podIP"), ""),
            field("spec/hostNetwork", None, "false"),
            field("status/count", None, "0"),
            field("spec/absent/deep", None, "none"),
        ]);
        let check = |json: &str, expected: [&str; 5]| {
            let read = reader.read(json.as_bytes());
            assert_eq!(read.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), expected, "{json}");
        };
        check(
            r#"{"metadata":{"a":[{"b":1}]},"spec":{"nodeName":"n\u0031","hostNetwork":true,"x":[1,2]},
               "status":{"podIPs":[{"ip":"1"},{"ip":"2"}],"count":-3}}"#,
            ["n1", "2", "true", "-3", "none"],
        );
        check(r#"{"status":{"podIP":"9","podIPs":[]}}"#, ["", "9", "false", "0", "none"]);
        check(r#"{"spec":null,"status":[1]}"#, ["", "", "false", "0", "none"]);
        check("not JSON", ["", "", "false", "0", "none"]);
    }
}
