//! Which flow schema a request belongs to.

use k8s_openapi::api::flowcontrol::v1 as api;

use crate::identity::authorization::Attributes;
use crate::identity::{SERVICE_ACCOUNT_PREFIX, User, split_service_account};

const ALL: &str = "*";

/// The rules of a flow schema, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<api::PolicyRulesWithSubjects>);

impl Rules {
    pub fn new(rules: Option<Vec<api::PolicyRulesWithSubjects>>) -> Self {
        Rules(rules.unwrap_or_default())
    }

    /// Whether one of them has the user among its subjects and the request among its rules.
    pub fn match_request(&self, request: &Attributes<'_>) -> bool {
        self.0.iter().any(|rule| {
            rule.subjects.iter().any(|subject| matches_subject(request.user, subject))
                && if request.is_resource() {
                    let rules = rule.resource_rules.as_deref().unwrap_or_default();
                    rules.iter().any(|rule| matches_resource(request, rule))
                } else {
                    let rules = rule.non_resource_rules.as_deref().unwrap_or_default();
                    rules.iter().any(|rule| matches_path(request, rule))
                }
        })
    }
}

fn matches_subject(user: &User, subject: &api::Subject) -> bool {
    match subject.kind.as_str() {
        "User" => subject.user.as_ref().is_some_and(|wanted| wanted.name == ALL || wanted.name == user.name),
        "Group" => {
            subject.group.as_ref().is_some_and(|wanted| wanted.name == ALL || user.is_in(&wanted.name))
        }
        "ServiceAccount" => subject.service_account.as_ref().is_some_and(|wanted| {
            user.name.starts_with(SERVICE_ACCOUNT_PREFIX)
                && split_service_account(&user.name).is_some_and(|(namespace, name)| {
                    wanted.namespace == namespace && (wanted.name == ALL || wanted.name == name)
                })
        }),
        _ => false,
    }
}

fn contains(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == ALL || item == wanted)
}

fn matches_resource(request: &Attributes<'_>, rule: &api::ResourcePolicyRule) -> bool {
    contains(&rule.verbs, request.verb)
        && contains(&rule.api_groups, request.group)
        && rule.resources.iter().any(|item| is_resource(item, request))
        && match request.namespace {
            "" => rule.cluster_scope.unwrap_or_default(),
            namespace => contains(rule.namespaces.as_deref().unwrap_or_default(), namespace),
        }
}

/// `pods`, or `pods/log` for a subresource.
fn is_resource(item: &str, request: &Attributes<'_>) -> bool {
    if item == ALL {
        return true;
    }
    match item.split_once('/') {
        Some((resource, subresource)) => {
            resource == request.resource && subresource == request.subresource && !subresource.is_empty()
        }
        None => item == request.resource && request.subresource.is_empty(),
    }
}

fn matches_path(request: &Attributes<'_>, rule: &api::NonResourcePolicyRule) -> bool {
    contains(&rule.verbs, request.verb)
        && rule.non_resource_urls.iter().any(|url| match url.strip_suffix('*') {
            Some(prefix) => request.path.starts_with(prefix),
            None => url == request.path,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_needs_a_subject_and_a_rule() {
        let rules: Vec<api::PolicyRulesWithSubjects> = serde_json::from_value(json!([{
            "subjects": [{"kind": "User", "user": {"name": "u"}}, {"kind": "Group", "group": {"name": "g"}},
                {"kind": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": "*"}}],
            "resourceRules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"],
                "namespaces": ["a"]}, {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"], "clusterScope": true}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/livez", "/openapi/*"]}],
        }]))
        .expect("rules");
        let rules = Rules::new(Some(rules));
        let check = |user: &str, groups: &[&str], verb: &str, what: &str, expected: bool| {
            let user = User::component(user, groups);
            let request = if what.starts_with('/') {
                Attributes::path(&user, verb, what)
            } else {
                let [group, resource, subresource, namespace] =
                    what.split(':').collect::<Vec<_>>().try_into().expect("four parts");
                Attributes { group, resource, subresource, namespace, ..Attributes::path(&user, verb, "") }
            };
            assert_eq!(rules.match_request(&request), expected, "{} {verb} {what}", user.name);
        };
        check("u", &[], "get", ":pods::a", true);
        check("x", &["g"], "get", ":pods:log:a", true);
        check("x", &["h"], "get", ":pods::a", false);
        check("u", &[], "get", ":pods:status:a", false);
        check("u", &[], "watch", ":pods::a", false);
        check("u", &[], "get", ":pods::b", false);
        check("u", &[], "get", ":pods::", false);
        check("u", &[], "delete", "apps:deployments:scale:", true);
        check("u", &[], "delete", "apps:deployments::a", false);
        check("system:serviceaccount:n:any", &[], "get", "/livez", true);
        check("system:serviceaccount:m:any", &[], "get", "/livez", false);
        check("u", &[], "get", "/openapi/v2", true);
        check("u", &[], "get", "/livez/ping", false);
    }
}
