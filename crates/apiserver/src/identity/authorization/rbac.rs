//! The index of roles by subject, and the decision.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::objects::{AggregationRule, Binding, RbacKind, RbacObjectError, Role, RoleRef, Subject};
use super::rules::PolicyRule;
use super::{Attributes, Decision};
use crate::identity::{MASTERS_GROUP, User, service_account_user_name};

/// Everything that role-based access control knows. Fed object by object; asks nobody.
///
/// Answering costs a look-up per group of the user plus the rules of the bindings that apply.
#[derive(Default)]
pub struct Rbac {
    cluster_roles: BTreeMap<Box<str>, ClusterRole>,
    roles: HashMap<ObjectKey, Arc<[PolicyRule]>>,
    bindings: BTreeMap<ObjectKey, IndexedBinding>,
    by_user: HashMap<Box<str>, BTreeSet<ObjectKey>>,
    by_group: HashMap<Box<str>, BTreeSet<ObjectKey>>,
}

/// Namespace (empty for the cluster's) and name.
type ObjectKey = (Box<str>, Box<str>);

struct ClusterRole {
    labels: BTreeMap<Box<str>, Box<str>>,
    /// As stored; replaced by the parts' where there is an aggregation rule.
    rules: Arc<[PolicyRule]>,
    aggregation: Option<AggregationRule>,
}

struct IndexedBinding {
    role: RoleRef,
    subjects: Vec<(SubjectKey, Subject)>,
}

#[derive(Clone, PartialEq, Eq)]
enum SubjectKey {
    User(Box<str>),
    Group(Box<str>),
}

impl SubjectKey {
    fn of(subject: &Subject, namespace: &str) -> Option<Self> {
        match subject.kind.as_ref() {
            "User" => Some(SubjectKey::User(subject.name.clone())),
            "Group" => Some(SubjectKey::Group(subject.name.clone())),
            "ServiceAccount" => {
                let namespace =
                    if subject.namespace.is_empty() { namespace } else { subject.namespace.as_ref() };
                let named = !namespace.is_empty();
                named.then(|| SubjectKey::User(service_account_user_name(namespace, &subject.name).into()))
            }
            _ => None,
        }
    }

    fn is(&self, user: &User) -> bool {
        match self {
            SubjectKey::User(name) => name.as_ref() == user.name,
            SubjectKey::Group(group) => user.is_in(group),
        }
    }
}

impl Rbac {
    /// Takes in a new or changed object.
    pub fn apply(&mut self, kind: RbacKind, json: &[u8]) -> Result<(), RbacObjectError> {
        let error = |source| RbacObjectError { kind, source };
        match kind {
            RbacKind::ClusterRole | RbacKind::Role => {
                self.apply_role(kind, serde_json::from_slice(json).map_err(error)?);
            }
            RbacKind::ClusterRoleBinding | RbacKind::RoleBinding => {
                self.apply_binding(serde_json::from_slice(json).map_err(error)?);
            }
        }
        Ok(())
    }

    fn apply_role(&mut self, kind: RbacKind, role: Role) {
        let Role { metadata, rules, aggregation_rule } = role;
        if kind == RbacKind::Role {
            self.roles.insert((metadata.namespace, metadata.name), rules.into());
            return;
        }
        let role =
            ClusterRole { labels: metadata.labels, rules: rules.into(), aggregation: aggregation_rule };
        self.cluster_roles.insert(metadata.name, role);
        self.aggregate();
    }

    fn apply_binding(&mut self, binding: Binding) {
        let Binding { metadata, subjects, role_ref } = binding;
        let key = (metadata.namespace, metadata.name);
        self.forget_binding(&key);
        let namespace = key.0.clone();
        let subjects: Vec<_> = subjects
            .into_iter()
            .filter_map(|subject| Some((SubjectKey::of(&subject, &namespace)?, subject)))
            .collect();
        for (subject, _) in &subjects {
            let index = match subject {
                SubjectKey::User(name) => self.by_user.entry(name.clone()),
                SubjectKey::Group(name) => self.by_group.entry(name.clone()),
            };
            index.or_default().insert(key.clone());
        }
        self.bindings.insert(key, IndexedBinding { role: role_ref, subjects });
    }

    /// Takes out a deleted object. `namespace` is empty for objects of the cluster.
    pub fn remove(&mut self, kind: RbacKind, namespace: &str, name: &str) {
        let key = (namespace.into(), name.into());
        match kind {
            RbacKind::ClusterRole => {
                self.cluster_roles.remove(name);
                self.aggregate();
            }
            RbacKind::Role => {
                self.roles.remove(&key);
            }
            RbacKind::ClusterRoleBinding | RbacKind::RoleBinding => self.forget_binding(&key),
        }
    }

    fn forget_binding(&mut self, key: &ObjectKey) {
        let Some(binding) = self.bindings.remove(key) else { return };
        for (subject, _) in &binding.subjects {
            let (index, name) = match subject {
                SubjectKey::User(name) => (&mut self.by_user, name),
                SubjectKey::Group(name) => (&mut self.by_group, name),
            };
            if let Some(keys) = index.get_mut(name) {
                keys.remove(key);
                if keys.is_empty() {
                    index.remove(name);
                }
            }
        }
    }

    /// Gives every aggregating cluster role the rules of its parts.
    fn aggregate(&mut self) {
        let aggregating: Vec<Box<str>> = self
            .cluster_roles
            .iter()
            .filter(|(_, role)| role.aggregation.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in aggregating {
            let rules = self.aggregated(&name).into();
            if let Some(role) = self.cluster_roles.get_mut(&name) {
                role.rules = rules;
            }
        }
    }

    /// The rules of an aggregating role: those of the plain roles that it selects, also through other
    /// aggregating roles, in the order of names and each once. Cycles end.
    fn aggregated(&self, name: &str) -> Vec<PolicyRule> {
        let mut rules = Vec::new();
        let mut seen_rules = BTreeSet::new();
        let mut seen_roles = BTreeSet::from([name]);
        let mut open: Vec<&AggregationRule> =
            self.cluster_roles.get(name).and_then(|role| role.aggregation.as_ref()).into_iter().collect();
        while let Some(selection) = open.pop() {
            for (name, role) in self.cluster_roles.iter().filter(|(_, role)| selection.selects(&role.labels))
            {
                if !seen_roles.insert(name.as_ref()) {
                    continue;
                }
                match &role.aggregation {
                    Some(nested) => open.push(nested),
                    None => rules.extend(role.rules.iter().filter(|rule| seen_rules.insert(*rule)).cloned()),
                }
            }
        }
        rules
    }

    /// The rules that a cluster role has now: what an aggregating one must be stored with.
    pub fn cluster_role_rules(&self, name: &str) -> Option<Arc<[PolicyRule]>> {
        self.cluster_roles.get(name).map(|role| role.rules.clone())
    }

    /// The names of cluster roles whose rules are computed from others'.
    pub fn aggregating_cluster_roles(&self) -> impl Iterator<Item = &str> {
        self.cluster_roles
            .iter()
            .filter(|(_, role)| role.aggregation.is_some())
            .map(|(name, _)| name.as_ref())
    }

    /// The rules that a `roleRef` means, seen from a binding in `namespace`.
    pub fn role_rules(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<[PolicyRule]>> {
        match kind {
            "ClusterRole" => self.cluster_role_rules(name),
            "Role" => self.roles.get(&(namespace.into(), name.into())).cloned(),
            _ => None,
        }
    }

    /// Bindings that apply to a user: those of the cluster, then those of one namespace.
    fn bindings_of(&self, user: &User, namespace: &str) -> Vec<&ObjectKey> {
        let groups = user.groups.iter().filter_map(|group| self.by_group.get(group.as_str()));
        let all = self.by_user.get(user.name.as_str()).into_iter().chain(groups);
        let mut keys: Vec<&ObjectKey> =
            all.flatten().filter(|key| key.0.is_empty() || key.0.as_ref() == namespace).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Whether a request is allowed, without saying why: what components of this process are asked for
    /// everything that they do. A user's own bindings are looked at first.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        let user = attributes.user;
        if user.is_in(MASTERS_GROUP) {
            return true;
        }
        let groups = user.groups.iter().filter_map(|group| self.by_group.get(group.as_str()));
        let all = self.by_user.get(user.name.as_str()).into_iter().chain(groups).flatten();
        let mut here = all.filter(|key| key.0.is_empty() || key.0.as_ref() == attributes.namespace);
        here.any(|key| {
            let binding = self.bindings.get(key);
            let rules =
                binding.and_then(|binding| self.role_rules(&binding.role.kind, &key.0, &binding.role.name));
            rules.is_some_and(|rules| rules.iter().any(|rule| rule.allows(attributes)))
        })
    }

    /// Decides a request.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let user = attributes.user;
        if user.is_in(MASTERS_GROUP) {
            return Decision::Allow { reason: String::new() };
        }
        let mut faults = Vec::new();
        for key in self.bindings_of(user, attributes.namespace) {
            let Some(binding) = self.bindings.get(key) else { continue };
            match self.role_rules(&binding.role.kind, &key.0, &binding.role.name) {
                Some(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    return Decision::Allow { reason: describe(key, binding, user) };
                }
                Some(_) => {}
                None => faults.push(format!(
                    "{}.rbac.authorization.k8s.io {:?} not found",
                    binding.role.kind.to_ascii_lowercase(),
                    binding.role.name
                )),
            }
        }
        let reason = match faults.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        };
        Decision::Deny { reason }
    }

    /// Every rule that applies to a user in a namespace, each once.
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        let mut rules = Vec::new();
        if user.is_in(MASTERS_GROUP) {
            rules.extend(everything());
        }
        let mut known: BTreeSet<PolicyRule> = rules.iter().cloned().collect();
        for key in self.bindings_of(user, namespace) {
            let Some(binding) = self.bindings.get(key) else { continue };
            if let Some(found) = self.role_rules(&binding.role.kind, &key.0, &binding.role.name) {
                rules.extend(found.iter().filter(|rule| known.insert((*rule).clone())).cloned());
            }
        }
        rules
    }

    /// The status of a `SelfSubjectRulesReview`.
    pub fn rules_review(&self, user: &User, namespace: &str) -> Value {
        let rules = self.rules_for(user, namespace);
        let resources: Vec<Value> = rules
            .iter()
            .filter(|rule| !rule.resources.is_empty())
            .map(|rule| {
                let rule = PolicyRule { non_resource_urls: Box::default(), ..rule.clone() };
                serde_json::to_value(rule).unwrap_or_default()
            })
            .collect();
        let paths: Vec<Value> = rules
            .iter()
            .filter(|rule| !rule.non_resource_urls.is_empty())
            .map(|rule| json!({ "verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls }))
            .collect();
        json!({ "resourceRules": resources, "nonResourceRules": paths, "incomplete": false })
    }
}

/// What `system:masters` may, and the role `cluster-admin`.
pub fn everything() -> [PolicyRule; 2] {
    let all = || -> Box<[Box<str>]> { Box::new(["*".into()]) };
    [
        PolicyRule { verbs: all(), api_groups: all(), resources: all(), ..PolicyRule::default() },
        PolicyRule { verbs: all(), non_resource_urls: all(), ..PolicyRule::default() },
    ]
}

fn describe(key: &ObjectKey, binding: &IndexedBinding, user: &User) -> String {
    let (namespace, name) = key;
    let (kind, name) = if namespace.is_empty() {
        ("ClusterRoleBinding", name.to_string())
    } else {
        ("RoleBinding", format!("{name}/{namespace}"))
    };
    let subject = binding.subjects.iter().find(|(key, _)| key.is(user));
    let subject = subject.map(|(_, subject)| subject.to_string()).unwrap_or_default();
    format!("RBAC: allowed by {kind} {name:?} of {} {:?} to {subject}", binding.role.kind, binding.role.name)
}
