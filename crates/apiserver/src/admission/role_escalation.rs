//! Nobody grants what they do not hold: writes of roles and bindings, as in upstream's policy-based storage of
//! RBAC objects.
//!
//! A role may only have rules that its author holds in its place, unless the author has the verb `escalate` on
//! it; a binding only a role whose rules its author holds, unless the author has the verb `bind` on that role.

use sampan_api::{Gvr, Status};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::identity::authorization::{self, GROUP, PolicyRule, covers, escalation_message, rules_of};
use crate::identity::{MASTERS_GROUP, User};
use crate::registry::Context;

pub fn validate(attributes: &Attributes<'_>, object: &Value, context: &Context) -> Result<(), Status> {
    let gvr = attributes.resource.gvr();
    let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
    if gvr.group != GROUP || !attributes.subresource.is_empty() || !writes {
        return Ok(());
    }
    // The garbage collector must be able to let go of what it does not hold.
    if context.user.is_in(MASTERS_GROUP) || attributes.old.is_some_and(|old| lets_go_only(old, object)) {
        return Ok(());
    }
    match gvr.resource.as_ref() {
        "roles" | "clusterroles" => role(attributes, object, context),
        "rolebindings" | "clusterrolebindings" => binding(attributes, object, context),
        _ => Ok(()),
    }
}

fn role(attributes: &Attributes<'_>, role: &Value, context: &Context) -> Result<(), Status> {
    let gvr = attributes.resource.gvr();
    if may(attributes, context, "escalate", &gvr.resource, attributes.name) {
        return Ok(());
    }
    let refused = |why: String| Status::forbidden(gvr, attributes.name, why);
    let rules = rules_of(role).map_err(Status::internal)?;
    confirm(attributes, context, &rules).map_err(refused)?;
    let aggregates = |role: &Value| !role["aggregationRule"].is_null();
    if aggregates(role) || attributes.old.is_some_and(aggregates) {
        let why = "must have cluster-admin privileges to use the aggregationRule";
        confirm(attributes, context, &authorization::everything()).map_err(|_| refused(why.to_owned()))?;
    }
    Ok(())
}

fn binding(attributes: &Attributes<'_>, binding: &Value, context: &Context) -> Result<(), Status> {
    let text = |field: &str| binding["roleRef"][field].as_str().unwrap_or_default();
    let (kind, name) = (text("kind"), text("name"));
    let roles = if kind == "ClusterRole" { "clusterroles" } else { "roles" };
    if may(attributes, context, "bind", roles, name) {
        return Ok(());
    }
    let namespace = attributes.namespace.unwrap_or_default();
    let Some(rules) = attributes.registry.role_rules(kind, namespace, name) else {
        return Err(Status::not_found(&Gvr::new(GROUP, "v1", roles), name));
    };
    let gvr = attributes.resource.gvr();
    confirm(attributes, context, &rules).map_err(|why| Status::forbidden(gvr, attributes.name, why))
}

/// Whether the author holds all of the rules, in the namespace of what is written.
fn confirm(attributes: &Attributes<'_>, context: &Context, rules: &[PolicyRule]) -> Result<(), String> {
    let user: &User = &context.user;
    let held = attributes.registry.rules_for(user, attributes.namespace.unwrap_or_default());
    covers(&held, rules).map_err(|missing| escalation_message(user, &missing))
}

/// Whether the author has a verb on a role.
fn may(attributes: &Attributes<'_>, context: &Context, verb: &str, roles: &str, name: &str) -> bool {
    let namespace = attributes.namespace.unwrap_or_default();
    attributes.registry.allows(&authorization::Attributes {
        user: &context.user,
        verb,
        group: GROUP,
        version: "*",
        resource: roles,
        subresource: "",
        namespace,
        name,
        path: "",
        field_selector: None,
    })
}

/// Whether an update changes nothing but what the garbage collector changes: finalizers and owners.
fn lets_go_only(old: &Value, new: &Value) -> bool {
    let without = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in ["finalizers", "ownerReferences", "managedFields", "resourceVersion"] {
                metadata.remove(field);
            }
        }
        object
    };
    without(old) == without(new)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{TestServer, bytes_of, request};

    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

    async fn write(
        server: &TestServer,
        user: &str,
        method: &str,
        path: &str,
        body: serde_json::Value,
    ) -> (u16, String) {
        let headers = [
            ("content-type", "application/json"),
            ("impersonate-user", user),
            ("impersonate-group", "system:authenticated"),
        ];
        let response =
            server.send(request(method, &format!("{RBAC}{path}"), &headers, body.to_string())).await;
        let code = response.status().as_u16();
        let status: serde_json::Value = serde_json::from_slice(&bytes_of(response).await).expect("JSON");
        (code, status["message"].as_str().unwrap_or_default().to_owned())
    }

    /// `mallory` is admin of the namespace `n`; `binder` may bind one role, `escalator` may escalate one.
    async fn server() -> TestServer {
        let server = TestServer::start().await;
        let address = "10.0.0.1:6443".parse().expect("an address");
        crate::bootstrap::ensure(&server.server.registry, address).await.expect("the first objects");
        server.create("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await;
        let role = |name: &str, verb: &str| {
            json!({"metadata": {"name": name}, "rules": [
                {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings", "clusterroles", "clusterrolebindings"], "verbs": ["create", "update", "get"]},
                {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles", "roles"], "verbs": [verb], "resourceNames": ["wide"]}]})
        };
        server.create(&format!("{RBAC}/clusterroles"), &role("binder", "bind")).await;
        server.create(&format!("{RBAC}/clusterroles"), &role("escalator", "escalate")).await;
        let wide = json!({"metadata": {"name": "wide"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
        server.create(&format!("{RBAC}/clusterroles"), &wide).await;
        let bind = |user: &str, role: &str| json!({"metadata": {"name": user}, "roleRef": reference(role), "subjects": subject(user)});
        server.create(&format!("{RBAC}/namespaces/n/rolebindings"), &bind("mallory", "admin")).await;
        server.create(&format!("{RBAC}/clusterrolebindings"), &bind("binder", "binder")).await;
        server.create(&format!("{RBAC}/clusterrolebindings"), &bind("escalator", "escalator")).await;
        server.restart().await
    }

    fn reference(role: &str) -> serde_json::Value {
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role})
    }

    fn subject(user: &str) -> serde_json::Value {
        json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}])
    }

    #[tokio::test]
    async fn nobody_binds_what_they_do_not_hold() {
        let server = server().await;
        let binding = |name: &str, role: &str| json!({"metadata": {"name": name}, "roleRef": reference(role), "subjects": subject("mallory")});
        let check = async |user: &str, name: &str, role: &str, code: u16, expected: &str| {
            let (found, message) =
                write(&server, user, "POST", "/namespaces/n/rolebindings", binding(name, role)).await;
            assert_eq!(found, code, "{user} {role}: {message}");
            assert!(message.contains(expected), "{message}");
        };
        check("mallory", "a", "view", 201, "").await;
        check("mallory", "b", "admin", 201, "").await;
        let granting = "rolebindings.rbac.authorization.k8s.io \"c\" is forbidden: user \"mallory\" (groups=[\"system:authenticated\"]) \
            is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}";
        check("mallory", "c", "cluster-admin", 403, granting).await;
        check("mallory", "d", "none", 404, "clusterroles.rbac.authorization.k8s.io \"none\" not found").await;
        check("binder", "e", "wide", 201, "").await;
        check("binder", "f", "cluster-admin", 403, "not currently held").await;
    }

    #[tokio::test]
    async fn nobody_writes_roles_beyond_their_own() {
        let server = server().await;
        let role = |name: &str, verbs: &[&str], resource: &str| json!({"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": [resource], "verbs": verbs}]});
        let check = async |user: &str, method: &str, path: &str, body: serde_json::Value, code: u16| {
            let (found, message) = write(&server, user, method, path, body).await;
            assert_eq!(found, code, "{user} {method} {path}: {message}");
        };
        check("mallory", "POST", "/namespaces/n/roles", role("a", &["get"], "pods"), 201).await;
        check("mallory", "POST", "/namespaces/n/roles", role("b", &["get"], "nodes"), 403).await;
        check("mallory", "PUT", "/namespaces/n/roles/a", role("a", &["get", "list"], "pods"), 200).await;
        check("mallory", "PUT", "/namespaces/n/roles/a", role("a", &["*"], "pods"), 403).await;
        check("escalator", "PUT", "/clusterroles/wide", role("wide", &["*"], "nodes"), 200).await;
        check("escalator", "POST", "/clusterroles", role("other", &["*"], "nodes"), 403).await;
        // What gathers rules by itself is for those who hold everything.
        let aggregating = json!({"metadata": {"name": "x"}, "rules": [], "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
        let (code, message) = write(&server, "binder", "POST", "/clusterroles", aggregating).await;
        assert_eq!(code, 403, "{message}");
        assert!(
            message.ends_with("must have cluster-admin privileges to use the aggregationRule"),
            "{message}"
        );
    }
}
