//! The roles and bindings that every cluster starts with.
//!
//! Names, rules and bindings are those of Kubernetes, since manifests bind to them by name. The
//! controllers' own roles are in [`controllers`].

use serde_json::{Map, Value, json};

use super::objects::{GROUP, RbacKind, rules_of};
use super::rules::PolicyRule;

mod controllers;
mod reconcile;
mod roles;

pub use reconcile::{Step, reconcile};

/// One rule, as words: verbs, groups (`core` for the empty one), resources, and names; or paths.
#[derive(Clone, Copy, Debug)]
struct Rule {
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    paths: &'static str,
}

const fn allow(verbs: &'static str, groups: &'static str, resources: &'static str) -> Rule {
    Rule { verbs, groups, resources, names: "", paths: "" }
}

const fn allow_named(
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
) -> Rule {
    Rule { verbs, groups, resources, names, paths: "" }
}

const fn allow_paths(verbs: &'static str, paths: &'static str) -> Rule {
    Rule { verbs, groups: "", resources: "", names: "", paths }
}

/// Leave to report events.
const EVENTS: Rule = allow("create patch update", "core events.k8s.io", "events");

/// A cluster role: plain, or made of the roles that carry `aggregate-to-<aggregates>`.
struct RoleData {
    name: &'static str,
    /// The roles that this one is a part of, as words.
    part_of: &'static str,
    /// The word in the label of this role's parts; empty for a plain role.
    aggregates: &'static str,
    rules: &'static [Rule],
}

const fn role(name: &'static str, rules: &'static [Rule]) -> RoleData {
    RoleData { name, part_of: "", aggregates: "", rules }
}

/// Whom a binding is for.
#[derive(Clone, Copy)]
enum SubjectData {
    User(&'static str),
    Group(&'static str),
    ServiceAccount { namespace: &'static str, name: &'static str },
}

/// An object to create where it is missing.
#[derive(Clone, Debug)]
pub struct BootstrapObject {
    pub kind: RbacKind,
    /// Empty for objects of the cluster.
    pub namespace: &'static str,
    pub name: String,
    /// The whole object, without what a server adds.
    pub object: Value,
}

/// Every role and binding of a new cluster: roles first.
pub fn objects() -> Vec<BootstrapObject> {
    let mut objects = Vec::new();
    objects.extend(roles::CLUSTER_ROLES.iter().map(cluster_role));
    for (name, rules) in controllers::ROLES {
        let name = format!("system:controller:{name}");
        objects.push(object(RbacKind::ClusterRole, "", &name, [("rules", rules_json(rules))]));
    }
    for (namespace, name, rules) in roles::NAMESPACE_ROLES {
        objects.push(object(RbacKind::Role, namespace, name, [("rules", rules_json(rules))]));
    }
    for (role, subjects) in roles::CLUSTER_BINDINGS {
        objects.push(binding(RbacKind::ClusterRoleBinding, "", role, ("ClusterRole", role), subjects));
    }
    for (name, _) in controllers::ROLES {
        let role = format!("system:controller:{name}");
        let account = SubjectData::ServiceAccount { namespace: "kube-system", name };
        objects.push(binding(RbacKind::ClusterRoleBinding, "", &role, ("ClusterRole", &role), &[account]));
    }
    for (namespace, name, role, subjects) in roles::NAMESPACE_BINDINGS {
        objects.push(binding(RbacKind::RoleBinding, namespace, name, ("Role", role), subjects));
    }
    objects
}

/// What every node may, apart from what depends on its pods.
pub fn node_rules() -> Vec<PolicyRule> {
    rules_of(&json!({"rules": rules_json(roles::NODE)})).expect("our own rules are valid")
}

fn words(words: &str) -> Value {
    words.split_whitespace().map(|word| if word == "core" { "" } else { word }).collect()
}

fn rules_json(rules: &[Rule]) -> Value {
    let rule = |rule: &Rule| {
        let mut json = Map::from_iter([("verbs".to_owned(), words(rule.verbs))]);
        let lists = [
            ("apiGroups", rule.groups),
            ("resources", rule.resources),
            ("resourceNames", rule.names),
            ("nonResourceURLs", rule.paths),
        ];
        json.extend(
            lists
                .into_iter()
                .filter(|(_, text)| !text.is_empty())
                .map(|(key, text)| (key.to_owned(), words(text))),
        );
        Value::Object(json)
    };
    rules.iter().map(rule).collect()
}

fn object<const N: usize>(
    kind: RbacKind,
    namespace: &'static str,
    name: &str,
    fields: [(&str, Value); N],
) -> BootstrapObject {
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": format!("{kind:?}"),
        "metadata": {
            "name": name,
            "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
            "annotations": { "rbac.authorization.kubernetes.io/autoupdate": "true" },
        },
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    for (field, value) in fields {
        object[field] = value;
    }
    BootstrapObject { kind, namespace, name: name.to_owned(), object }
}

fn cluster_role(role: &RoleData) -> BootstrapObject {
    let mut made = object(RbacKind::ClusterRole, "", role.name, [("rules", rules_json(role.rules))]);
    for owner in role.part_of.split_whitespace() {
        made.object["metadata"]["labels"][format!("{GROUP}/aggregate-to-{owner}")] = "true".into();
    }
    if !role.aggregates.is_empty() {
        let label = format!("{GROUP}/aggregate-to-{}", role.aggregates);
        let labels = Map::from_iter([(label, "true".into())]);
        made.object["aggregationRule"] = json!({ "clusterRoleSelectors": [{ "matchLabels": labels }] });
    }
    made
}

fn binding(
    kind: RbacKind,
    namespace: &'static str,
    name: &str,
    (role_kind, role): (&str, &str),
    subjects: &[SubjectData],
) -> BootstrapObject {
    let subject = |subject: &SubjectData| match subject {
        SubjectData::User(name) => json!({ "kind": "User", "apiGroup": GROUP, "name": name }),
        SubjectData::Group(name) => json!({ "kind": "Group", "apiGroup": GROUP, "name": name }),
        SubjectData::ServiceAccount { namespace, name } => {
            json!({ "kind": "ServiceAccount", "namespace": namespace, "name": name })
        }
    };
    let reference = json!({ "apiGroup": GROUP, "kind": role_kind, "name": role });
    let subjects: Value = subjects.iter().map(subject).collect();
    object(kind, namespace, name, [("roleRef", reference), ("subjects", subjects)])
}
