//! Pods: quality of service and grace periods.

use serde_json::Value;

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
    use serde_json::json;

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
