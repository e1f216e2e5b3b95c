use serde_json::json;

use super::*;

#[test]
fn roles_and_bindings() {
    check(
        "rbac.authorization.k8s.io",
        "Role",
        json!({"rules": [{"verbs": []}]}),
        &[
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
        ],
    );
    let binding = |name: &str| json!({"roleRef": {"kind": "Role", "name": name}, "subjects": [{"kind": "X", "name": "s"}]});
    let kind = "subjects[0].kind: Unsupported value: \"X\": supported values: \"ServiceAccount\", \"User\", \"Group\"";
    check("rbac.authorization.k8s.io", "RoleBinding", binding("r"), &[kind]);
    check_update(
        "rbac.authorization.k8s.io",
        "RoleBinding",
        binding("r"),
        binding("s"),
        &[
            kind,
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"s\"}: cannot change roleRef",
        ],
    );
}
