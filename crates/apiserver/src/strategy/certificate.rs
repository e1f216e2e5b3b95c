//! Certificate signing requests: who asks is what authentication found, never what the request says.

use serde_json::{Value, json};

use crate::identity::User;

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
