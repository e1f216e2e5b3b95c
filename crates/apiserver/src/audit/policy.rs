//! `audit.k8s.io/v1` `Policy`: which requests are recorded, in which stages, and how much of them.
//!
//! The first rule that matches a request decides. Pure: a policy is read once and asked.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::configuration_file::{self, FileKindError};
use crate::identity::authorization::Attributes;

/// The longest policy file that is read, in bytes.
pub const MAX_POLICY: usize = 1 << 20;

/// How much of a request is recorded; each level has what those before it have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

/// How far a request is when its event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// A set of stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages(u8);

impl Stages {
    fn of(stages: &[Stage]) -> Self {
        Stages(stages.iter().fold(0, |set, stage| set | 1 << *stage as u8))
    }

    fn and(self, other: Stages) -> Self {
        Stages(self.0 | other.0)
    }

    pub fn has(self, stage: Stage) -> bool {
        self.0 & 1 << stage as u8 != 0
    }
}

/// What the policy says about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub level: Level,
    pub omitted: Stages,
    pub omit_managed_fields: bool,
}

/// A policy that was read and checked.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    omitted: Stages,
}

/// A policy that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("it is longer than {MAX_POLICY} bytes")]
    TooLong,
    #[error(transparent)]
    File(#[from] FileKindError),
    #[error("it has no rules")]
    NoRules,
    #[error("rules[{index}]: {fault}")]
    Rule { index: usize, fault: RuleFault },
}

/// What is wrong with one rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    #[error("rules cannot apply to both regular resources and non-resource URLs")]
    Both,
    #[error("nonResourceURLs: {0:?}: non-resource URL wildcard '*' must be the final character of the rule")]
    Wildcard(String),
    #[error("nonResourceURLs: {0:?}: non-resource URL rules must begin with a '/' character")]
    NoSlash(String),
    #[error("resources[{0}].resourceNames: using resourceNames requires at least one resource")]
    NamesWithoutResources(usize),
    #[error("resources[{at}].group: {group:?} is no name of a group, or one of a group and version")]
    Group { at: usize, group: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawPolicy {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(default, rename = "metadata")]
    _metadata: IgnoredAny,
    #[serde(default)]
    rules: Vec<RawRule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawRule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

#[derive(Clone, Debug)]
struct Rule {
    verdict: Verdict,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    non_resource_urls: Vec<String>,
}

impl Policy {
    /// Reads a policy in YAML or JSON.
    pub fn read(text: &[u8]) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY {
            return Err(PolicyError::TooLong);
        }
        let raw: RawPolicy = configuration_file::read(text, "Policy", &["audit.k8s.io/v1"])?;
        if raw.rules.is_empty() {
            return Err(PolicyError::NoRules);
        }
        let omitted = Stages::of(&raw.omit_stages);
        let mut rules = Vec::with_capacity(raw.rules.len());
        for (index, rule) in raw.rules.into_iter().enumerate() {
            check(&rule).map_err(|fault| PolicyError::Rule { index, fault })?;
            rules.push(Rule {
                verdict: Verdict {
                    level: rule.level,
                    omitted: omitted.and(Stages::of(&rule.omit_stages)),
                    omit_managed_fields: rule.omit_managed_fields.unwrap_or(raw.omit_managed_fields),
                },
                users: rule.users,
                user_groups: rule.user_groups,
                verbs: rule.verbs,
                resources: rule.resources,
                namespaces: rule.namespaces,
                non_resource_urls: rule.non_resource_urls,
            });
        }
        Ok(Policy { rules, omitted })
    }

    /// What is to be recorded of a request; nothing where no rule matches it.
    pub fn evaluate(&self, request: &Attributes<'_>) -> Verdict {
        match self.rules.iter().find(|rule| rule.matches(request)) {
            Some(rule) => rule.verdict,
            None => Verdict { level: Level::None, omitted: self.omitted, omit_managed_fields: false },
        }
    }
}

fn check(rule: &RawRule) -> Result<(), RuleFault> {
    let on_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
    if on_resources && !rule.non_resource_urls.is_empty() {
        return Err(RuleFault::Both);
    }
    for url in rule.non_resource_urls.iter().filter(|url| *url != "*") {
        if !url.starts_with('/') {
            return Err(RuleFault::NoSlash(url.clone()));
        }
        if url[..url.len() - 1].contains('*') {
            return Err(RuleFault::Wildcard(url.clone()));
        }
    }
    for (at, GroupResources { group, resources, resource_names }) in rule.resources.iter().enumerate() {
        if group.contains('/')
            || (!group.is_empty() && !sampan_api::names::dns1123_subdomain(group).is_empty())
        {
            return Err(RuleFault::Group { at, group: group.clone() });
        }
        if !resource_names.is_empty() && resources.is_empty() {
            return Err(RuleFault::NamesWithoutResources(at));
        }
    }
    Ok(())
}

impl Rule {
    /// An empty list says nothing.
    fn matches(&self, request: &Attributes<'_>) -> bool {
        let holds = |list: &[String], text: &str| list.is_empty() || list.iter().any(|one| one == text);
        if !holds(&self.users, &request.user.name) || !holds(&self.verbs, request.verb) {
            return false;
        }
        if !self.user_groups.is_empty() && !self.user_groups.iter().any(|group| request.user.is_in(group)) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return request.is_resource()
                && holds(&self.namespaces, request.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|one| one.holds(request)));
        }
        if !self.non_resource_urls.is_empty() {
            return !request.is_resource()
                && self.non_resource_urls.iter().any(|url| covers(url, request.path));
        }
        true
    }
}

/// Whether a path is one of a rule's, which may end in a `*`.
fn covers(url: &str, path: &str) -> bool {
    match url.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => url == path,
    }
}

impl GroupResources {
    fn holds(&self, request: &Attributes<'_>) -> bool {
        if self.group != request.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !self.resource_names.iter().any(|name| name == request.name) {
            return false;
        }
        self.resources.iter().any(|resource| {
            let (owner, subresource) = match resource.split_once('/') {
                None if resource == "*" => return true,
                None => return resource == request.resource && request.subresource.is_empty(),
                Some(both) => both,
            };
            let named = !request.subresource.is_empty() && subresource == request.subresource;
            match (owner, subresource) {
                ("*", _) => named,
                // `pods/*` is also the pod itself.
                (_, "*") => owner == request.resource,
                _ => owner == request.resource && named,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::User;

    fn policy(rules: &str) -> Policy {
        let text = format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n{rules}"
        );
        Policy::read(text.as_bytes()).expect("a policy")
    }

    /// A request as `VERB GROUP/RESOURCE[/SUBRESOURCE] NAMESPACE/NAME`, or `VERB PATH`.
    fn level(policy: &Policy, user: &User, request: &str) -> Level {
        let words: Vec<&str> = request.split(' ').collect();
        let attributes = match words.as_slice() {
            [verb, path] => Attributes::path(user, verb, path),
            [verb, what, object] => {
                let mut parts = what.split('/');
                let (namespace, name) = object.split_once('/').expect("a namespace and a name");
                Attributes {
                    user,
                    verb,
                    group: parts.next().unwrap_or_default(),
                    version: "v1",
                    resource: parts.next().unwrap_or_default(),
                    subresource: parts.next().unwrap_or_default(),
                    namespace,
                    name,
                    path: "",
                    field_selector: None,
                }
            }
            other => panic!("no request: {other:?}"),
        };
        policy.evaluate(&attributes).level
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let policy = policy(
            "- {level: None, users: [quiet]}\n\
             - {level: None, nonResourceURLs: ['/healthz*', /version]}\n\
             - {level: Metadata, resources: [{group: '', resources: [secrets, configmaps]}]}\n\
             - {level: Request, verbs: [delete], resources: [{resources: ['pods/*']}]}\n\
             - {level: RequestResponse, resources: [{group: apps, resources: ['*/scale'], resourceNames: [web]}]}\n\
             - {level: Metadata, userGroups: [ops], namespaces: [kube-system, '']}\n\
             - {level: Request, resources: [{group: batch}]}\n",
        );
        let (jane, quiet) = (User::component("jane", &["ops"]), User::component("quiet", &[]));
        let other = User::component("other", &[]);
        let check = |user: &User, request: &str, expected| {
            assert_eq!(level(&policy, user, request), expected, "{} {request}", user.name);
        };
        check(&quiet, "get /secrets a/b", Level::None);
        check(&other, "get /healthz/ping", Level::None);
        check(&other, "get /version", Level::None);
        check(&other, "get /secrets a/b", Level::Metadata);
        check(&other, "get /secrets/status a/b", Level::None);
        check(&other, "delete /pods a/b", Level::Request);
        check(&other, "delete /pods/status a/b", Level::Request);
        check(&other, "get /pods a/b", Level::None);
        check(&other, "update apps/deployments/scale a/web", Level::RequestResponse);
        check(&other, "update apps/deployments/scale a/db", Level::None);
        check(&other, "update apps/deployments a/web", Level::None);
        check(&jane, "get /pods kube-system/b", Level::Metadata);
        check(&jane, "get /nodes /n", Level::Metadata);
        check(&jane, "get /pods a/b", Level::None);
        check(&jane, "get /apis", Level::None);
        check(&other, "get batch/jobs/status a/b", Level::Request);
    }

    #[test]
    fn stages_and_managed_fields_are_left_out_where_either_says_so() {
        let policy = policy(
            "- {level: Metadata, verbs: [get], omitStages: [Panic], omitManagedFields: true}\n- {level: Metadata}\n",
        );
        let user = User::component("u", &[]);
        let verdict = |verb| policy.evaluate(&Attributes::path(&user, verb, "/"));
        let get = verdict("get");
        assert!(get.omitted.has(Stage::RequestReceived) && get.omitted.has(Stage::Panic));
        assert!(!get.omitted.has(Stage::ResponseComplete) && get.omit_managed_fields);
        let put = verdict("put");
        assert!(put.omitted.has(Stage::RequestReceived) && !put.omitted.has(Stage::Panic));
        assert!(!put.omit_managed_fields);
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let check = |text: &str, expected: &str| {
            let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{text}");
            let error = Policy::read(text.as_bytes()).expect_err("refused");
            let error = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            assert!(error.contains(expected), "{error}");
        };
        check("", "no rules");
        check("rules: [{level: Everything}]", "Everything");
        check("rules: [{level: None, user: [a]}]", "user");
        check(
            "rules: [{level: None, namespaces: [a], nonResourceURLs: [/a]}]",
            "rules[0]: rules cannot apply",
        );
        check("rules: [{level: None}, {level: None, nonResourceURLs: ['/a*b']}]", "rules[1]");
        check("rules: [{level: None, nonResourceURLs: [a]}]", "begin with");
        check("rules: [{level: None, resources: [{resourceNames: [a]}]}]", "at least one resource");
        check("rules: [{level: None, resources: [{group: apps/v1}]}]", "apps/v1");
        let error =
            Policy::read(b"apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: []").expect_err("refused");
        assert!(error.to_string().contains("v1beta1"));
    }
}
