//! `ConversionReview` of apiextensions.k8s.io/v1 and v1beta1: what is asked, and what may be answered.
//!
//! A webhook may change anything of an object but its identity; of the metadata only labels and
//! annotations are taken from it.

use serde_json::{Map, Value, json};

/// A review of some objects in the first version that both sides know; None where there is none.
pub(super) fn request(versions: &[String], desired: &str, objects: &[Value]) -> Option<Value> {
    let version = versions.iter().find(|version| matches!(version.as_str(), "v1" | "v1beta1"))?;
    Some(json!({
        "kind": "ConversionReview",
        "apiVersion": format!("apiextensions.k8s.io/{version}"),
        "request": {
            "uid": uuid::Uuid::new_v4().to_string(),
            "desiredAPIVersion": desired,
            "objects": objects,
        },
    }))
}

/// Group, version and kind of an object in Kubernetes' words.
pub(super) fn kind_of(object: &Value) -> String {
    format!("{}, Kind={}", text(object, "apiVersion"), text(object, "kind"))
}

/// The converted objects of an answer, in the order of what was asked; or what is wrong with it.
pub(super) fn accept(request: &Value, mut answer: Value, asked: &[Value]) -> Result<Vec<Value>, String> {
    let kind = asked.first().map(kind_of).unwrap_or_default();
    check_envelope(request, &answer).map_err(|why| format!("conversion webhook for {kind} failed: {why}"))?;
    let converted = match answer["response"]["convertedObjects"].take() {
        Value::Array(converted) => converted,
        _ => Vec::new(),
    };
    if converted.len() != asked.len() {
        let (got, expected) = (converted.len(), asked.len());
        return Err(format!("conversion webhook for {kind} returned {got} objects, expected {expected}"));
    }
    let desired = text(&request["request"], "desiredAPIVersion");
    let mut accepted = Vec::with_capacity(converted.len());
    for (at, (mut object, original)) in converted.into_iter().zip(asked).enumerate() {
        check_identity(&object, original, desired).map_err(|why| {
            format!("conversion webhook for {kind} returned invalid converted object at index {at}: {why}")
        })?;
        restore_metadata(&mut object, original).map_err(|why| {
            format!("conversion webhook for {kind} returned invalid metadata in object at index {at}: {why}")
        })?;
        accepted.push(object);
    }
    Ok(accepted)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn check_envelope(request: &Value, answer: &Value) -> Result<(), String> {
    let response = &answer["response"];
    if request["apiVersion"] == "apiextensions.k8s.io/v1" {
        if answer["apiVersion"] != request["apiVersion"] || answer["kind"] != "ConversionReview" {
            let expected = kind_of(request);
            return Err(format!("expected webhook response of {expected}, got {}", kind_of(answer)));
        }
        let (uid, expected) = (text(response, "uid"), text(&request["request"], "uid"));
        if response.is_object() && uid != expected {
            return Err(format!("expected response.uid={expected:?}, got {uid:?}"));
        }
    }
    if !response.is_object() {
        return Err("no response provided".to_owned());
    }
    let result = &response["result"];
    match (text(result, "status"), text(result, "message")) {
        ("Success", _) => Ok(()),
        (status, "") => Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => Err(message.to_owned()),
    }
}

fn check_identity(object: &Value, original: &Value, desired: &str) -> Result<(), String> {
    let version = text(object, "apiVersion");
    if version != desired {
        return Err(format!("invalid groupVersion (expected {desired}, received {version})"));
    }
    let (kind, expected) = (text(object, "kind"), text(original, "kind"));
    if kind != expected {
        return Err(format!("invalid kind (expected {expected}, received {kind})"));
    }
    for (field, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (expected, got) = (text(&original["metadata"], field), text(&object["metadata"], field));
        if expected != got {
            return Err(format!("must have the same {name}: {expected} != {got}"));
        }
    }
    Ok(())
}

fn restore_metadata(object: &mut Value, original: &Value) -> Result<(), String> {
    let Some(Value::Object(converted)) = object.get("metadata") else {
        return Err("missing metadata in converted object".to_owned());
    };
    let mut restored: Map<String, Value> = original["metadata"].as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match converted.get(field) {
            Some(Value::Object(entries)) => {
                if let Some((key, _)) = entries.iter().find(|(_, value)| !value.is_string()) {
                    return Err(format!("metadata.{field}[{key}]: Invalid value: must be a string"));
                }
                restored.insert(field.to_owned(), Value::Object(entries.clone()));
            }
            None | Some(Value::Null) => {
                restored.remove(field);
            }
            Some(_) => return Err(format!("metadata.{field}: Invalid value: must be a map of strings")),
        }
    }
    object["metadata"] = Value::Object(restored);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> Value {
        json!({"apiVersion": "a.b/v1", "kind": "K",
            "metadata": {"name": "n", "uid": "u", "labels": {"a": "b"}, "finalizers": ["f/g"]}, "spec": {"x": 1}})
    }

    fn check(change: impl Fn(&mut Value), expected: Result<Value, &str>) {
        let request = request(&["v2".into(), "v1".into()], "a.b/v2", &[original()]).expect("a known version");
        let mut converted = original();
        converted["apiVersion"] = "a.b/v2".into();
        let mut answer = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": {
            "uid": request["request"]["uid"], "result": {"status": "Success"}, "convertedObjects": [converted]}});
        change(&mut answer);
        let accepted = accept(&request, answer, &[original()]);
        match (accepted, expected) {
            (Ok(objects), Ok(expected)) => assert_eq!(objects, [expected]),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{why} / {expected}"),
            (accepted, _) => panic!("{accepted:?}"),
        }
    }

    #[test]
    fn only_labels_and_annotations_of_the_metadata_may_change() {
        let mut expected = original();
        expected["apiVersion"] = "a.b/v2".into();
        check(|_| {}, Ok(expected.clone()));
        expected["metadata"]["labels"] = json!({"c": "d"});
        check(
            |answer| {
                answer["response"]["convertedObjects"][0]["metadata"] =
                    json!({"name": "n", "uid": "u", "labels": {"c": "d"}, "finalizers": ["other"]});
            },
            Ok(expected),
        );
    }

    #[test]
    fn what_a_webhook_does_wrong_is_told() {
        check(|answer| answer["response"]["uid"] = "x".into(), Err("expected response.uid="));
        check(|answer| answer["response"] = Value::Null, Err("failed: no response provided"));
        check(|answer| answer["kind"] = "Other".into(), Err("got apiextensions.k8s.io/v1, Kind=Other"));
        check(
            |answer| answer["response"]["result"] = json!({"status": "Failed", "message": "no way"}),
            Err("conversion webhook for a.b/v1, Kind=K failed: no way"),
        );
        check(
            |answer| answer["response"]["convertedObjects"] = json!([]),
            Err("returned 0 objects, expected 1"),
        );
        let object = |answer: &mut Value, field: &str, value: &str| {
            answer["response"]["convertedObjects"][0][field] = value.into();
        };
        check(|answer| object(answer, "apiVersion", "a.b/v1"), Err("invalid groupVersion (expected a.b/v2"));
        check(|answer| object(answer, "kind", "L"), Err("invalid kind (expected K, received L)"));
        check(
            |answer| answer["response"]["convertedObjects"][0]["metadata"]["name"] = "m".into(),
            Err("must have the same name: n != m"),
        );
        check(
            |answer| answer["response"]["convertedObjects"][0]["metadata"]["labels"] = json!({"a": 1}),
            Err("returned invalid metadata in object at index 0"),
        );
        assert!(request(&["v2".into()], "a.b/v2", &[]).is_none());
    }
}
