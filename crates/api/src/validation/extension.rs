//! What extends the API: webhook configurations and APIServices.

use std::collections::BTreeSet;

use serde_json::Value;

use super::field::{At, Faults};
use super::selector::label_selector;
use crate::names;

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const URL_FORM: &str = "; desired format: https://host[/path]";

/// `ValidatingWebhookConfiguration` and `MutatingWebhookConfiguration`.
pub(super) fn webhooks(kind: &str, root: &At<'_, '_>, faults: &mut Faults) {
    let list = root.get("webhooks");
    let mut seen = BTreeSet::new();
    for hook in list.items() {
        webhook(&hook, faults);
        if kind == "MutatingWebhookConfiguration" {
            faults.one_of_or_none(&hook.get("reinvocationPolicy"), &["IfNeeded", "Never"]);
        }
        review_versions(&hook.get("admissionReviewVersions"), faults);
        let name = hook.get("name");
        if !name.text().is_empty() && !seen.insert(name.text()) {
            faults.duplicate(&name, name.value);
        }
    }
}

fn webhook(hook: &At<'_, '_>, faults: &mut Faults) {
    let name = hook.get("name");
    if name.text().is_empty() {
        faults.required(&name, "");
    } else {
        faults.named(&name, names::dns1123_subdomain(name.text()));
        if name.text().split('.').count() < 3 {
            faults.invalid(&name, "should be a domain with at least three segments separated by dots");
        }
    }
    for rule in hook.get("rules").items() {
        webhook_rule(&rule, faults);
    }
    faults.one_of_or_none(&hook.get("failurePolicy"), &["Fail", "Ignore"]);
    faults.one_of_or_none(&hook.get("matchPolicy"), &["Equivalent", "Exact"]);
    let side_effects = hook.get("sideEffects");
    if side_effects.is_set() {
        faults.one_of_or_none(&side_effects, &["None", "NoneOnDryRun"]);
    } else {
        faults.required(&side_effects, "must specify one of None, NoneOnDryRun");
    }
    let timeout = hook.get("timeoutSeconds");
    if timeout.int().is_some_and(|seconds| !(1..=30).contains(&seconds)) {
        faults.invalid(&timeout, "the timeout value must be between 1 and 30 seconds");
    }
    for field in ["namespaceSelector", "objectSelector"] {
        label_selector(&hook.get(field), faults);
    }
    client_config(&hook.get("clientConfig"), faults);
    match_conditions(&hook.get("matchConditions"), faults);
}

/// The names of match conditions; their expressions are for whoever evaluates them.
fn match_conditions(list: &At<'_, '_>, faults: &mut Faults) {
    const LIMIT: usize = 64;
    if list.len() > LIMIT {
        faults.too_many(list, list.len(), LIMIT);
    }
    let mut seen = BTreeSet::new();
    for condition in list.items() {
        let (name, expression) = (condition.get("name"), condition.get("expression"));
        if expression.text().trim().is_empty() {
            faults.required(&expression, "");
        }
        if name.text().is_empty() {
            faults.required(&name, "");
        } else {
            faults.named(&name, names::qualified_name(name.text()));
            if !seen.insert(name.text()) {
                faults.duplicate(&name, name.value);
            }
        }
    }
}

/// A rule with operations.
fn webhook_rule(rule: &At<'_, '_>, faults: &mut Faults) {
    let operations = rule.get("operations");
    if operations.is_empty() {
        faults.required(&operations, "");
    }
    alone(&operations, "operations", faults);
    for operation in operations.items() {
        if !["*", "CONNECT", "CREATE", "DELETE", "UPDATE"].contains(&operation.text()) {
            faults.unsupported(&operation, &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]);
        }
    }
    let (groups, versions) = (rule.get("apiGroups"), rule.get("apiVersions"));
    if groups.is_empty() {
        faults.required(&groups, "");
    }
    alone(&groups, "API groups", faults);
    if versions.is_empty() {
        faults.required(&versions, "");
    }
    alone(&versions, "API versions", faults);
    for version in versions.items().filter(|version| version.text().is_empty()) {
        faults.required(&version, "");
    }
    resources(&rule.get("resources"), faults);
    faults.one_of_or_none(&rule.get("scope"), &["*", "Cluster", "Namespaced"]);
}

/// `*` stands for all, so that nothing may stand beside it.
fn alone(list: &At<'_, '_>, what: &str, faults: &mut Faults) {
    if list.len() > 1 && list.items().any(|one| one.text() == "*") {
        faults.invalid(list, &format!("if '*' is present, must not specify other {what}"));
    }
}

fn resources(list: &At<'_, '_>, faults: &mut Faults) {
    if list.is_empty() {
        faults.required(list, "");
    }
    // `x/*`, `*/x`, `*/*`, `*`, and the last plain one decides, as upstream has it.
    let (mut all_subresources, mut all_resources) = (BTreeSet::new(), BTreeSet::new());
    let (mut double, mut single, mut plain) = (false, false, false);
    for one in list.items() {
        let text = one.text();
        match text {
            "" => {
                faults.required(&one, "");
                continue;
            }
            "*/*" => double = true,
            "*" => single = true,
            _ => {}
        }
        let Some((resource, sub)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if all_subresources.contains(resource) {
            faults.invalid(&one, &format!("if '{resource}/*' is present, must not specify {text}"));
        }
        if all_resources.contains(sub) {
            faults.invalid(&one, &format!("if '*/{sub}' is present, must not specify {text}"));
        }
        if sub == "*" {
            all_subresources.insert(resource);
        }
        if resource == "*" {
            all_resources.insert(sub);
        }
    }
    if list.len() > 1 && double {
        faults.invalid(list, "if '*/*' is present, must not specify other resources");
    }
    if single && plain {
        faults.invalid(list, "if '*' is present, must not specify other resources without subresources");
    }
}

fn review_versions(list: &At<'_, '_>, faults: &mut Faults) {
    let accepted = REVIEW_VERSIONS.join(", ");
    if list.is_empty() {
        faults.required(list, &format!("must specify one of {accepted}"));
        return;
    }
    let mut seen = BTreeSet::new();
    for version in list.items() {
        if !seen.insert(version.text()) {
            faults.invalid(&version, "duplicate version");
            continue;
        }
        faults.named(&version, names::dns1035_label(version.text()));
    }
    if !REVIEW_VERSIONS.iter().any(|known| seen.contains(known)) {
        faults.invalid(list, &format!("must include at least one of {accepted}"));
    }
}

/// `WebhookClientConfig`: exactly one of a URL and a service.
fn client_config(config: &At<'_, '_>, faults: &mut Faults) {
    let (url, service) = (config.get("url"), config.get("service"));
    if url.is_set() == service.is_set() {
        faults.required(config, "exactly one of url or service is required");
    } else if url.is_set() {
        webhook_url(&url, faults);
    } else {
        webhook_service(&service, faults);
    }
}

fn webhook_url(url: &At<'_, '_>, faults: &mut Faults) {
    let (scheme, rest) = url.text().split_once("://").unwrap_or(("", url.text()));
    if scheme != "https" {
        faults.invalid_text(url, scheme, &format!("'https' is the only allowed URL scheme{URL_FORM}"));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = if scheme.is_empty() { "" } else { rest.split('/').next().unwrap_or_default() };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        faults.invalid_text(url, "", &format!("host must be specified{URL_FORM}"));
    }
    if !user.is_empty() {
        faults.invalid_text(url, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        faults.invalid_text(url, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        faults.invalid_text(url, query, "query parameters are not permitted in the URL");
    }
}

fn webhook_service(service: &At<'_, '_>, faults: &mut Faults) {
    let (name, namespace, port) = (service.get("name"), service.get("namespace"), service.get("port"));
    if name.text().is_empty() {
        faults.required(&name, "service name is required");
    }
    if namespace.text().is_empty() {
        faults.required(&namespace, "service namespace is required");
    }
    port_number(&port, faults);
    let path = service.get("path");
    let text = path.text();
    if matches!(text, "" | "/") {
        return;
    }
    if text == "//" {
        return faults.invalid(&path, "segment[0] may not be empty");
    }
    if !text.starts_with('/') {
        faults.invalid(&path, "must start with a '/'");
    }
    // As upstream, whatever the first character is.
    let inner = text.chars().next().map_or(text, |first| &text[first.len_utf8()..]);
    for (at, step) in inner.strip_suffix('/').unwrap_or(inner).split('/').enumerate() {
        if step.is_empty() {
            faults.invalid(&path, &format!("segment[{at}] may not be empty"));
            continue;
        }
        for message in names::dns1123_subdomain(step) {
            faults.invalid(&path, &format!("segment[{at}]: {message}"));
        }
    }
}

fn port_number(port: &At<'_, '_>, faults: &mut Faults) {
    if let Some(number) = port.int() {
        let messages = names::port_number(number);
        if !messages.is_empty() {
            faults.invalid(port, &format!("port is not valid: {}", messages.join(", ")));
        }
    }
}

/// `APIService`, whose name says its group and version.
pub(super) fn api_service(root: &At<'_, '_>, faults: &mut Faults) {
    let (metadata, spec) = (root.get("metadata"), root.get("spec"));
    let (name, group, version) = (metadata.get("name"), spec.get("group"), spec.get("version"));
    let wanted = format!("{}.{}", version.text(), group.text());
    if name.text() != wanted {
        faults.invalid(&name, &format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"));
    }
    if group.text().is_empty() && version.text() != "v1" {
        faults.required(&group, "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.text().is_empty() {
        faults.named(&group, names::dns1123_subdomain(group.text()));
    }
    faults.named(&version, names::dns1035_label(version.text()));
    for (field, limit) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.get(field);
        let number = priority.int().unwrap_or(0);
        if !(1..=limit).contains(&number) {
            let message = format!("must be positive and less than {limit}");
            faults.invalid_value(&priority, &number.into(), &message);
        }
    }
    let (service, bundle, insecure) =
        (spec.get("service"), spec.get("caBundle"), spec.get("insecureSkipTLSVerify"));
    if !service.is_set() {
        if !bundle.text().is_empty() {
            let shown = Value::from(format!("{} bytes", bundle.text().len() / 4 * 3));
            faults.invalid_value(&bundle, &shown, "local APIServices may not have a caBundle");
        }
        if insecure.is_true() {
            faults.invalid(&insecure, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    for field in ["namespace", "name"] {
        let text = service.get(field);
        if text.text().is_empty() {
            faults.required(&text, "");
        }
    }
    port_number(&service.get("port"), faults);
    if insecure.is_true() && !bundle.text().is_empty() {
        faults.invalid(&insecure, "may not be true if caBundle is present");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::validation::create;

    /// The faults of a webhook with some fields replaced, by field.
    fn check(changes: Value, expected: &[&str]) {
        let mut hook = json!({"name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://a/b"},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
        for (field, value) in changes.as_object().into_iter().flatten() {
            hook[field] = value.clone();
        }
        let object = json!({"metadata": {"name": "x"}, "webhooks": [hook]});
        let faults = create("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", &object);
        let texts: Vec<String> =
            faults.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        assert_eq!(texts, expected, "{changes}");
    }

    use serde_json::Value;

    #[test]
    fn webhooks_are_held_to_upstreams_rules() {
        check(json!({}), &[]);
        check(
            json!({"name": "a.b"}),
            &[
                "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
            ],
        );
        check(
            json!({"sideEffects": null}),
            &["webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun"],
        );
        check(
            json!({"sideEffects": "Some"}),
            &[
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
            ],
        );
        check(
            json!({"timeoutSeconds": 31}),
            &[
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ],
        );
        check(
            json!({"admissionReviewVersions": ["v2"]}),
            &[
                "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
            ],
        );
        check(
            json!({"clientConfig": {}}),
            &["webhooks[0].clientConfig: Required value: exactly one of url or service is required"],
        );
        check(
            json!({"clientConfig": {"url": "http://a/?b"}}),
            &[
                "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "webhooks[0].clientConfig.url: Invalid value: \"b\": query parameters are not permitted in the URL",
            ],
        );
        let service = json!({"service": {"name": "", "namespace": "n", "port": 443, "path": "a"}});
        check(
            json!({"clientConfig": service}),
            &[
                "webhooks[0].clientConfig.service.name: Required value: service name is required",
                "webhooks[0].clientConfig.service.path: Invalid value: \"a\": must start with a '/'",
                "webhooks[0].clientConfig.service.path: Invalid value: \"a\": segment[0] may not be empty",
            ],
        );
        let rule = |resources: Value| json!({"rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": resources}]});
        check(
            rule(json!(["*/*", "a"])),
            &[
                "webhooks[0].rules[0].resources: Invalid value: [\"*/*\",\"a\"]: if '*/*' is present, must not specify other resources",
            ],
        );
        check(
            rule(json!(["a/*", "a/b"])),
            &[
                "webhooks[0].rules[0].resources[1]: Invalid value: \"a/b\": if 'a/*' is present, must not specify a/b",
            ],
        );
    }

    #[test]
    fn an_api_service_is_named_after_what_it_serves() {
        let object = json!({"metadata": {"name": "x"}, "spec": {"group": "g.example", "version": "v1",
            "groupPriorityMinimum": 1, "versionPriority": 0}});
        let faults = create("apiregistration.k8s.io", "APIService", &object);
        let texts: Vec<String> =
            faults.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        assert_eq!(
            texts,
            [
                "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.g.example\"",
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000"
            ]
        );
    }
}
