//! Certificate signing requests: who asks is what authentication found, never what the request says; and
//! what was asked never changes.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::identity::User;
use crate::registry::{Part, timestamp};

const DECISIONS: [&str; 2] = ["Approved", "Denied"];

/// Puts back what an update of one part of a request does not own.
pub(super) fn keep_other_parts(part: Part<'_>, fields: &mut Map<String, Value>, stored: &Map<String, Value>) {
    super::put_back(fields, stored, "spec");
    match part {
        Part::Main => super::put_back(fields, stored, "status"),
        Part::Status | Part::Subresource(_) => {}
    }
    if let (Part::Subresource(_), Some(status)) = (part, stored.get("status")) {
        let conditions = fields.get("status").and_then(|status| status.get("conditions")).cloned();
        let mut status = status.clone();
        if let Some(status) = status.as_object_mut() {
            match conditions {
                Some(conditions) => status.insert("conditions".into(), conditions),
                None => status.remove("conditions"),
            };
        }
        fields.insert("status".into(), status);
    }
}

/// Completes the conditions of a written status: what was decided stays as it was, and times are set.
pub(super) fn prepare_update(part: Part<'_>, new: &mut Value, old: &Value, now: Timestamp) {
    if part == Part::Main {
        return;
    }
    let before = old.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(conditions) = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut) else {
        return;
    };
    if part == Part::Status {
        for kind in DECISIONS {
            keep_instances(conditions, &before, kind);
        }
    }
    for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
        let unset = |condition: &Map<String, Value>, field: &str| {
            condition.get(field).and_then(Value::as_str).is_none_or(str::is_empty)
        };
        if unset(condition, "lastUpdateTime") {
            condition.insert("lastUpdateTime".into(), timestamp(now).into());
        }
        if unset(condition, "lastTransitionTime") {
            let same = |known: &&Value| {
                known["type"] == condition["type"]
                    && known["status"] == condition["status"]
                    && known["lastTransitionTime"].is_string()
            };
            let known = before.iter().find(same).map(|known| known["lastTransitionTime"].clone());
            condition.insert("lastTransitionTime".into(), known.unwrap_or_else(|| timestamp(now).into()));
        }
    }
}

/// Copies the conditions of a type from the stored ones, unless some were added or removed, which
/// validation refuses.
fn keep_instances(conditions: &mut [Value], before: &[Value], kind: &str) {
    let of_kind = |condition: &&Value| condition["type"] == kind;
    let old: Vec<&Value> = before.iter().filter(of_kind).collect();
    let mut new: Vec<&mut Value> =
        conditions.iter_mut().filter(|condition| condition["type"] == kind).collect();
    if old.len() == new.len() {
        for (new, old) in new.iter_mut().zip(old) {
            **new = old.clone();
        }
    }
}

/// Writes the requester over whatever the client put there, since signers trust these fields.
pub(super) fn prepare_create(object: &mut Value, user: &User) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    for field in ["username", "uid", "groups", "extra"] {
        spec.remove(field);
    }
    if !user.name.is_empty() {
        spec.insert("username".into(), json!(user.name));
    }
    if !user.uid.is_empty() {
        spec.insert("uid".into(), json!(user.uid));
    }
    if !user.groups.is_empty() {
        spec.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".into(), json!(user.extra));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_and_decided_stays() {
        let old = json!({"spec": {"request": "x"}, "status": {"certificate": "c", "conditions": [
            {"type": "Approved", "status": "True", "reason": "A", "lastUpdateTime": "1", "lastTransitionTime": "1"}]}});
        let now = Timestamp::from_second(1_800_000_000).expect("in range");
        let written = |part: Part<'_>, new: Value| {
            let mut new = new;
            let fields = new.as_object_mut().expect("an object");
            keep_other_parts(part, fields, old.as_object().expect("an object"));
            prepare_update(part, &mut new, &old, now);
            new
        };
        let other = json!({"spec": {"request": "y"}, "status": {"certificate": "d", "conditions": [
            {"type": "Approved", "status": "True", "reason": "B"}, {"type": "Failed", "status": "True"}]}});
        assert_eq!(written(Part::Main, other.clone()), old);
        let time = timestamp(now);
        let failed =
            json!({"type": "Failed", "status": "True", "lastUpdateTime": time, "lastTransitionTime": time});
        let status = written(Part::Status, other.clone());
        assert_eq!(status["spec"], old["spec"]);
        assert_eq!(status["status"]["certificate"], "d");
        assert_eq!(status["status"]["conditions"], json!([old["status"]["conditions"][0], failed]));
        let approval = written(Part::Subresource("approval"), other);
        assert_eq!((&approval["spec"], &approval["status"]["certificate"]), (&old["spec"], &json!("c")));
        let kept = json!({"type": "Approved", "status": "True", "reason": "B", "lastUpdateTime": time,
            "lastTransitionTime": "1"});
        assert_eq!(approval["status"]["conditions"], json!([kept, failed]));
    }

    #[test]
    fn the_requester_is_the_user() {
        let spec = json!({"request": "x", "username": "root", "uid": "0", "groups": ["system:masters"], "extra": {"a": ["b"]}});
        let mut object = json!({"spec": spec});
        prepare_create(&mut object, &User::component("jane", &["dev"]));
        assert_eq!(object["spec"]["username"], "jane");
        let groups = object["spec"]["groups"].as_array().expect("groups");
        assert!(groups.contains(&json!("dev")) && !groups.contains(&json!("system:masters")), "{groups:?}");
        assert_eq!((&object["spec"]["uid"], &object["spec"]["extra"]), (&Value::Null, &Value::Null));
        assert_eq!(object["spec"]["request"], "x");
        // Nothing to say about a request without a spec: validation refuses it.
        let mut empty = json!({});
        prepare_create(&mut empty, &User::component("jane", &[]));
        assert_eq!(empty, json!({}));
    }
}
