//! Expressions that select devices, in what asks for them: they must compile.

use sampan_api::status::Cause;
use sampan_cel::devices::{SelectorFault, check};
use serde_json::Value;

/// Longer ones are refused by the rules of their kind, unread.
const EXPRESSION_MAX: usize = 10 << 10;

/// The faults of an object's selectors. What stood in `old` already may stay, whatever it is.
pub(super) fn faults(group: &str, kind: &str, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    if group != "resource.k8s.io" {
        return Vec::new();
    }
    let known: Vec<&str> =
        old.map(|old| selectors(kind, old)).unwrap_or_default().into_iter().map(|(_, text)| text).collect();
    selectors(kind, object)
        .into_iter()
        .filter(|(_, text)| text.len() <= EXPRESSION_MAX && !known.contains(text))
        .filter_map(|(field, text)| {
            let (reason, message) = match check(text)? {
                SelectorFault::Invalid(why) => {
                    ("FieldValueInvalid", format!("Invalid value: {text:?}: {why}"))
                }
                SelectorFault::TooComplex => {
                    ("FieldValueForbidden", "Forbidden: too complex, exceeds cost limit".to_owned())
                }
            };
            Some(Cause { reason: reason.to_owned(), message, field })
        })
        .collect()
}

/// Every expression with its path.
fn selectors<'v>(kind: &str, object: &'v Value) -> Vec<(String, &'v str)> {
    let mut found = Vec::new();
    match kind {
        "DeviceClass" => list(&object["spec"], "spec", &mut found),
        "ResourceClaim" => requests(&object["spec"], "spec", &mut found),
        "ResourceClaimTemplate" => requests(&object["spec"]["spec"], "spec.spec", &mut found),
        _ => {}
    }
    found
}

fn requests<'v>(spec: &'v Value, path: &str, found: &mut Vec<(String, &'v str)>) {
    for (at, request) in items(&spec["devices"]["requests"]) {
        let path = format!("{path}.devices.requests[{at}]");
        list(&request["exactly"], &format!("{path}.exactly"), found);
        // As `v1beta1` has it.
        list(request, &path, found);
        for (at, alternative) in items(&request["firstAvailable"]) {
            list(alternative, &format!("{path}.firstAvailable[{at}]"), found);
        }
    }
}

fn list<'v>(holder: &'v Value, path: &str, found: &mut Vec<(String, &'v str)>) {
    for (at, selector) in items(&holder["selectors"]) {
        if let Some(text) = selector["cel"]["expression"].as_str() {
            found.push((format!("{path}.selectors[{at}].cel.expression"), text));
        }
    }
}

fn items(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_selector_is_looked_at() {
        let selectors = json!([{"cel": {"expression": "true"}}, {"cel": {"expression": "nothing"}}]);
        let check = |kind: &str, object: &Value, expected: &[&str]| {
            let found: Vec<String> =
                faults("resource.k8s.io", kind, object, None).into_iter().map(|fault| fault.field).collect();
            assert_eq!(found, expected, "{object}");
            assert_eq!(faults("resource.k8s.io", kind, object, Some(object)), [], "what stands may stay");
        };
        let class = json!({"spec": {"selectors": selectors}});
        check("DeviceClass", &class, &["spec.selectors[1].cel.expression"]);
        let requests = json!({"requests": [{"exactly": {"selectors": selectors}},
            {"firstAvailable": [{}, {"selectors": selectors}]}]});
        let paths = |spec: &str| {
            [
                format!("{spec}.devices.requests[0].exactly.selectors[1].cel.expression"),
                format!("{spec}.devices.requests[1].firstAvailable[1].selectors[1].cel.expression"),
            ]
        };
        let claim = json!({"spec": {"devices": requests}});
        check("ResourceClaim", &claim, &paths("spec").each_ref().map(String::as_str));
        let template = json!({"spec": {"spec": {"devices": requests}}});
        check("ResourceClaimTemplate", &template, &paths("spec.spec").each_ref().map(String::as_str));
        check("ResourceSlice", &claim, &[]);
    }
}
