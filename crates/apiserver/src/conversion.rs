//! Between the version that a request speaks and the one that is stored.
//!
//! Most resources are served in one version only; the few that are not convert by value here.

use std::sync::Arc;

use bytes::Bytes;
use sampan_api::object::ObjectRef;
use sampan_api::table::ResourceDef;
use sampan_api::{Gvr, Object, Status};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

mod event;
mod horizontal_pod_autoscaler;

/// Moves an object between two versions of its resource.
pub fn convert(from: &Gvr, to: &Gvr, mut object: Value) -> Value {
    if from == to {
        return object;
    }
    match (from.resource.as_ref(), to.group.as_ref(), to.version.as_ref()) {
        ("events", "", _) => event::to_core(&mut object),
        ("events", _, _) => event::to_events(&mut object),
        ("horizontalpodautoscalers", _, "v1") => horizontal_pod_autoscaler::to_v1(&mut object),
        ("horizontalpodautoscalers", _, _) => horizontal_pod_autoscaler::to_v2(&mut object),
        _ => {}
    }
    if let Some(object) = object.as_object_mut() {
        object.insert("apiVersion".into(), to.api_version().into());
    }
    object
}

fn stored_as(def: &ResourceDef) -> &Gvr {
    def.storage.as_ref().map_or(&def.gvr, |storage| &storage.stored_as)
}

/// The form in which an object is stored: in the stored version and without a revision.
pub fn to_stored(def: &ResourceDef, object: Value) -> Result<Value, Status> {
    Ok(without_revision(convert(&def.gvr, stored_as(def), object)))
}

pub fn from_stored(def: &ResourceDef, object: Value) -> Result<Value, Status> {
    Ok(convert(stored_as(def), &def.gvr, object))
}

/// Like [`from_stored`] for a whole object; a pointer copy where nothing is to convert.
pub fn object_from_stored(def: &ResourceDef, stored: ObjectRef) -> Result<ObjectRef, Status> {
    if *stored_as(def) == def.gvr {
        return Ok(stored);
    }
    let value = from_stored(def, stored.decode().map_err(Status::internal)?)?;
    Ok(Arc::new(Object::new(stored.header.clone(), encode(def, &value)?)))
}

/// An object's JSON. Clients that read a stream learn from upstream what an object is before they read the rest of
/// it: the structures of built-in types begin with their kind. Custom resources have their fields in the order of
/// their names, there and here.
pub fn encode(def: &ResourceDef, object: &Value) -> Result<Bytes, Status> {
    let bytes = match object {
        Value::Object(fields) if !def.custom => serde_json::to_vec(&KindFirst(fields)),
        _ => serde_json::to_vec(object),
    };
    bytes.map(Bytes::from).map_err(Status::internal)
}

struct KindFirst<'a>(&'a Map<String, Value>);

impl Serialize for KindFirst<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const FIRST: [&str; 2] = ["kind", "apiVersion"];
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for entry in FIRST.iter().filter_map(|name| self.0.get_key_value(*name)) {
            map.serialize_entry(entry.0, entry.1)?;
        }
        for (name, value) in self.0.iter().filter(|(name, _)| !FIRST.contains(&name.as_str())) {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// An object as it is stored: its revision is the store's to say.
pub fn without_revision(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn built_in_types_begin_with_their_kind() {
        let check = |custom: bool, object: Value, expected: &str| {
            let table = sampan_api::table::Table::builtin();
            let def = table.get("", "v1", "configmaps").expect("config maps are served");
            assert_eq!(
                encode(&ResourceDef { custom, ..ResourceDef::clone(def) }, &object).expect("JSON"),
                expected
            );
        };
        let object = || json!({"apiVersion": "v1", "data": {"kind": "b"}, "kind": "ConfigMap", "metadata": {"name": "a"}});
        check(
            false,
            object(),
            r#"{"kind":"ConfigMap","apiVersion":"v1","data":{"kind":"b"},"metadata":{"name":"a"}}"#,
        );
        check(
            true,
            object(),
            r#"{"apiVersion":"v1","data":{"kind":"b"},"kind":"ConfigMap","metadata":{"name":"a"}}"#,
        );
        check(false, json!({"kind": "Status"}), r#"{"kind":"Status"}"#);
    }

    #[test]
    fn conversions_come_back_to_where_they_began() {
        let check = |from: Gvr, to: Gvr, object: Value| {
            let there = convert(&from, &to, object.clone());
            assert_ne!(there, object);
            assert_eq!(convert(&to, &from, there), object);
        };
        check(
            Gvr::new("", "v1", "events"),
            Gvr::new("events.k8s.io", "v1", "events"),
            json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "message": "m", "count": 2,
                "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "c"},
                "firstTimestamp": "2020-01-01T00:00:00Z", "reportingComponent": "r", "reportingInstance": "i"}),
        );
        check(
            Gvr::new("autoscaling", "v1", "horizontalpodautoscalers"),
            Gvr::new("autoscaling", "v2", "horizontalpodautoscalers"),
            json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
                "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50},
                "status": {"currentReplicas": 1, "desiredReplicas": 1}}),
        );
    }
}
