//! `admissionregistration.k8s.io` and `flowcontrol.apiserver.k8s.io`.

use serde_json::{Map, Value, json};

use super::fields::{each, object, set, set_number};

pub(super) fn apply(kind: &str, root: &mut Map<String, Value>) {
    match kind {
        "ValidatingWebhookConfiguration" => each(root, "webhooks", webhook),
        "MutatingWebhookConfiguration" => each(root, "webhooks", |hook| {
            webhook(hook);
            set(hook, "reinvocationPolicy", json!("Never"));
        }),
        "ValidatingAdmissionPolicy" | "MutatingAdmissionPolicy" => {
            let Some(spec) = object(root, "spec") else { return };
            set(spec, "failurePolicy", json!("Fail"));
            if let Some(constraints) = object(spec, "matchConstraints") {
                match_resources(constraints);
            }
        }
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            if let Some(resources) = object(root, "spec").and_then(|spec| object(spec, "matchResources")) {
                match_resources(resources);
            }
        }
        _ => {}
    }
}

fn webhook(hook: &mut Map<String, Value>) {
    set(hook, "failurePolicy", json!("Fail"));
    set(hook, "timeoutSeconds", json!(10));
    selection(hook);
    each(hook, "rules", |rule| set(rule, "scope", json!("*")));
    if let Some(service) = object(hook, "clientConfig").and_then(|config| object(config, "service")) {
        set(service, "port", json!(443));
    }
}

fn selection(holder: &mut Map<String, Value>) {
    set(holder, "matchPolicy", json!("Equivalent"));
    set(holder, "namespaceSelector", json!({}));
    set(holder, "objectSelector", json!({}));
}

fn match_resources(resources: &mut Map<String, Value>) {
    selection(resources);
    for rules in ["resourceRules", "excludeResourceRules"] {
        each(resources, rules, |rule| set(rule, "scope", json!("*")));
    }
}

pub(super) fn apply_flow_control(kind: &str, root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else { return };
    match kind {
        "FlowSchema" => set_number(spec, "matchingPrecedence", 1000),
        "PriorityLevelConfiguration" => {
            if let Some(exempt) = object(spec, "exempt") {
                set(exempt, "nominalConcurrencyShares", json!(0));
                set(exempt, "lendablePercent", json!(0));
            }
            let Some(limited) = object(spec, "limited") else { return };
            set(limited, "nominalConcurrencyShares", json!(30));
            set(limited, "lendablePercent", json!(0));
            if let Some(queuing) =
                object(limited, "limitResponse").and_then(|response| object(response, "queuing"))
            {
                set_number(queuing, "handSize", 8);
                set_number(queuing, "queues", 64);
                set_number(queuing, "queueLengthLimit", 50);
            }
        }
        _ => {}
    }
}
