//! Policy rules: what one allows, and whether some rules cover others.

use serde::{Deserialize, Deserializer, Serialize};

use super::Attributes;

type Names = Box<[Box<str>]>;

/// `rbac.authorization.k8s.io/v1` `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    #[serde(deserialize_with = "or_null")]
    pub verbs: Names,
    #[serde(deserialize_with = "or_null", skip_serializing_if = "is_empty")]
    pub api_groups: Names,
    #[serde(deserialize_with = "or_null", skip_serializing_if = "is_empty")]
    pub resources: Names,
    #[serde(deserialize_with = "or_null", skip_serializing_if = "is_empty")]
    pub resource_names: Names,
    #[serde(rename = "nonResourceURLs", deserialize_with = "or_null", skip_serializing_if = "is_empty")]
    pub non_resource_urls: Names,
}

fn is_empty(names: &[Box<str>]) -> bool {
    names.is_empty()
}

/// A list that may be `null`, as Go clients write empty ones.
pub(super) fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

fn holds(names: &[Box<str>], name: &str) -> bool {
    names.iter().any(|candidate| candidate.as_ref() == name)
}

fn holds_or_all(names: &[Box<str>], name: &str) -> bool {
    names.iter().any(|candidate| candidate.as_ref() == "*" || candidate.as_ref() == name)
}

/// Whether a list of resources holds `resource/subresource` (or `resource`, where that is empty).
fn holds_resource(rules: &[Box<str>], resource: &str, subresource: &str) -> bool {
    rules.iter().any(|rule| {
        if rule.as_ref() == "*" {
            return true;
        }
        match (rule.split_once('/'), subresource.is_empty()) {
            (None, true) => rule.as_ref() == resource,
            (Some((owner, sub)), false) => sub == subresource && (owner == "*" || owner == resource),
            (None, false) | (Some(_), true) => false,
        }
    })
}

fn holds_url(rules: &[Box<str>], path: &str) -> bool {
    rules.iter().any(|rule| match rule.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix.trim_end_matches('*')),
        None => rule.as_ref() == path,
    })
}

impl PolicyRule {
    /// Whether this rule allows a request.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !holds_or_all(&self.verbs, attributes.verb) {
            return false;
        }
        if !attributes.is_resource() {
            return holds_url(&self.non_resource_urls, attributes.path);
        }
        holds_or_all(&self.api_groups, attributes.group)
            && holds_resource(&self.resources, attributes.resource, attributes.subresource)
            && (self.resource_names.is_empty() || holds(&self.resource_names, attributes.name))
    }

    /// Whether everything that `other` allows, this rule allows.
    fn covers(&self, other: &PolicyRule) -> bool {
        let verbs = other.verbs.iter().all(|verb| holds_or_all(&self.verbs, verb));
        let groups = other.api_groups.iter().all(|group| holds_or_all(&self.api_groups, group));
        let resources = other.resources.iter().all(|resource| {
            let (owner, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            holds_resource(&self.resources, owner, subresource)
        });
        let names = self.resource_names.is_empty()
            || (!other.resource_names.is_empty()
                && other.resource_names.iter().all(|name| holds(&self.resource_names, name)));
        // A rule's `/a/*` is covered by `/a/*` and `/*`, which the prefix comparison gives.
        let urls = other.non_resource_urls.iter().all(|url| holds_url(&self.non_resource_urls, url));
        verbs && groups && resources && names && urls
    }

    /// Splits a rule into rules of one verb on one thing. Calls `visit` until it answers `false`.
    fn split(&self, mut visit: impl FnMut(PolicyRule) -> bool) -> bool {
        let one = |name: &str| -> Names { Box::new([name.into()]) };
        for verb in &self.verbs {
            for url in &self.non_resource_urls {
                let rule =
                    PolicyRule { verbs: one(verb), non_resource_urls: one(url), ..PolicyRule::default() };
                if !visit(rule) {
                    return false;
                }
            }
            for (group, resource) in self
                .api_groups
                .iter()
                .flat_map(|group| self.resources.iter().map(move |resource| (group, resource)))
            {
                let rule = |names| PolicyRule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    resource_names: names,
                    ..PolicyRule::default()
                };
                if self.resource_names.is_empty() && !visit(rule(Names::default())) {
                    return false;
                }
                for name in &self.resource_names {
                    if !visit(rule(one(name))) {
                        return false;
                    }
                }
            }
        }
        true
    }
}

/// More single rights than this are not looked at one by one: a role that needs it is refused.
const MAX_RIGHTS: usize = 100_000;

/// Checks that who holds `owned` may grant `granted`; the error lists single rights that are missing.
pub fn covers(owned: &[PolicyRule], granted: &[PolicyRule]) -> Result<(), Vec<PolicyRule>> {
    let mut missing = Vec::new();
    let mut looked_at = 0;
    for rule in granted {
        // The usual case, without splitting.
        if owned.iter().any(|owner| owner.covers(rule)) {
            continue;
        }
        let complete = rule.split(|right| {
            looked_at += 1;
            if !owned.iter().any(|owner| owner.covers(&right)) {
                missing.push(right);
            }
            looked_at < MAX_RIGHTS
        });
        if !complete {
            missing.push(rule.clone());
            break;
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(merge_verbs(missing)) }
}

/// Puts rights that differ only in their verb into one rule.
fn merge_verbs(rights: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut merged: std::collections::BTreeMap<PolicyRule, Vec<Box<str>>> = std::collections::BTreeMap::new();
    for mut right in rights {
        let verbs = std::mem::take(&mut right.verbs);
        let known = merged.entry(right).or_default();
        for verb in verbs {
            if !known.contains(&verb) {
                known.push(verb);
            }
        }
    }
    merged.into_iter().map(|(rule, verbs)| PolicyRule { verbs: verbs.into(), ..rule }).collect()
}

/// One rule as escalation messages show it.
pub(super) fn compact(rule: &PolicyRule) -> String {
    let lists = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let parts: Vec<String> = lists
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(label, names)| {
            let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            format!("{label}:[{}]", quoted.join(" "))
        })
        .collect();
    format!("{{{}}}", parts.join(", "))
}
