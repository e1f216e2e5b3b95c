//! Configuration, access, admission and the extension of the API.

use serde_json::Value;

use super::{Printer, Row, condition, count, items, scalar, selector, text};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "ConfigMap" => config_map,
        "Secret" => secret,
        "ServiceAccount" => service_account,
        "ResourceQuota" => resource_quota,
        "RoleBinding" | "ClusterRoleBinding" => role_binding,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => webhook_configuration,
        "ValidatingAdmissionPolicy" => validating_admission_policy,
        "MutatingAdmissionPolicy" => mutating_admission_policy,
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => admission_policy_binding,
        "APIService" => api_service,
        _ => return None,
    })
}

fn config_map(row: &mut Row<'_>) {
    row.name();
    row.text("Data", count(&row.object["data"]) + count(&row.object["binaryData"]));
    row.age();
}

fn secret(row: &mut Row<'_>) {
    row.name();
    row.text("Type", text(&row.object["type"]));
    row.text("Data", count(&row.object["data"]));
    row.age();
}

fn service_account(row: &mut Row<'_>) {
    row.name();
    row.text("Secrets", count(&row.object["secrets"]));
    row.age();
}

fn resource_quota(row: &mut Row<'_>) {
    let status = row.status();
    let mut hard: Vec<(&String, &Value)> = status["hard"].as_object().into_iter().flatten().collect();
    hard.sort_unstable_by_key(|(name, _)| name.as_str());
    let (limits, requests): (Vec<_>, Vec<_>) =
        hard.into_iter().partition(|(name, _)| name.starts_with("limits."));
    let shown = |list: Vec<(&String, &Value)>| {
        let used = |name: &str| scalar(&status["used"][name]);
        let parts = list.into_iter().map(|(name, hard)| format!("{name}: {}/{}", used(name), scalar(hard)));
        parts.collect::<Vec<_>>().join(", ")
    };
    row.name();
    row.age();
    row.text("Request", shown(requests));
    row.text("Limit", shown(limits));
}

fn role_binding(row: &mut Row<'_>) {
    let role = &row.object["roleRef"];
    let subjects = |kind: &str| {
        let found = items(&row.object["subjects"]).iter().filter(|one| one["kind"] == kind);
        let names = found.map(|one| match (kind, text(&one["namespace"])) {
            ("ServiceAccount", namespace) if !namespace.is_empty() => {
                format!("{namespace}/{}", text(&one["name"]))
            }
            (_, _) => text(&one["name"]).to_owned(),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let (users, groups, accounts) = (subjects("User"), subjects("Group"), subjects("ServiceAccount"));
    row.name();
    row.text("Role", format!("{}/{}", text(&role["kind"]), text(&role["name"])));
    row.age();
    row.wide("Users", users);
    row.wide("Groups", groups);
    row.wide("ServiceAccounts", accounts);
}

fn webhook_configuration(row: &mut Row<'_>) {
    row.name();
    row.number("Webhooks", count(&row.object["webhooks"]));
    row.age();
}

fn validating_admission_policy(row: &mut Row<'_>) {
    admission_policy(row, "Validations", "validations");
}

fn mutating_admission_policy(row: &mut Row<'_>) {
    admission_policy(row, "Mutations", "mutations");
}

fn admission_policy(row: &mut Row<'_>, column: &'static str, field: &str) {
    let spec = row.spec();
    let kind = &spec["paramKind"];
    row.name();
    row.number(column, count(&spec[field]));
    row.text(
        "ParamKind",
        match kind {
            Value::Object(_) => format!("{}/{}", text(&kind["apiVersion"]), text(&kind["kind"])),
            _ => "<unset>".to_owned(),
        },
    );
    row.age();
}

fn admission_policy_binding(row: &mut Row<'_>) {
    let spec = row.spec();
    let parameter = &spec["paramRef"];
    let shown = match (text(&parameter["namespace"]), text(&parameter["name"])) {
        (_, "") if parameter["selector"].is_object() => selector(&parameter["selector"]),
        (_, "") => "<unset>".to_owned(),
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    row.name();
    row.text("PolicyName", text(&spec["policyName"]));
    row.text("ParamRef", shown);
    row.age();
}

fn api_service(row: &mut Row<'_>) {
    let service = &row.spec()["service"];
    let available = match condition(&row.status()["conditions"], "Available") {
        None => "Unknown".to_owned(),
        Some(one) if one["status"] == "True" => "True".to_owned(),
        Some(one) => format!("{} ({})", text(&one["status"]), text(&one["reason"])),
    };
    row.name();
    row.text(
        "Service",
        match service {
            Value::Object(_) => format!("{}/{}", text(&service["namespace"]), text(&service["name"])),
            _ => "Local".to_owned(),
        },
    );
    row.text("Available", available);
    row.age();
}
