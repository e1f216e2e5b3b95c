//! Reads a request's JSON under limits.
//!
//! The nesting limit is the one of `serde_json`: whatever is stored can then be decoded by every
//! reader in the process, and no input reaches the end of the stack. Fields that occur twice are
//! reported, the last one wins, as in Kubernetes' decoder.

use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::check::{Path, Step};

/// The most faults that one answer lists, as in Kubernetes' decoder.
pub(super) const MAX_FAULTS: usize = 100;

/// A body and what strict decoding has against its form.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// Paths of fields that occur twice, as `spec.replicas`.
    pub duplicates: Vec<String>,
}

/// A body that is no JSON value.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("json parse error: exceeded max depth")]
    Depth,
    #[error("json parse error: {0}")]
    Syntax(serde_json::Error),
    /// Limits on bytes belong to whoever reads the connection; this one is for what was inflated.
    #[error("Request entity too large: limit is {limit}")]
    TooLarge { limit: usize },
}

/// Decodes one JSON value that must span all of `bytes`, of which there may be `limit`.
pub fn decode(bytes: &[u8], limit: usize) -> Result<Decoded, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLarge { limit });
    }
    let mut duplicates = Duplicates::default();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let path = Path::root();
    let seed = Seed { path: &path, duplicates: &mut duplicates };
    let value = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(value) => Ok(Decoded { value, duplicates: duplicates.paths }),
        // The category of this error is shared with other faults of syntax; its text is fixed.
        Err(error) if error.to_string().starts_with("recursion limit exceeded") => Err(DecodeError::Depth),
        Err(error) => Err(DecodeError::Syntax(error)),
    }
}

#[derive(Default)]
struct Duplicates {
    paths: Vec<String>,
    seen: HashSet<String>,
}

impl Duplicates {
    fn add(&mut self, path: &Path<'_>) {
        if self.paths.len() < MAX_FAULTS {
            let path = path.to_string();
            if self.seen.insert(path.clone()) {
                self.paths.push(path);
            }
        }
    }
}

/// Builds a value while it knows where it is.
struct Seed<'a, 'p> {
    path: &'p Path<'p>,
    duplicates: &'a mut Duplicates,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        loop {
            let path = self.path.then(Step::Index(out.len()));
            match items.next_element_seed(Seed { path: &path, duplicates: &mut *self.duplicates })? {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let path = self.path.then(Step::Name(&key));
            let value = entries.next_value_seed(Seed { path: &path, duplicates: &mut *self.duplicates })?;
            if out.contains_key(&key) {
                self.duplicates.add(&path);
            }
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}
