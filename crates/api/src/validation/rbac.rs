//! `rbac.authorization.k8s.io`.

use super::field::{At, Faults, same};
use super::selector::label_selector;
use crate::names;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn content(kind: &str, root: &At<'_, '_>, faults: &mut Faults) {
    match kind {
        "Role" => rules(root, true, faults),
        "ClusterRole" => {
            rules(root, false, faults);
            let aggregation = root.get("aggregationRule");
            let selectors = aggregation.get("clusterRoleSelectors");
            if aggregation.is_set() && selectors.is_empty() {
                let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                faults.required(&selectors, detail);
            }
            for selector in selectors.items() {
                label_selector(&selector, faults);
            }
        }
        "RoleBinding" => binding(root, true, faults),
        "ClusterRoleBinding" => binding(root, false, faults),
        _ => {}
    }
}

fn rules(root: &At<'_, '_>, namespaced: bool, faults: &mut Faults) {
    for rule in root.get("rules").items() {
        if rule.get("verbs").is_empty() {
            faults.required(&rule.get("verbs"), "verbs must contain at least one value");
        }
        let urls = rule.get("nonResourceURLs");
        let (groups, resources) = (rule.get("apiGroups"), rule.get("resources"));
        if !urls.is_empty() {
            if namespaced {
                faults.invalid(&urls, "namespaced rules cannot apply to non-resource URLs");
            }
            if !groups.is_empty() || !resources.is_empty() || !rule.get("resourceNames").is_empty() {
                faults.invalid(&urls, "rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if groups.is_empty() {
            faults.required(&groups, "resource rules must supply at least one api group");
        }
        if resources.is_empty() {
            faults.required(&resources, "resource rules must supply at least one resource");
        }
    }
}

fn binding(root: &At<'_, '_>, namespaced: bool, faults: &mut Faults) {
    let role = root.get("roleRef");
    if role.get("apiGroup").text() != GROUP {
        faults.unsupported(&role.get("apiGroup"), &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&role.get("kind").text()) {
        faults.unsupported(&role.get("kind"), kinds);
    }
    let name = role.get("name");
    if name.text().is_empty() {
        faults.required(&name, "");
    } else {
        faults.named(&name, names::path_segment(name.text()));
    }
    for subject in root.get("subjects").items() {
        self::subject(&subject, namespaced, faults);
    }
}

fn subject(subject: &At<'_, '_>, namespaced: bool, faults: &mut Faults) {
    let (kind, name, group) = (subject.get("kind"), subject.get("name"), subject.get("apiGroup"));
    if name.text().is_empty() {
        faults.required(&name, "");
    }
    match kind.text() {
        "ServiceAccount" => {
            if !name.text().is_empty() {
                faults.named(&name, names::dns1123_subdomain(name.text()));
            }
            if !group.text().is_empty() {
                faults.unsupported(&group, &[""]);
            }
            if !namespaced && subject.get("namespace").text().is_empty() {
                faults.required(&subject.get("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group.text() != GROUP {
                faults.unsupported(&group, &[GROUP]);
            }
        }
        _ => faults.unsupported(&kind, &["ServiceAccount", "User", "Group"]),
    }
}

pub(super) fn update(kind: &str, root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    if matches!(kind, "RoleBinding" | "ClusterRoleBinding") {
        let role = root.get("roleRef");
        if !same(role.value, before.get("roleRef").value) {
            faults.invalid(&role, "cannot change roleRef");
        }
    }
}
