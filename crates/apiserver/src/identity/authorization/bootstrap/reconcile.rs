//! What a release adds to the bootstrap roles also reaches clusters that a release before it began: at each
//! start they get what they lack. What somebody added stays. Who wants a role or a binding left alone
//! takes the annotation's "true" from it, as in Kubernetes ("Auto-reconciliation" of RBAC).

use serde_json::{Map, Value, json};

use crate::identity::authorization::{covers, rules_of};

const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What becomes of an object that is there.
#[derive(Debug, PartialEq)]
pub enum Step {
    Leave,
    Update(Value),
    /// A binding to another role: what it refers to cannot be changed.
    Replace,
}

/// Compares what is there with what this release has under that name.
pub fn reconcile(existing: &Value, wanted: &Value) -> Result<Step, serde_json::Error> {
    if existing["metadata"]["annotations"][AUTO_UPDATE] != "true" {
        return Ok(Step::Leave);
    }
    if wanted.get("roleRef").is_some_and(|role| existing["roleRef"] != *role) {
        return Ok(Step::Replace);
    }
    let mut object = existing.clone();
    for field in ["labels", "annotations"] {
        let Some(wanted) = wanted["metadata"][field].as_object() else { continue };
        let metadata = object["metadata"].as_object_mut().expect("its annotations were read");
        if let Some(there) = metadata.entry(field).or_insert_with(|| json!({})).as_object_mut() {
            there.extend(wanted.clone());
        }
    }
    if let Some(object) = object.as_object_mut() {
        add_rules(object, wanted)?;
        add_missing(object, "subjects", &wanted["subjects"]);
        let selectors = &wanted["aggregationRule"]["clusterRoleSelectors"];
        if selectors.is_array() {
            let rule = object.entry("aggregationRule").or_insert_with(|| json!({}));
            if let Some(rule) = rule.as_object_mut() {
                add_missing(rule, "clusterRoleSelectors", selectors);
            }
        }
    }
    Ok(if object == *existing { Step::Leave } else { Step::Update(object) })
}

/// Adds the rights that the rules do not give yet.
fn add_rules(object: &mut Map<String, Value>, wanted: &Value) -> Result<(), serde_json::Error> {
    let there = rules_of(&Value::Object(object.clone()))?;
    if let Err(missing) = covers(&there, &rules_of(wanted)?) {
        let missing = missing.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
        list(object, "rules").extend(missing);
    }
    Ok(())
}

fn add_missing(object: &mut Map<String, Value>, field: &str, wanted: &Value) {
    for item in wanted.as_array().into_iter().flatten() {
        let there = object.get(field).and_then(Value::as_array);
        if !there.is_some_and(|there| there.contains(item)) {
            list(object, field).push(item.clone());
        }
    }
}

/// The list of a field, made where there is none.
fn list<'a>(object: &'a mut Map<String, Value>, field: &str) -> &'a mut Vec<Value> {
    let value = object.entry(field).or_insert(Value::Null);
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("was made one")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(auto_update: &str, rules: Value) -> Value {
        json!({"metadata": {"name": "r", "uid": "u", "annotations": {AUTO_UPDATE: auto_update}}, "rules": rules})
    }

    fn rule(verbs: &[&str], resources: &[&str]) -> Value {
        json!({"verbs": verbs, "apiGroups": [""], "resources": resources})
    }

    fn step(existing: &Value, wanted: &Value) -> Step {
        reconcile(existing, wanted).expect("rules")
    }

    #[test]
    fn rules_get_what_they_lack_and_keep_what_they_have() {
        let there = role("true", json!([rule(&["get", "list"], &["pods"]), rule(&["get"], &["nodes"])]));
        let wanted = role("true", json!([rule(&["list", "get"], &["pods"])]));
        assert_eq!(step(&there, &wanted), Step::Leave, "covered, and more");
        let wanted = role("true", json!([rule(&["get", "watch"], &["pods"])]));
        let mut expected = there.clone();
        list(expected.as_object_mut().expect("an object"), "rules").push(rule(&["watch"], &["pods"]));
        assert_eq!(step(&there, &wanted), Step::Update(expected));
        let left_alone = role("false", json!([]));
        assert_eq!(step(&left_alone, &wanted), Step::Leave);
        assert!(reconcile(&role("true", json!("none")), &wanted).is_err());
    }

    #[test]
    fn labels_selectors_and_subjects_are_added() {
        let there = json!({"metadata": {"annotations": {AUTO_UPDATE: "true"}}, "subjects": [{"name": "a"}], "rules": null});
        let wanted = json!({"metadata": {"labels": {"l": "1"}}, "subjects": [{"name": "a"}, {"name": "b"}],
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"x": "true"}}]}});
        let expected = json!({"metadata": {"annotations": {AUTO_UPDATE: "true"}, "labels": {"l": "1"}},
            "subjects": [{"name": "a"}, {"name": "b"}], "rules": null,
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"x": "true"}}]}});
        assert_eq!(step(&there, &wanted), Step::Update(expected));
    }

    #[test]
    fn a_binding_to_another_role_is_replaced() {
        let binding = |role: &str| json!({"metadata": {"annotations": {AUTO_UPDATE: "true"}}, "roleRef": {"name": role}});
        assert_eq!(step(&binding("a"), &binding("b")), Step::Replace);
        assert_eq!(step(&binding("a"), &binding("a")), Step::Leave);
    }
}
