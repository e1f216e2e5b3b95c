use serde_json::json;

use super::*;

fn event(more: Value) -> Value {
    let mut event = json!({
        "metadata": {"name": "a", "namespace": "n"}, "regarding": {"namespace": "n"}, "type": "Normal", "action": "Act",
        "reason": "Because", "reportingController": "c.io/x", "reportingInstance": "i",
        "eventTime": "2020-01-01T00:00:00.000000Z",
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        event[key] = value.clone();
    }
    event
}

#[test]
fn the_new_api_is_strict() {
    let group = "events.k8s.io";
    check(group, "Event", event(json!({})), &[]);
    check(
        group,
        "Event",
        event(json!({
            "type": "Odd", "action": "", "reportingController": "", "note": "x".repeat(1025),
            "series": {"count": 1}, "deprecatedCount": 3, "deprecatedSource": {"component": "c"},
        })),
        &[
            "reportingController: Required value",
            "reportingController: Invalid value: \"\": name part must be non-empty",
            "reportingController: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "action: Required value",
            "message: Invalid value: \"\": can have at most 1024 characters",
            "series.count: Invalid value: \"\": should be at least 2",
            "series.lastObservedTime: Required value",
            "type: Invalid value: \"\": has invalid value: Odd",
            "count: Invalid value: \"\": needs to be unset",
            "source: Invalid value: \"\": needs to be unset",
        ],
    );
    check(group, "Event", event(json!({"eventTime": null})), &["eventTime: Required value"]);
    check(
        group,
        "Event",
        event(json!({"regarding": {}})),
        &["involvedObject.namespace: Invalid value: \"\": does not match event.namespace"],
    );
    check_update(
        group,
        "Event",
        event(json!({})),
        event(
            json!({"reason": "Else", "note": "new", "series": {"count": 2, "lastObservedTime": "2020-01-01T00:00:00.000000Z"}}),
        ),
        &[
            "reason: Invalid value: \"Else\": field is immutable",
            "message: Invalid value: \"new\": field is immutable",
        ],
    );
}

#[test]
fn the_old_api_lets_more_through() {
    let old = |more: Value| {
        let mut event =
            json!({"metadata": {"name": "a", "namespace": "n"}, "involvedObject": {"namespace": "n"}});
        for (key, value) in more.as_object().into_iter().flatten() {
            event[key] = value.clone();
        }
        event
    };
    check("", "Event", old(json!({"type": "Odd", "count": 3})), &[]);
    check(
        "",
        "Event",
        old(
            json!({"eventTime": "2020-01-01T00:00:00.000000Z", "reportingComponent": "c", "reason": "r", "action": "a"}),
        ),
        &["reportingInstance: Required value"],
    );
    check_update("", "Event", old(json!({"reason": "a"})), old(json!({"reason": "b"})), &[]);
}
