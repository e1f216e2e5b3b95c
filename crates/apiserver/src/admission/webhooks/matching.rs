//! Which webhooks a request concerns, and in which version they want to see it.

use std::sync::Arc;

use sampan_api::selector::{Selector, SelectorError};
use sampan_api::table::ResourceDef;
use sampan_api::{Gvr, Status};
use sampan_cel::conditions::Verdict;
use serde::Deserialize;
use serde_json::Value;

use super::super::{Attributes, Operation};
use super::hook::Hook;
use crate::admission::expressions::{RequestAuthorizer, Subject};
use crate::admission::namespace_lifecycle::NAMESPACES;
use crate::registry::Context;

/// `RuleWithOperations`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    operations: Vec<String>,
    api_groups: Vec<String>,
    api_versions: Vec<String>,
    resources: Vec<String>,
    scope: Option<String>,
}

/// How a webhook is shown a request.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The resource, which may be another than the request's that shares its storage.
    pub def: Arc<ResourceDef>,
}

/// Decides whether a webhook is asked. `object` is the state that is to be stored, if there is one.
pub fn invocation(
    hook: &Hook,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    context: &Context,
) -> Result<Option<Invocation>, Status> {
    // A fault in a selector counts only where the rules match.
    let in_namespace = in_namespace(&hook.namespaces, attributes, object);
    if in_namespace == Ok(false) {
        return Ok(None);
    }
    let selected = match &hook.objects {
        Ok(selector) => Ok(selects(selector, object, attributes.old)),
        Err(error) => Err(Status::internal(error)),
    };
    if selected == Ok(false) {
        return Ok(None);
    }
    let Some(def) = matching_def(&hook.rules, hook.equivalent, attributes) else { return Ok(None) };
    in_namespace?;
    selected?;
    Ok(fulfils(hook, attributes, object, &def, context)?.then_some(Invocation { def }))
}

/// Whether the conditions of a webhook hold. One that cannot be decided fails closed, unless failures
/// are to be ignored.
fn fulfils(
    hook: &Hook,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    def: &Arc<ResourceDef>,
    context: &Context,
) -> Result<bool, Status> {
    let refused = |why: &str| Status::forbidden(attributes.resource.gvr(), attributes.name, why);
    let conditions = match &hook.conditions {
        Ok(conditions) if conditions.is_empty() => return Ok(true),
        Ok(conditions) => conditions,
        Err(_) if hook.ignores_failures => return Ok(false),
        Err(error) => return Err(refused(error)),
    };
    let subject = Subject::new(attributes, object, def, context);
    let authorizer = RequestAuthorizer::new(attributes.registry, &context.user);
    match conditions.evaluate(subject.request(None, &authorizer)) {
        Verdict::Matches => Ok(true),
        Verdict::Excluded(_) => Ok(false),
        Verdict::Failed(_) if hook.ignores_failures => Ok(false),
        Verdict::Failed(errors) => Err(refused(&errors.join(", "))),
    }
}

/// The resource under which a rule matches: the request's own, or an equivalent one.
pub fn matching_def(
    rules: &[Rule],
    equivalent: bool,
    attributes: &Attributes<'_>,
) -> Option<Arc<ResourceDef>> {
    let def = &attributes.resource.def;
    let matches = |rule: &Rule, gvr: &Gvr| {
        let scoped = def.namespaced;
        rule.matches(attributes.operation, gvr, attributes.subresource, scoped)
    };
    if rules.iter().any(|rule| matches(rule, &def.gvr)) {
        return Some(def.clone());
    }
    if !equivalent {
        return None;
    }
    let storage = def.storage.as_ref()?;
    let table = attributes.registry.table();
    let same_storage = |other: &&Arc<ResourceDef>| {
        other.gvr != def.gvr
            && other.storage.as_ref().is_some_and(|one| one.prefix == storage.prefix)
            && (attributes.subresource.is_empty() || other.subresource(attributes.subresource).is_some())
    };
    let others: Vec<_> = table.entries().iter().filter(same_storage).collect();
    // Earlier rules come first.
    rules
        .iter()
        .find_map(|rule| others.iter().find(|other| matches(rule, &other.gvr)).map(|one| (*one).clone()))
}

impl Rule {
    fn matches(&self, operation: Operation, gvr: &Gvr, subresource: &str, namespaced: bool) -> bool {
        self.has_scope(namespaced)
            && has(&self.operations, operation.as_str())
            && has(&self.api_groups, &gvr.group)
            && has(&self.api_versions, &gvr.version)
            && self.resources.iter().any(|pattern| {
                let (resource, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
                (resource == "*" || resource == gvr.resource) && (sub == "*" || sub == subresource)
            })
    }

    fn has_scope(&self, namespaced: bool) -> bool {
        match self.scope.as_deref() {
            None | Some("" | "*") => true,
            Some("Namespaced") => namespaced,
            Some("Cluster") => !namespaced,
            Some(_) => false,
        }
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

/// Whether the object or its old state has labels that are selected.
pub fn selects(selector: &Selector, object: Option<&Value>, old: Option<&Value>) -> bool {
    selector.is_everything()
        || [object, old].into_iter().flatten().any(|object| selector.matches(label_of(object)))
}

fn label_of<'a>(object: &'a Value) -> impl Fn(&str) -> Option<&'a str> {
    let labels = object.pointer("/metadata/labels");
    move |key| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str)
}

/// Whether the namespace of the request, or the one that it is about, is selected.
pub fn in_namespace(
    selector: &Result<Selector, SelectorError>,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
) -> Result<bool, Status> {
    let gvr = attributes.resource.gvr();
    let is_namespace = *gvr == NAMESPACES;
    let namespace = match attributes.namespace {
        Some(namespace) if !is_namespace => namespace,
        _ if is_namespace => attributes.name,
        _ => return Ok(true),
    };
    let selector = selector.as_ref().map_err(Status::internal)?;
    if selector.is_everything() {
        return Ok(true);
    }
    // A namespace that is being written is judged by what it will be.
    let written = matches!(attributes.operation, Operation::Create | Operation::Update);
    if let (true, "", true, Some(object)) = (is_namespace, attributes.subresource, written, object) {
        return Ok(selector.matches(label_of(object)));
    }
    let found = attributes.registry.get(&NAMESPACES, None, namespace)?;
    Ok(selector.matches(|key| found.header.label(key)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_match_operations_groups_versions_resources_and_scope() {
        let check =
            |rule: Value, request: (Operation, &'static str, &'static str, &'static str), expected: bool| {
                let rule: Rule = serde_json::from_value(rule).expect("a rule");
                let (operation, version, resource, subresource) = request;
                let gvr = Gvr::new("apps", version, resource);
                assert_eq!(
                    rule.matches(operation, &gvr, subresource, true),
                    expected,
                    "{rule:?} {gvr} {subresource}"
                );
            };
        let rule = |resources: &[&str]| json!({"operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": resources});
        let create = |resource, subresource| (Operation::Create, "v1", resource, subresource);
        check(rule(&["deployments"]), create("deployments", ""), true);
        check(rule(&["deployments"]), create("deployments", "scale"), false);
        check(rule(&["deployments/scale"]), create("deployments", "scale"), true);
        check(rule(&["deployments/scale"]), create("deployments", ""), false);
        check(rule(&["deployments/*"]), create("deployments", ""), true);
        check(rule(&["*"]), create("deployments", "status"), false);
        check(rule(&["*/status"]), create("deployments", "status"), true);
        check(rule(&["*/*"]), create("deployments", "scale"), true);
        check(rule(&["*/*"]), (Operation::Delete, "v1", "deployments", ""), false);
        check(rule(&["*/*"]), (Operation::Create, "v2", "deployments", ""), false);
        let any = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
        check(any.clone(), (Operation::Connect, "v7", "x", ""), true);
        for (scope, expected) in [("Namespaced", true), ("Cluster", false), ("*", true)] {
            let mut scoped = any.clone();
            scoped["scope"] = scope.into();
            check(scoped, create("deployments", ""), expected);
        }
    }

    #[test]
    fn either_state_of_an_object_may_be_selected() {
        let selector = Selector::from_json(&json!({"matchLabels": {"a": "b"}})).expect("a selector");
        let (with, without) = (json!({"metadata": {"labels": {"a": "b"}}}), json!({"metadata": {}}));
        assert!(selects(&selector, Some(&with), None));
        assert!(selects(&selector, Some(&without), Some(&with)));
        assert!(!selects(&selector, Some(&without), Some(&without)));
        assert!(!selects(&selector, None, None));
        assert!(selects(&Selector::everything(), None, None));
    }
}
