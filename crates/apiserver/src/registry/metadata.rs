//! `metadata`: what the server sets, keeps and refuses to change, for every kind alike.

use jiff::Timestamp;
use sampan_api::names;
use sampan_api::status::Cause;
use sampan_api::{Gvr, Status};
use serde_json::{Map, Value, json};

/// The metadata fields that only the server writes.
const SERVER_FIELDS: [&str; 5] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"];

/// RFC 3339 with seconds, as `metav1.Time` is written.
pub fn timestamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The metadata of an object, made when it is absent.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    let object = object.as_object_mut().expect("was made an object above");
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata.as_object_mut().expect("was made an object above")
}

/// A text of the metadata; empty when absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Fills in what a new object's metadata needs.
pub fn prepare_create(
    object: &mut Value,
    namespace: Option<&str>,
    gvr: &Gvr,
    kind: &str,
) -> Result<(), Status> {
    let metadata = metadata(object);
    drop_empty(metadata);
    for field in SERVER_FIELDS.into_iter().chain(["selfLink"]) {
        metadata.remove(field);
    }
    match namespace {
        Some(namespace) => set_namespace(metadata, namespace)?,
        None => {
            metadata.remove("namespace");
        }
    }
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
    let prefix = metadata.get("generateName").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() && !prefix.is_empty() {
        let name = names::generate(prefix, rand::random::<u32>);
        metadata.insert("name".into(), name.into());
    } else if name.is_empty() {
        let cause = Cause {
            reason: "FieldValueRequired".into(),
            message: "Required value: name or generateName is required".into(),
            field: "metadata.name".into(),
        };
        return Err(Status::invalid(&gvr.group, kind, "", vec![cause]));
    }
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), timestamp(Timestamp::now()).into());
    Ok(())
}

/// Takes the revision out of a new object, and tells whether there was one.
pub fn take_revision(object: &mut Value) -> bool {
    let revision = metadata(object).remove("resourceVersion");
    revision.and_then(|revision| revision.as_str()?.parse().ok()).is_some_and(|revision: u64| revision != 0)
}

/// Lists and maps of metadata that are empty are not stored: what a patch emptied reads as what was never there.
fn drop_empty(metadata: &mut Map<String, Value>) {
    for field in ["annotations", "finalizers", "labels", "ownerReferences"] {
        let empty = match metadata.get(field) {
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(fields)) => fields.is_empty(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => false,
        };
        if empty {
            metadata.remove(field);
        }
    }
}

/// The namespace of the request and the one of the object must agree; an absent one is set.
fn set_namespace(metadata: &mut Map<String, Value>, namespace: &str) -> Result<(), Status> {
    match metadata.get("namespace").and_then(Value::as_str) {
        None | Some("") => {
            metadata.insert("namespace".into(), namespace.into());
            Ok(())
        }
        Some(same) if same == namespace => Ok(()),
        Some(_) => Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
    }
}

/// Carries the server's fields over from the stored object. Fails where the update names another
/// object.
pub fn prepare_update(
    new: &mut Value,
    old: &Value,
    namespace: Option<&str>,
    name: &str,
    gvr: &Gvr,
) -> Result<(), Status> {
    let old_uid = text(old, "uid").to_owned();
    let metadata = metadata(new);
    drop_empty(metadata);
    match metadata.get("name").and_then(Value::as_str) {
        None | Some("") => {
            metadata.insert("name".into(), name.into());
        }
        Some(same) if same == name => {}
        Some(other) => {
            return Err(Status::bad_request(format!(
                "the name of the object ({other}) does not match the name on the URL ({name})"
            )));
        }
    }
    if let Some(namespace) = namespace {
        set_namespace(metadata, namespace)?;
    }
    if let Some(uid) =
        metadata.get("uid").and_then(Value::as_str).filter(|uid| !uid.is_empty() && **uid != old_uid)
    {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {old_uid}");
        return Err(Status::conflict(gvr, name, why));
    }
    metadata.remove("selfLink");
    metadata.remove("resourceVersion");
    for field in SERVER_FIELDS.into_iter().chain(["generateName"]) {
        match old.get("metadata").and_then(|old| old.get(field)) {
            Some(value) => metadata.insert(field.into(), value.clone()),
            None => metadata.remove(field),
        };
    }
    Ok(())
}

/// Whether two objects differ in what `metadata.generation` counts: everything except metadata
/// and status.
pub fn differs_in_spec(new: &Value, old: &Value) -> bool {
    let fields = |value: &Value| -> Map<String, Value> {
        let mut fields = value.as_object().cloned().unwrap_or_default();
        for field in ["metadata", "status", "apiVersion", "kind"] {
            fields.remove(field);
        }
        fields
    };
    fields(new) != fields(old)
}

/// Sets `metadata.generation`.
pub fn set_generation(object: &mut Value, generation: i64) {
    metadata(object).insert("generation".into(), generation.into());
}

pub fn generation(object: &Value) -> i64 {
    object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default()
}

pub fn finalizers(object: &Value) -> Vec<&str> {
    let list = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

pub fn is_terminating(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: Gvr = Gvr::new("", "v1", "pods");

    #[test]
    fn a_new_object_gets_an_identity_and_loses_what_it_may_not_set() {
        let mut object = json!({"metadata": {"generateName": "a-", "uid": "mine", "deletionTimestamp": "2020-01-01T00:00:00Z"}});
        prepare_create(&mut object, Some("n"), &PODS, "Pod").expect("valid");
        assert!(text(&object, "name").starts_with("a-") && text(&object, "name").len() == 7);
        assert_eq!(text(&object, "namespace"), "n");
        assert_ne!(text(&object, "uid"), "mine");
        assert!(!is_terminating(&object));
    }

    #[test]
    fn what_is_empty_is_not_kept() {
        let old =
            json!({"metadata": {"name": "a", "uid": "u", "labels": {"a": "b"}, "ownerReferences": [{}]}});
        let mut new = json!({"metadata": {"labels": {}, "ownerReferences": [], "finalizers": ["f"]}});
        prepare_update(&mut new, &old, None, "a", &PODS).expect("valid");
        assert_eq!(new, json!({"metadata": {"name": "a", "uid": "u", "finalizers": ["f"]}}));
        let mut created = json!({"metadata": {"name": "a", "annotations": {}}});
        prepare_create(&mut created, None, &PODS, "Pod").expect("valid");
        assert_eq!(created.pointer("/metadata/annotations"), None);
    }

    #[test]
    fn what_cannot_be_created_is_refused() {
        let check = |object: Value, code: u16| {
            let mut object = object;
            assert_eq!(
                prepare_create(&mut object, Some("n"), &PODS, "Pod").expect_err("refused").code,
                code,
                "{object}"
            );
        };
        check(json!({"metadata": {}}), 422);
        check(json!({"metadata": {"name": "a", "namespace": "other"}}), 400);
    }

    #[test]
    fn a_revision_is_one_that_could_be_one() {
        for (revision, is_one) in [("5", true), ("", false), ("0", false), ("x", false)] {
            let mut object = json!({"metadata": {"name": "a", "resourceVersion": revision}});
            assert_eq!(take_revision(&mut object), is_one, "{revision:?}");
            assert_eq!(object, json!({"metadata": {"name": "a"}}));
        }
        assert!(!take_revision(&mut json!({})));
    }

    #[test]
    fn an_update_keeps_the_servers_fields() {
        let old = json!({"metadata": {"name": "a", "uid": "u", "generation": 3, "creationTimestamp": "t"}});
        let mut new = json!({"metadata": {"name": "a", "generation": 9}});
        prepare_update(&mut new, &old, None, "a", &PODS).expect("valid");
        assert_eq!(generation(&new), 3);
        assert_eq!(text(&new, "uid"), "u");
        let mut other = json!({"metadata": {"name": "a", "uid": "v"}});
        assert!(
            prepare_update(&mut other, &old, None, "a", &PODS).expect_err("another object").is_conflict()
        );
    }

    #[test]
    fn the_generation_counts_what_is_neither_metadata_nor_status() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"a": 1}, "status": {"b": 1}});
        let mut status = object.clone();
        status["status"]["b"] = json!(2);
        assert!(!differs_in_spec(&status, &object));
        let mut spec = object.clone();
        spec["spec"]["a"] = json!(2);
        assert!(differs_in_spec(&spec, &object));
    }
}
