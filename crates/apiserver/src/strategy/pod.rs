//! Pods: quality of service, grace periods, and what their subresources write.

use serde_json::{Map, Value, json};

use super::put_back;

/// What a change through a subresource leaves as it is: all but the one part that it is for.
pub fn keep_other_parts(subresource: &str, new: &mut Map<String, Value>, old: &Map<String, Value>) {
    match subresource {
        "ephemeralcontainers" => {
            let containers = new.get("spec").and_then(|spec| spec.get("ephemeralContainers")).cloned();
            for field in ["spec", "status"] {
                put_back(new, old, field);
            }
            keep_metadata(new, old);
            let spec = new.entry("spec").or_insert_with(|| json!({}));
            if let (Some(spec), Some(containers)) = (spec.as_object_mut(), containers) {
                spec.insert("ephemeralContainers".into(), containers);
            }
        }
        "resize" => {
            let wanted = new.get("spec").cloned().unwrap_or_default();
            for field in ["spec", "status"] {
                put_back(new, old, field);
            }
            keep_metadata(new, old);
            let spec = new.get_mut("spec").and_then(Value::as_object_mut);
            if let Some(spec) = spec {
                for list in ["containers", "initContainers"] {
                    resize(list, spec, &wanted);
                }
            }
        }
        // A binding is made of the stored pod.
        _ => {}
    }
}

/// Gives the containers of a stored spec the resources that are wanted for them. Validation sees the
/// wanted order and number.
fn resize(list: &str, spec: &mut Map<String, Value>, wanted: &Value) {
    let stored = spec.remove(list).unwrap_or_default();
    let stored = stored.as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(wanted) = wanted[list].as_array() else { return };
    let resized = wanted.iter().map(|wanted| {
        let known = stored.iter().find(|stored| stored["name"] == wanted["name"]);
        let Some(Value::Object(known)) = known else { return wanted.clone() };
        let mut container = known.clone();
        if let Some(wanted) = wanted.as_object() {
            for field in ["resources", "resizePolicy"] {
                put_back(&mut container, wanted, field);
            }
        }
        Value::Object(container)
    });
    let resized = resized.collect();
    spec.insert(list.to_owned(), Value::Array(resized));
}

fn keep_metadata(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    let (Some(Value::Object(new)), Some(Value::Object(old))) = (new.get_mut("metadata"), old.get("metadata"))
    else {
        return;
    };
    for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
        put_back(new, old, field);
    }
}

/// The quality of service follows from the spec alone; a status without it keeps the old one.
pub fn keep_quality_of_service(new: &mut Value, old: &Value) {
    let Some(class) = old.pointer("/status/qosClass") else { return };
    if let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) {
        status.insert("qosClass".into(), class.clone());
    }
}

/// The grace period in seconds: what was asked, else the pod's own; none for pods that no node
/// runs or that have ended.
pub fn grace_seconds(pod: &Value, asked: Option<i64>) -> i64 {
    let own = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30);
    let unscheduled = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default().is_empty();
    let ended = matches!(pod.pointer("/status/phase").and_then(Value::as_str), Some("Succeeded" | "Failed"));
    if unscheduled || ended { 0 } else { asked.unwrap_or(own).max(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ephemeral_containers_come_through_their_subresource() {
        let old = json!({
            "metadata": {"labels": {"a": "b"}, "resourceVersion": "1"},
            "spec": {"nodeName": "n", "containers": [{"name": "c"}]},
            "status": {"phase": "Running"},
        });
        let mut new = json!({
            "metadata": {"labels": {"x": "y"}, "resourceVersion": "2", "finalizers": ["f/f"]},
            "spec": {"nodeName": "m", "ephemeralContainers": [{"name": "e"}]},
        });
        let fields = |value: &Value| value.as_object().cloned().expect("an object");
        let mut merged = fields(&new);
        keep_other_parts("ephemeralcontainers", &mut merged, &fields(&old));
        new["metadata"] = json!({"labels": {"a": "b"}, "resourceVersion": "2"});
        new["status"] = old["status"].clone();
        new["spec"] = json!({"nodeName": "n", "containers": [{"name": "c"}],
            "ephemeralContainers": [{"name": "e"}]});
        assert_eq!(Value::Object(merged), new);
    }

    #[test]
    fn a_resize_changes_resources_alone() {
        let container = |image: &str, cpu: &str| json!({"name": "c", "image": image, "resources": {"limits": {"cpu": cpu}}});
        let old = json!({"metadata": {}, "spec": {"nodeName": "n", "containers": [container("a", "1")]}});
        let new = json!({"metadata": {}, "spec": {"containers": [container("b", "2"), {"name": "d"}]}});
        let fields = |value: &Value| value.as_object().cloned().expect("an object");
        let mut merged = fields(&new);
        keep_other_parts("resize", &mut merged, &fields(&old));
        let expected = json!({"nodeName": "n", "containers": [container("a", "2"), {"name": "d"}]});
        assert_eq!(merged["spec"], expected);
    }

    #[test]
    fn only_running_pods_get_a_grace_period() {
        let running = json!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 5}});
        assert_eq!(grace_seconds(&running, None), 5);
        assert_eq!(grace_seconds(&running, Some(1)), 1);
        assert_eq!(grace_seconds(&json!({"spec": {}}), Some(9)), 0);
        assert_eq!(
            grace_seconds(&json!({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}), None),
            0
        );
    }
}
