use serde_json::{Value, json};

use super::bootstrap;
use super::*;

fn bootstrapped() -> Rbac {
    let mut rbac = Rbac::default();
    for object in bootstrap::objects() {
        apply(&mut rbac, object.kind, &object.object);
    }
    rbac
}

fn apply(rbac: &mut Rbac, kind: RbacKind, object: &Value) {
    rbac.apply(kind, object.to_string().as_bytes()).expect("a valid object");
}

/// `verb group/resource[/sub] namespace name`, with `-` for what is empty; or `verb /path`.
fn allowed(rbac: &Rbac, user: &User, request: &str) -> bool {
    let words: Vec<&str> = request.split(' ').map(|word| if word == "-" { "" } else { word }).collect();
    let attributes = match words.as_slice() {
        [verb, path] => Attributes::path(user, verb, path),
        [verb, resource, namespace, name] => {
            let (group, resource) = resource.split_once(':').expect("a group");
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let path = Attributes::path(user, verb, "");
            Attributes { group, version: "v1", resource, subresource, namespace, name, ..path }
        }
        _ => panic!("{request}"),
    };
    let allowed = rbac.authorize(&attributes).is_allowed();
    assert_eq!(rbac.allows(&attributes), allowed, "{request}");
    allowed
}

fn check(rbac: &Rbac, user: &User, may: &[&str], may_not: &[&str]) {
    for request in may {
        assert!(allowed(rbac, user, request), "{} may {request}", user.name);
    }
    for request in may_not {
        assert!(!allowed(rbac, user, request), "{} may not {request}", user.name);
    }
}

#[test]
fn bootstrap_roles_give_what_kubernetes_gives() {
    let rbac = bootstrapped();
    let admin = User::component("a", &["system:masters"]);
    check(&rbac, &admin, &["delete :nodes - x", "get /anything", "frob x.y:z a b"], &[]);
    let somebody = User::component("jane", &[]);
    check(
        &rbac,
        &somebody,
        &[
            "get /apis",
            "get /apis/apps/v1",
            "get /version",
            "create authorization.k8s.io:selfsubjectaccessreviews - -",
        ],
        &["get /metrics", "list :pods a -", "get :secrets a b", "post /apis"],
    );
    check(&rbac, &User::anonymous(), &["get /version", "get /readyz"], &["get /apis", "list :pods a -"]);
    let scheduler = User::component("system:kube-scheduler", &[]);
    check(
        &rbac,
        &scheduler,
        &[
            "create :pods/binding a b",
            "update coordination.k8s.io:leases k kube-scheduler",
            "list :nodes - -",
        ],
        &["update coordination.k8s.io:leases k other", "create :pods a -", "get :secrets a b"],
    );
    let account = User::service_account("kube-system", "deployment-controller", "u");
    check(&rbac, &account, &["create apps:replicasets a -"], &["create :pods a -"]);
    let other = User::service_account("default", "deployment-controller", "u");
    check(&rbac, &other, &[], &["create apps:replicasets a -"]);
    let autoscaler = User::service_account("kube-system", "horizontal-pod-autoscaler", "u");
    check(&rbac, &autoscaler, &["update apps:deployments/scale a b"], &["update apps:deployments a b"]);
}

fn role_binding(role_kind: &str, role: &str, subject: Value) -> Value {
    json!({ "metadata": { "name": "b", "namespace": "shop" }, "subjects": [subject],
        "roleRef": { "kind": role_kind, "name": role, "apiGroup": GROUP } })
}

#[test]
fn aggregated_roles_hold_their_parts() {
    let mut rbac = bootstrapped();
    let jane = User::component("jane", &[]);
    let bind = |role| role_binding("ClusterRole", role, json!({ "kind": "User", "name": "jane" }));
    apply(&mut rbac, RbacKind::RoleBinding, &bind("view"));
    let crd = ["get acme.io:rockets shop x"];
    check(
        &rbac,
        &jane,
        &["list :pods shop -", "get :pods/log shop x"],
        &["create :pods shop -", "list :pods a -"],
    );
    check(&rbac, &jane, &[], &["get :secrets shop x"]);
    check(&rbac, &jane, &[], &crd);
    apply(
        &mut rbac,
        RbacKind::ClusterRole,
        &json!({ "metadata": { "name": "rockets", "labels": { "rbac.authorization.k8s.io/aggregate-to-view": "true" } },
            "rules": [{ "verbs": ["get"], "apiGroups": ["acme.io"], "resources": ["rockets"] }] }),
    );
    check(&rbac, &jane, &crd, &[]);
    apply(&mut rbac, RbacKind::RoleBinding, &bind("admin"));
    check(&rbac, &jane, &crd, &[]);
    check(
        &rbac,
        &jane,
        &["create :pods/exec shop x", "create rbac.authorization.k8s.io:roles shop -", "get :pods shop x"],
        &["create rbac.authorization.k8s.io:clusterroles - -"],
    );
    rbac.remove(RbacKind::ClusterRole, "", "rockets");
    check(&rbac, &jane, &[], &crd);
    rbac.remove(RbacKind::RoleBinding, "shop", "b");
    check(&rbac, &jane, &[], &["get :pods shop x"]);
}

#[test]
fn bindings_follow_changes() {
    let mut rbac = Rbac::default();
    let role = |verb: &str| {
        json!({ "metadata": { "name": "r", "namespace": "shop" }, "rules": [
            { "verbs": [verb], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["one"] },
            { "verbs": null, "apiGroups": null, "resources": null }] })
    };
    apply(&mut rbac, RbacKind::Role, &role("get"));
    let subject = json!({ "kind": "ServiceAccount", "name": "s" });
    apply(&mut rbac, RbacKind::RoleBinding, &role_binding("Role", "r", subject));
    let account = User::service_account("shop", "s", "u");
    check(
        &rbac,
        &account,
        &["get :pods shop one"],
        &["get :pods shop two", "list :pods shop -", "get :pods a one"],
    );
    apply(&mut rbac, RbacKind::Role, &role("watch"));
    check(&rbac, &account, &["watch :pods shop one"], &["get :pods shop one"]);
    let group = json!({ "kind": "Group", "name": "g" });
    apply(&mut rbac, RbacKind::RoleBinding, &role_binding("Role", "r", group));
    check(&rbac, &account, &[], &["watch :pods shop one"]);
    let member = User::component("m", &["g"]);
    let request = Attributes {
        resource: "pods",
        verb: "watch",
        namespace: "shop",
        name: "one",
        ..Attributes::path(&member, "", "")
    };
    let reason = r#"RBAC: allowed by RoleBinding "b/shop" of Role "r" to Group "g""#;
    assert_eq!(rbac.authorize(&request), Decision::Allow { reason: reason.to_owned() });
    rbac.remove(RbacKind::Role, "shop", "r");
    let reason = r#"RBAC: role.rbac.authorization.k8s.io "r" not found"#;
    assert_eq!(rbac.authorize(&request), Decision::Deny { reason: reason.to_owned() });
}

#[test]
fn denials_read_as_in_kubernetes() {
    let user = User::component("x", &[]);
    let path = Attributes::path(&user, "get", "/metrics");
    assert_eq!(path.forbidden("").message, r#"forbidden: User "x" cannot get path "/metrics""#);
    let list = Attributes { verb: "list", resource: "pods", namespace: "y", version: "v1", ..path };
    assert_eq!(
        list.forbidden("").message,
        r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "y""#
    );
    let scale = Attributes {
        resource: "deployments",
        subresource: "scale",
        group: "apps",
        name: "d",
        namespace: "",
        ..list
    };
    assert_eq!(
        scale.forbidden("RBAC: <x>").message,
        "deployments.apps \"d\" is forbidden: User \"x\" cannot list resource \"deployments/scale\" \
         in API group \"apps\" at the cluster scope: RBAC: <x>"
    );
    let odd = User::component("<b>", &[]);
    let odd = Attributes { user: &odd, ..list };
    assert!(odd.forbidden("").message.contains("&lt;b&gt;"));
}

fn rules(json: Value) -> Vec<PolicyRule> {
    rules_of(&json!({ "rules": json })).expect("valid rules")
}

#[test]
fn nobody_grants_what_they_lack() {
    let rule = |verbs: &[&str], resources: &[&str], names: &[&str]| json!({ "verbs": verbs, "apiGroups": [""], "resources": resources, "resourceNames": names });
    let owned = rules(json!([
        rule(&["get", "list"], &["pods", "*/scale"], &[]),
        rule(&["update"], &["configmaps"], &["a", "b"]),
        { "verbs": ["get"], "nonResourceURLs": ["/healthz/*"] },
    ]));
    let fine = [
        rule(&["get"], &["pods"], &[]),
        rule(&["list"], &["pods"], &["one"]),
        rule(&["get"], &["deployments/scale"], &[]),
        rule(&["update"], &["configmaps"], &["b"]),
        json!({ "verbs": ["get"], "nonResourceURLs": ["/healthz/ping", "/healthz/*"] }),
        rule(&[], &["secrets"], &[]),
    ];
    for granted in fine {
        assert!(covers(&owned, &rules(json!([granted]))).is_ok(), "{granted}");
    }
    let more = [
        rule(&["get", "watch"], &["pods"], &[]),
        rule(&["get"], &["*"], &[]),
        rule(&["*"], &["pods"], &[]),
        rule(&["update"], &["configmaps"], &[]),
        rule(&["update"], &["configmaps"], &["b", "c"]),
        json!({ "verbs": ["get"], "nonResourceURLs": ["/*"] }),
    ];
    for granted in more {
        assert!(covers(&owned, &rules(json!([granted]))).is_err(), "{granted}");
    }
    let missing =
        covers(&owned, &rules(json!([rule(&["get", "watch", "patch"], &["pods"], &[])]))).expect_err("more");
    let user = User::component("x", &["g"]);
    assert_eq!(
        escalation_message(&user, &missing),
        "user \"x\" (groups=[\"g\" \"system:authenticated\"]) is attempting to grant RBAC permissions not \
         currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"watch\" \"patch\"]}"
    );
    let many: Vec<String> = (0..1000).map(|number| format!("r{number}")).collect();
    let wide = json!([{ "verbs": many, "apiGroups": many, "resources": many }]);
    assert!(covers(&owned, &rules(wide)).is_err(), "bounded, and refused");
}

#[test]
fn reviews_list_the_rules_of_a_user() {
    let rbac = bootstrapped();
    let review = rbac.rules_review(&User::component("jane", &[]), "default");
    assert_eq!(review["incomplete"], false);
    assert_eq!(
        review["resourceRules"][0],
        json!({ "verbs": ["create"], "apiGroups": ["authorization.k8s.io"],
            "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"] })
    );
    let paths = review["nonResourceRules"].as_array().expect("rules");
    assert!(paths.iter().any(|rule| rule["nonResourceURLs"][0] == "/livez"));
    let masters = rbac.rules_review(&User::component("a", &["system:masters"]), "default");
    assert_eq!(masters["resourceRules"][0]["apiGroups"], json!(["*"]));
}
