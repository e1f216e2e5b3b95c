//! JSON bodies of built-in kinds: decoding, pruning, defaults, validation, headers, printing.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use sampan_api::object::packed::Dictionary;
use sampan_api::schema::{self, FieldValidation, Report};
use sampan_api::table::{ResourceDef, Table};
use sampan_api::{Object, apply, defaults, printers, validation, warnings};
use serde_json::Value;

use crate::input;

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(Table::builtin)
}

pub fn run(data: &[u8]) {
    let Some((choice, body)) = input::choice(data) else { return };
    let Ok(decoded) = schema::decode(body, body.len()) else {
        let _ = sampan_api::Header::parse(body);
        return;
    };
    let plain: Value = serde_json::from_slice(body).expect("two readers of JSON agree");
    assert_eq!(plain, decoded.value);
    header(body);
    let entries = table().entries();
    let said = table().by_kind(text(&plain, "apiVersion"), text(&plain, "kind"));
    let def = said.unwrap_or(&entries[usize::from(choice) % entries.len()]);
    let Some((types, id)) = def.schema() else { return };
    let mut value = decoded.value;
    let report = schema::check(types, id, &mut value);
    let _ =
        report.verdict(FieldValidation::Strict, &def.kind, &def.gvr.version, &decoded.duplicates, Some(body));
    if report.mistyped.is_some() {
        return;
    }
    let mut again = value.clone();
    assert_eq!(schema::check(types, id, &mut again), Report::default(), "a checked value has no faults");
    assert_eq!(again, value, "checking a checked value changes nothing");
    object(def, value);
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// What happens to a value of the right type on its way to the store.
fn object(def: &Arc<ResourceDef>, mut value: Value) {
    let (gvr, kind) = (&def.gvr, &def.kind);
    if !value.is_object() {
        return;
    }
    defaults::apply(&gvr.group, &gvr.version, kind, &mut value);
    let once = value.clone();
    defaults::apply(&gvr.group, &gvr.version, kind, &mut value);
    assert_eq!(value, once, "defaults of {kind} are filled in once");
    let (types, id) = def.schema().expect("it was checked by it");
    assert_eq!(schema::check(types, id, &mut value), Report::default(), "defaults of {kind} fit its schema");
    let created = validation::create(&gvr.group, kind, &value);
    for fault in &created {
        assert!(!fault.message.is_empty(), "{fault:?}");
    }
    let _ = validation::update(&gvr.group, kind, &value, &value);
    let _ = warnings::object(&gvr.group, kind, &value, None);
    let (columns, cells) = (printers::columns(def), printers::cells(def, &value, Timestamp::UNIX_EPOCH));
    assert_eq!(columns.as_array().map(Vec::len), Some(cells.len()), "a cell for each column of {kind}");
    if let Ok(fields) = apply::field_set(apply::Typed::new(types, id), &value) {
        assert_eq!(apply::FieldSet::from_json(&fields.to_json()).as_ref(), Ok(&fields), "fields of {kind}");
    }
}

/// The header is read from the bytes, and packed bytes come out as they went in.
fn header(body: &[u8]) {
    static DICTIONARY: OnceLock<Arc<Dictionary>> = OnceLock::new();
    let Ok(object) = Object::parse(Bytes::copy_from_slice(body)) else { return };
    let dictionary = DICTIONARY.get_or_init(|| Arc::new(Dictionary::of([b"{\"metadata\":{\"name\":\"\"}}"])));
    object.pack(dictionary);
    assert_eq!(object.bytes(), body);
    let mut buffer = BytesMut::new();
    object.append_to(&mut buffer);
    assert_eq!(buffer, body);
    assert_eq!(object.len(), body.len());
    for (label, value) in &object.header.labels {
        assert_eq!(object.header.label(label), Some(&**value));
    }
}
