//! Between values and JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map as JsonMap, Number, Value as Json};

use super::{Key, List, Map, Value};
use crate::library::time;
use crate::types::Format;

/// A string of a format as the type that the format stands for; none when it is not of the format.
pub fn formatted<'a>(text: &str, format: Format) -> Option<Value<'a>> {
    match format {
        Format::Bytes => STANDARD.decode(text).ok().map(|bytes| Value::Bytes(bytes.into())),
        Format::Duration => time::parse_duration(text).map(Value::Duration),
        Format::Date => format!("{text}T00:00:00Z").parse::<Timestamp>().ok().map(Value::Timestamp),
        Format::DateTime => text.parse::<Timestamp>().ok().map(Value::Timestamp),
        Format::Double => None,
    }
}

/// A value as JSON; none for what JSON cannot say.
pub fn to_json(value: &Value<'_>) -> Option<Json> {
    Some(match value {
        Value::Null => Json::Null,
        Value::Bool(bool) => Json::Bool(*bool),
        Value::Int(int) => Json::from(*int),
        Value::Uint(uint) => Json::from(*uint),
        Value::Double(double) => Json::Number(Number::from_f64(*double)?),
        Value::String(text) => Json::from(&**text),
        Value::Bytes(bytes) => Json::from(STANDARD.encode(bytes)),
        Value::Duration(nanos) => Json::from(time::format_duration(*nanos)),
        Value::Timestamp(at) => Json::from(time::format_timestamp(*at)),
        Value::List(List::Json { items, .. }) => Json::Array(items.to_vec()),
        Value::List(list) => Json::Array(list.iter().map(|item| to_json(&item)).collect::<Option<_>>()?),
        Value::Map(Map::Json { fields, .. }) => Json::Object((*fields).clone()),
        Value::Map(map) => {
            let mut out = JsonMap::new();
            for key in map.keys() {
                let value = map.get(&key)?;
                let Key::String(name) = key else { return None };
                out.insert(name.to_string(), to_json(&value)?);
            }
            Json::Object(out)
        }
        Value::Optional(Some(inner)) => return to_json(inner),
        Value::Optional(None) | Value::Type(_) | Value::Opaque(_) => return None,
    })
}
