//! Flow schemas and priority levels.

use super::field::{At, Faults};
use crate::names;

const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const EXEMPT: &str = "exempt";
const MAX_PRECEDENCE: i64 = 10_000;
const MAX_QUEUES: i64 = 10_000_000;

pub(super) fn content(kind: &str, root: &At<'_, '_>, faults: &mut Faults) {
    match kind {
        "FlowSchema" => flow_schema(root, faults),
        "PriorityLevelConfiguration" => priority_level(root, faults),
        _ => {}
    }
}

fn flow_schema(root: &At<'_, '_>, faults: &mut Faults) {
    let (metadata, spec) = (root.get("metadata"), root.get("spec"));
    let precedence = spec.get("matchingPrecedence");
    let number = precedence.int().unwrap_or_default();
    if number <= 0 {
        faults.invalid(&precedence, "must be a positive value");
    }
    if number > MAX_PRECEDENCE {
        faults.invalid(&precedence, &format!("must not be greater than {MAX_PRECEDENCE}"));
    }
    if number == 1 && metadata.get("name").text() != EXEMPT {
        faults.invalid(&precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = spec.get("distinguisherMethod");
    if method.is_set() {
        let kind = method.get("type");
        if !["ByNamespace", "ByUser"].contains(&kind.text()) {
            faults.unsupported(&kind, &["ByNamespace", "ByUser"]);
        }
    }
    let level = spec.get("priorityLevelConfiguration");
    let name = level.get("name");
    if name.text().is_empty() {
        faults.required(&name, "must reference a priority level");
    } else {
        faults.named(&name, names::dns1123_subdomain(name.text()));
    }
    for rule in spec.get("rules").items() {
        rule_with_subjects(&rule, faults);
    }
}

fn rule_with_subjects(rule: &At<'_, '_>, faults: &mut Faults) {
    let subjects = rule.get("subjects");
    if subjects.is_empty() {
        faults.required(&subjects, "subjects must contain at least one value");
    }
    for one in subjects.items() {
        subject(&one, faults);
    }
    let (resources, paths) = (rule.get("resourceRules"), rule.get("nonResourceRules"));
    if resources.is_empty() && paths.is_empty() {
        faults.required(rule, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for one in resources.items() {
        resource_rule(&one, faults);
    }
    for one in paths.items() {
        verbs(&one, faults);
        let urls = one.get("nonResourceURLs");
        all_or_some(&urls, "nonResourceURLs must contain at least one value", "non-resource URLs", faults);
    }
}

fn subject(subject: &At<'_, '_>, faults: &mut Faults) {
    const KINDS: [(&str, &str); 3] =
        [("Group", "group"), ("ServiceAccount", "serviceAccount"), ("User", "user")];
    let kind = subject.get("kind");
    if !KINDS.iter().any(|(name, _)| *name == kind.text()) {
        return faults.unsupported(&kind, &KINDS.map(|(name, _)| name));
    }
    for (name, field) in KINDS {
        let part = subject.get(field);
        if name != kind.text() {
            if part.is_set() {
                faults.forbidden(&part, &format!("{field} is forbidden when subject kind is not '{name}'"));
            }
        } else if part.is_set() {
            let own = part.get("name");
            if own.text().is_empty() {
                faults.required(&own, "");
            }
            if name == "ServiceAccount" {
                service_account(&part, faults);
            }
        } else {
            faults.required(&part, &format!("{field} is required when subject kind is '{name}'"));
        }
    }
}

fn service_account(account: &At<'_, '_>, faults: &mut Faults) {
    let (name, namespace) = (account.get("name"), account.get("namespace"));
    if !matches!(name.text(), "" | "*") {
        faults.named(&name, names::dns1123_subdomain(name.text()));
    }
    if namespace.text().is_empty() {
        faults.required(&namespace, "must specify namespace for service account");
    } else {
        faults.named(&namespace, names::dns1123_label(namespace.text()));
    }
}

fn resource_rule(rule: &At<'_, '_>, faults: &mut Faults) {
    verbs(rule, faults);
    let (groups, resources) = (rule.get("apiGroups"), rule.get("resources"));
    all_or_some(&groups, "resource rules must supply at least one api group", "api groups", faults);
    all_or_some(&resources, "resource rules must supply at least one resource", "resources", faults);
    let namespaces = rule.get("namespaces");
    if namespaces.is_empty() {
        if !rule.get("clusterScope").is_true() {
            let detail = "resource rules that are not cluster scoped must supply at least one namespace";
            faults.required(&namespaces, detail);
        }
        return;
    }
    all_or_some(&namespaces, "", "namespaces", faults);
    if namespaces.items().all(|one| one.text() != "*") {
        for namespace in namespaces.items() {
            for message in names::dns1123_label(namespace.text()) {
                let intro = "each member of this list must be '*' or a DNS-1123 label; ";
                faults.invalid(&namespace, &format!("{intro}{message}"));
            }
        }
    }
}

fn verbs(rule: &At<'_, '_>, faults: &mut Faults) {
    let verbs = rule.get("verbs");
    all_or_some(&verbs, "verbs must contain at least one value", "verbs", faults);
    let known = |verb: &At<'_, '_>| verb.text() == "*" || VERBS.contains(&verb.text());
    if !verbs.items().all(|verb| known(&verb)) {
        faults.unsupported(&verbs, &VERBS);
    }
}

/// Something must be listed, and nothing beside `*`.
fn all_or_some(list: &At<'_, '_>, required: &str, noun: &str, faults: &mut Faults) {
    if list.is_empty() {
        faults.required(list, required);
    } else if list.len() > 1 && list.items().any(|one| one.text() == "*") {
        faults.invalid(list, &format!("if '*' is present, must not specify other {noun}"));
    }
}

fn priority_level(root: &At<'_, '_>, faults: &mut Faults) {
    let (metadata, spec) = (root.get("metadata"), root.get("spec"));
    let (kind, limited, exempt) = (spec.get("type"), spec.get("limited"), spec.get("exempt"));
    if (metadata.get("name").text() == EXEMPT) != (kind.text() == "Exempt") {
        faults.invalid(&kind, "type must be 'Exempt' if and only if name is 'exempt'");
    }
    match kind.text() {
        "Exempt" => {
            if limited.is_set() {
                faults.forbidden(&limited, "must be nil if the type is not Limited");
            }
            let shares = exempt.get("nominalConcurrencyShares");
            if shares.int().is_some_and(|shares| shares < 0) {
                faults.invalid(&shares, "must be a non-negative integer");
            }
            percent(&exempt.get("lendablePercent"), faults);
        }
        "Limited" => {
            if exempt.is_set() {
                faults.forbidden(&exempt, "must be nil if the type is Limited");
            }
            if limited.is_set() {
                limits(&limited, faults);
            } else {
                faults.required(&limited, "must not be empty when type is Limited");
            }
        }
        _ => faults.unsupported(&kind, &["Exempt", "Limited"]),
    }
}

fn percent(at: &At<'_, '_>, faults: &mut Faults) {
    if at.int().is_some_and(|percent| !(0..=100).contains(&percent)) {
        faults.invalid(at, "must be between 0 and 100, inclusive");
    }
}

fn limits(limited: &At<'_, '_>, faults: &mut Faults) {
    let shares = limited.get("nominalConcurrencyShares");
    // A level with no shares of its own lives on what others lend; stored since v1.29.
    if shares.int().is_some_and(|shares| shares < 0) {
        faults.invalid(&shares, "must be a non-negative integer");
    }
    percent(&limited.get("lendablePercent"), faults);
    let borrowing = limited.get("borrowingLimitPercent");
    if borrowing.int().is_some_and(|percent| percent < 0) {
        faults.invalid(&borrowing, "if specified, must be a non-negative integer");
    }
    let response = limited.get("limitResponse");
    let (kind, queuing) = (response.get("type"), response.get("queuing"));
    match kind.text() {
        "Reject" => {
            if queuing.is_set() {
                faults.forbidden(&queuing, "must be nil if limited.limitResponse.type is not Limited");
            }
        }
        "Queue" if queuing.is_set() => queues(&queuing, faults),
        "Queue" => faults.required(&queuing, "must not be empty if limited.limitResponse.type is Limited"),
        _ => faults.unsupported(&kind, &["Queue", "Reject"]),
    }
}

fn queues(queuing: &At<'_, '_>, faults: &mut Faults) {
    let (queues, hand) = (queuing.get("queues"), queuing.get("handSize"));
    let number = |at: &At<'_, '_>| at.int().unwrap_or_default();
    if number(&queuing.get("queueLengthLimit")) <= 0 {
        faults.invalid(&queuing.get("queueLengthLimit"), "must be positive");
    }
    if number(&queues) <= 0 {
        faults.invalid(&queues, "must be positive");
    } else if number(&queues) > MAX_QUEUES {
        faults.invalid(&queues, &format!("must not be greater than {MAX_QUEUES}"));
    }
    if number(&hand) <= 0 {
        faults.invalid(&hand, "must be positive");
    } else if number(&hand) > number(&queues) {
        let detail = format!("should not be greater than queues ({})", number(&queues));
        faults.invalid(&hand, &detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    const GROUP: &str = "flowcontrol.apiserver.k8s.io";

    fn check(kind: &str, name: &str, spec: Value, expected: &[&str]) {
        let value = json!({"metadata": {"name": name}, "spec": spec});
        let faults = crate::validation::create(GROUP, kind, &value);
        let faults: Vec<String> =
            faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
        assert_eq!(faults, expected, "{spec}");
    }

    #[test]
    fn flow_schemas_are_held_to_their_rules() {
        let fine = json!({"matchingPrecedence": 100, "priorityLevelConfiguration": {"name": "low"},
            "rules": [{"subjects": [{"kind": "User", "user": {"name": "*"}}], "resourceRules": [
                {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]}]});
        check("FlowSchema", "f", fine.clone(), &[]);
        check(
            "FlowSchema",
            "f",
            json!({"matchingPrecedence": 1}),
            &[
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
                "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            ],
        );
        let mut wrong = fine;
        wrong["rules"] = json!([{"subjects": [{"kind": "Group", "user": {"name": "a"}}],
            "resourceRules": [{"verbs": ["get", "*"], "apiGroups": [""], "resources": ["pods"]}]}]);
        check(
            "FlowSchema",
            "f",
            wrong,
            &[
                "spec.rules[0].subjects[0].group: Required value: group is required when subject kind is 'Group'",
                "spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'",
                "spec.rules[0].resourceRules[0].verbs: Invalid value: [\"get\",\"*\"]: if '*' is present, must not specify other verbs",
                "spec.rules[0].resourceRules[0].namespaces: Required value: resource rules that are not cluster scoped must supply at least one namespace",
            ],
        );
    }

    #[test]
    fn priority_levels_are_held_to_their_rules() {
        let kind = "PriorityLevelConfiguration";
        let queues = |hand: i64| {
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 10,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 4, "handSize": hand, "queueLengthLimit": 5}}}})
        };
        check(kind, "l", queues(2), &[]);
        check(
            kind,
            "l",
            queues(5),
            &[
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 5: should not be greater than queues (4)",
            ],
        );
        check(
            kind,
            "l",
            json!({"type": "Exempt"}),
            &["spec.type: Invalid value: \"Exempt\": type must be 'Exempt' if and only if name is 'exempt'"],
        );
        check(
            kind,
            "l",
            json!({"type": "Limited"}),
            &["spec.limited: Required value: must not be empty when type is Limited"],
        );
    }
}
