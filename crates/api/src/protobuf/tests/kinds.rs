//! Objects of every kind, made up from the schemas: to protobuf and back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::schema::{self, Node, NodeId, Schema, TypeBody, TypeId};

/// Makes values in which nothing is zero, so that nothing may be lost.
struct Maker<'s> {
    schema: &'s Schema,
    random: StdRng,
    /// The share of fields, in percent, that are there.
    density: u32,
}

impl Maker<'_> {
    fn object(&mut self, id: TypeId, depth: usize) -> Value {
        let mut object = serde_json::Map::new();
        // Objects inside others have no version and kind of their own on the wire.
        let is_embedded = depth > 0 && self.schema.field(id, "metadata").is_some();
        for field in self.schema.fields(id) {
            if is_embedded && matches!(field.name.as_ref(), "apiVersion" | "kind") {
                continue;
            }
            // Free JSON in the schema, but a message without any field.
            if self.schema.type_def(id).name.ends_with(".CustomResourceSubresources") {
                continue;
            }
            let chosen = self.random.random_range(0..100) < self.density;
            if (chosen || depth == 0)
                && let Some(value) = self.value(field.node, depth + 1)
            {
                object.insert(field.name.to_string(), value);
            }
        }
        Value::Object(object)
    }

    fn value(&mut self, node: NodeId, depth: usize) -> Option<Value> {
        let number = self.random.random_range(1..i64::from(i32::MAX));
        Some(match self.schema.resolve(node) {
            Node::String => json!(format!("s\u{e9}\"{number}")),
            Node::Boolean => json!(true),
            Node::Int32 => json!(if number % 2 == 0 { number } else { -number }),
            Node::Int64 => json!(number << 20),
            Node::Number => json!(number as f64 + 0.5),
            Node::Bytes => json!(STANDARD.encode(format!("{number}"))),
            Node::Time => json!(Timestamp::from_second(number).expect("in range").to_string()),
            Node::MicroTime => {
                json!(format!("{:.6}", Timestamp::from_microsecond(number * 1001).expect("in range")))
            }
            Node::Quantity => json!(format!("{}m", number | 1)),
            Node::IntOrString if number % 2 == 0 => json!(number),
            Node::IntOrString => json!(format!("{number}%")),
            // A schema where the protobuf form is a union, and free JSON anywhere else.
            Node::Any => json!({"type": format!("{number}")}),
            Node::List(of) => Value::Array(self.some(of, depth)?),
            Node::Map(of) => {
                let values = self.some(of, depth)?;
                let entries =
                    values.into_iter().enumerate().map(|(at, value)| (format!("k{}", 9 - at), value));
                Value::Object(entries.collect())
            }
            Node::Type(_) if depth > 9 => return None,
            Node::Type(id) => match self.schema.type_def(id).body {
                TypeBody::Struct { .. } => self.object(id, depth),
                TypeBody::Alias(_) => return None,
            },
        })
    }

    fn some(&mut self, of: NodeId, depth: usize) -> Option<Vec<Value>> {
        let count = self.random.random_range(1..4);
        (0..count).map(|_| self.value(of, depth + 1)).collect()
    }
}

/// Without what says no more than its absence: nulls and zeros that must be there.
fn pruned(value: Value) -> Value {
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(true) => false,
    };
    match value {
        Value::Array(items) => items.into_iter().map(pruned).collect(),
        Value::Object(entries) => {
            let kept = entries.into_iter().map(|(key, value)| (key, pruned(value)));
            Value::Object(kept.filter(|(_, value)| !is_empty(value)).collect())
        }
        value => value,
    }
}

/// Where two values differ first, and how.
fn difference(left: &Value, right: &Value) -> String {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()) {
                let (one, other) = (a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null));
                if one != other {
                    return format!(".{key}{}", difference(one, other));
                }
            }
            String::new()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let at = a.iter().zip(b).position(|(one, other)| one != other).unwrap_or_default();
            format!("[{at}]{}", difference(&a[at], &b[at]))
        }
        _ => format!(": {left} is not {right}"),
    }
}

fn check(seed: u64, density: u32) {
    let schema = schema::builtin();
    let limits = Limits { bytes: usize::MAX, values: usize::MAX, depth: 120 };
    for def in crate::table::Table::builtin().entries() {
        let (api_version, kind) = (def.gvr.api_version(), def.kind.as_ref());
        let (_, id) = def.schema().expect("a type");
        let mut maker = Maker { schema, random: StdRng::seed_from_u64(seed), density };
        let mut object = maker.object(id, 0);
        object["apiVersion"] = json!(api_version);
        object["kind"] = json!(kind);
        let message = encode(&api_version, kind, &object).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let (_, _, decoded) =
            decode(&message, None, &limits).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let (decoded, original) = (pruned(decoded), pruned(object.clone()));
        if decoded != original {
            let place = difference(&decoded, &original);
            panic!("{kind}: seed {seed}, density {density}: {place}");
        }
        let writer = ObjectWriter::new(&api_version, kind).expect("a kind");
        let direct =
            writer.enveloped(object.to_string().as_bytes()).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(direct, message, "{kind}: straight from its bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn objects_of_every_kind_come_back(seed in any::<u64>(), density in 5_u32..60) {
        check(seed, density);
    }
}

#[test]
fn what_is_zero_or_odd_is_written_alike_both_ways() {
    let check = |kind: &str, object: Value| {
        let message = encode("v1", kind, &object);
        let direct = ObjectWriter::new("v1", kind).expect("a kind").enveloped(object.to_string().as_bytes());
        match (message, direct) {
            (Ok(message), Ok(direct)) => assert_eq!(direct, message, "{object}"),
            (Err(_), Err(_)) => {}
            (message, direct) => panic!("{object}: {message:?} {direct:?}"),
        }
    };
    check("Pod", json!({}));
    check("Pod", json!({"spec": null, "status": {}, "metadata": null, "unknown": [1, {"a": 2}]}));
    check("Pod", json!({"spec": {"containers": null, "volumes": [], "hostNetwork": false}}));
    check("Pod", json!({"spec": {"containers": [null, {"name": ""}], "priority": 0, "nodeSelector": {}}}));
    check("Pod", json!({"spec": {"activeDeadlineSeconds": 1.5}}));
    check("Pod", json!({"spec": {"activeDeadlineSeconds": u64::MAX}}));
    check("Pod", json!({"spec": {"containers": {}}}));
    check("Pod", json!({"spec": {"nodeSelector": []}}));
    check("Pod", json!({"spec": "x"}));
    check("Secret", json!({"data": {"b": "AA==", "a": "", "c": null}, "immutable": false}));
    check("Secret", json!({"data": {"b": "?"}}));
    check("ResourceQuota", json!({"spec": {"hard": {"pods": 5, "cpu": "", "memory": null, "x": "1.5Gi"}}}));
    check(
        "Service",
        json!({"spec": {"ports": [{"targetPort": null}, {"targetPort": 0}, {"targetPort": "x"}]}}),
    );
    check(
        "ConfigMap",
        json!({"metadata": {"creationTimestamp": null, "managedFields": [{"fieldsV1": {"f:a": {}}}]}}),
    );
    check("ConfigMap", json!({"metadata": {"creationTimestamp": "2020-02-29T23:59:59Z", "generation": -1}}));
    check("ConfigMap", json!({"metadata": {"creationTimestamp": "2020-02-30T23:59:59Z"}}));
    check("ConfigMap", json!({"metadata": {"creationTimestamp": "1969-12-31T23:59:59.5+01:00"}}));
    check("ConfigMap", json!({"metadata": {"deletionTimestamp": ""}}));
}
