//! The four kinds of RBAC objects, reduced to what decisions need.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::rules::{PolicyRule, or_null};

/// `rbac.authorization.k8s.io`: the group of these objects and of their references.
pub const GROUP: &str = "rbac.authorization.k8s.io";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RbacKind {
    ClusterRole,
    Role,
    ClusterRoleBinding,
    RoleBinding,
}

impl RbacKind {
    pub const ALL: [RbacKind; 4] =
        [RbacKind::ClusterRole, RbacKind::Role, RbacKind::ClusterRoleBinding, RbacKind::RoleBinding];

    /// The plural in request paths.
    pub fn resource(self) -> &'static str {
        match self {
            RbacKind::ClusterRole => "clusterroles",
            RbacKind::Role => "roles",
            RbacKind::ClusterRoleBinding => "clusterrolebindings",
            RbacKind::RoleBinding => "rolebindings",
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Metadata {
    pub name: Box<str>,
    #[serde(deserialize_with = "or_null")]
    pub namespace: Box<str>,
    #[serde(deserialize_with = "or_null")]
    pub labels: BTreeMap<Box<str>, Box<str>>,
}

/// A Role or ClusterRole.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Role {
    pub metadata: Metadata,
    #[serde(default, deserialize_with = "or_null")]
    pub rules: Vec<PolicyRule>,
    #[serde(default)]
    pub aggregation_rule: Option<AggregationRule>,
}

/// A RoleBinding or ClusterRoleBinding.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Binding {
    pub metadata: Metadata,
    #[serde(default, deserialize_with = "or_null")]
    pub subjects: Vec<Subject>,
    pub role_ref: RoleRef,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RoleRef {
    pub kind: Box<str>,
    pub name: Box<str>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Subject {
    pub kind: Box<str>,
    pub name: Box<str>,
    #[serde(default, deserialize_with = "or_null")]
    pub namespace: Box<str>,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.as_ref() {
            "ServiceAccount" => write!(f, "ServiceAccount {:?}", format!("{}/{}", self.name, self.namespace)),
            kind => write!(f, "{kind} {:?}", self.name),
        }
    }
}

/// Which cluster roles make up another.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AggregationRule {
    #[serde(deserialize_with = "or_null")]
    cluster_role_selectors: Vec<LabelSelector>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LabelSelector {
    #[serde(deserialize_with = "or_null")]
    match_labels: BTreeMap<Box<str>, Box<str>>,
    #[serde(deserialize_with = "or_null")]
    match_expressions: Vec<Requirement>,
}

#[derive(Clone, Debug, Deserialize)]
struct Requirement {
    key: Box<str>,
    operator: Box<str>,
    #[serde(default, deserialize_with = "or_null")]
    values: Vec<Box<str>>,
}

impl AggregationRule {
    /// Whether a cluster role with these labels is part.
    pub fn selects(&self, labels: &BTreeMap<Box<str>, Box<str>>) -> bool {
        self.cluster_role_selectors.iter().any(|selector| selector.matches(labels))
    }
}

impl LabelSelector {
    fn matches(&self, labels: &BTreeMap<Box<str>, Box<str>>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| {
                let value = labels.get(&requirement.key);
                match requirement.operator.as_ref() {
                    "In" => value.is_some_and(|value| requirement.values.contains(value)),
                    "NotIn" => value.is_none_or(|value| !requirement.values.contains(value)),
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    // Validation lets nothing else in; what is unknown selects nothing.
                    _ => false,
                }
            })
    }
}

/// A stored object that is not what its kind says.
#[derive(Debug, thiserror::Error)]
#[error("a stored {kind:?} cannot be read")]
pub struct RbacObjectError {
    pub kind: RbacKind,
    #[source]
    pub source: serde_json::Error,
}

/// The rules of a Role or ClusterRole that a client sent, for the escalation check.
pub fn rules_of(role: &Value) -> Result<Vec<PolicyRule>, serde_json::Error> {
    match role.get("rules") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(rules) => Vec::deserialize(rules),
    }
}
