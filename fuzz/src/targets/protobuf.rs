//! The protobuf form of the built-in kinds.

use std::sync::OnceLock;

use sampan_api::protobuf::{self, Limits, ObjectWriter};
use sampan_api::table::Table;
use serde_json::Value;

use crate::input;

/// Versions and kinds to choose from: those that are served, and bodies that are none.
fn kinds() -> &'static [(String, String)] {
    static KINDS: OnceLock<Vec<(String, String)>> = OnceLock::new();
    KINDS.get_or_init(|| {
        let table = Table::builtin();
        let served = table.entries().iter().map(|def| (def.gvr.api_version(), def.kind.to_string()));
        let mut kinds: Vec<_> = served.collect();
        for kind in ["DeleteOptions", "PatchOptions", "Status", "ListOptions"] {
            kinds.push(("v1".to_owned(), kind.to_owned()));
        }
        kinds.retain(|(version, kind)| protobuf::knows(version, kind));
        kinds
    })
}

pub fn run(data: &[u8]) {
    let kinds = kinds();
    let Some((choice, rest)) = input::choice(data) else { return };
    if choice == 0 {
        // A whole message, envelope and all.
        read(rest);
    } else {
        let (api_version, kind) = &kinds[usize::from(choice) % kinds.len()];
        read(&protobuf::envelope(api_version, kind, rest));
    }
}

fn read(message: &[u8]) {
    let limits = Limits { values: 20_000, ..Limits::default() };
    let Ok((api_version, kind, value)) = protobuf::decode(message, None, &limits) else { return };
    // Parts of unions are no objects.
    if kind.starts_with("JSONSchemaPropsOr") {
        return;
    }
    let json = serde_json::to_vec(&value).expect("a value is JSON");
    let read: Value = serde_json::from_slice(&json).expect("what was decoded can be read again");
    assert_eq!(read, value, "as JSON");
    let encoded = protobuf::encode(&api_version, &kind, &value).expect("what was decoded can be encoded");
    let (_, _, again) = protobuf::decode(&encoded, None, &Limits { values: 40_000, ..limits })
        .expect("what was encoded can be decoded");
    assert_eq!(without_nulls(again), without_nulls(value), "decoded again");
    if let Ok(writer) = ObjectWriter::new(&api_version, &kind) {
        let direct = writer.enveloped(&json).expect("what was decoded can be transcoded");
        assert_eq!(direct, encoded, "straight from the JSON {}", String::from_utf8_lossy(&json));
    }
}

/// A time that is there and empty is `null` in JSON, which is as good as absent when it is written.
fn without_nulls(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|_, value| !value.is_null());
                fields.values_mut().for_each(walk);
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    walk(&mut value);
    value
}
