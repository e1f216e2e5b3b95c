//! Commands about who may do what: roles, bindings, certificates.

use sampan_testkit::Cluster;

/// A certificate request of the user jane in the group dev, as PEM in base64.
const REQUEST: &str = "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlIWU1IOENBUUF3SFRFTk1Bc0dBMVVFQXd3RWFtRnVaVEVNTUFvR0ExVUVDZ3dEWkdWMk1Ga3dFd1lIS29aSQp6ajBDQVFZSUtvWkl6ajBEQVFjRFFnQUVSVjFrL0dMMHgwSzNrY2xWT3VrUVRuSG82Vjd4SnlBYitkVlJjOUFLCmc4RkY2Vzk3K1ZZV0ZUeUREUGx0Q284Zk9qSmdIYytwSjNuYWk0MzBMZ0puQmFBQU1Bb0dDQ3FHU000OUJBTUMKQTBrQU1FWUNJUURXNDloeW9IYXI3a3lEYjJZVnBaYXhlSHAyL2RzVHlXSFpiWWduN3pQZ1BnSWhBUFZQRDNrUwo2ZzFqTFEyQTBXM0tKWE5TOFllVTZXUzBsUTFKdk5DSTEwaVIKLS0tLS1FTkQgQ0VSVElGSUNBVEUgUkVRVUVTVC0tLS0tCg==";

pub fn reconcile(cluster: &mut Cluster) {
    let namespace = cluster.namespace("reconcile");
    let role = |verbs: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: reader, namespace: reconcile}}\n\
             rules: [{{apiGroups: [''], resources: [pods], verbs: [{verbs}]}}]\n"
        )
    };
    let reconcile = |verbs: &str| {
        namespace
            .kubectl_stdin(&["auth", "reconcile", "-f", "-"], &role(verbs))
            .ok()
            .has(&["role.rbac.authorization.k8s.io/reader reconciled"])
    };
    reconcile("get").says(&["reconciliation required create"]);
    reconcile("get, list").says(&["reconciliation required update", "missing rules added:", "Verbs:[list]"]);
    // What a role may do is added to, and taken away only when asked.
    reconcile("list");
    assert_eq!(namespace.get("role/reader", ".rules[*].verbs"), r#"["get"] ["list"]"#);
}

pub fn can_i_list(cluster: &mut Cluster) {
    let namespace = cluster.namespace("can-i-list");
    cluster
        .kubectl(&["auth", "can-i", "--list"])
        .ok()
        .matches(r"^Resources +Non-Resource URLs +Resource Names +Verbs$")
        .matches(r"^\*\.\* +\[\] +\[\] +\[\*\]$");
    // The administrator's group and its role give the same, which is told once.
    let text = cluster.kubectl(&["auth", "can-i", "--list"]).ok().text();
    let rows = text.lines().filter(|line| line.trim_start().starts_with("[*]"));
    assert_eq!(rows.count(), 1, "{text}");
    namespace.kubectl(&["create", "serviceaccount", "bot"]).ok();
    let bind = ["create", "rolebinding", "bot", "--clusterrole=view", "--serviceaccount=can-i-list:bot"];
    namespace.kubectl(&bind).ok();
    namespace
        .kubectl(&["auth", "can-i", "--list", "--as=system:serviceaccount:can-i-list:bot"])
        .ok()
        .matches(r"^configmaps +\[\] +\[\] +\[get list watch\]$")
        .lacks(&["secrets"]);
    // Whom a binding names is changed by a command of its own.
    namespace
        .kubectl(&["set", "subject", "rolebinding", "bot", "--user=jane", "--group=dev"])
        .ok()
        .is("rolebinding.rbac.authorization.k8s.io/bot subjects updated");
    namespace
        .kubectl(&["get", "rolebinding", "bot", "-o", "wide"])
        .ok()
        .matches(r"^bot +ClusterRole/view +\S+ +jane +dev +can-i-list/bot$");
}

pub fn certificate(cluster: &mut Cluster) {
    let request = |name: &str| {
        format!(
            "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\n\
             spec: {{signerName: example.com/signer, usages: [client auth], username: root, request: {REQUEST}}}\n"
        )
    };
    let create = |name: &str, more: &[&str]| {
        cluster.kubectl_stdin(&[&["create", "-f", "-"], more].concat(), &request(name)).ok()
    };
    create("jane", &[]).is("certificatesigningrequest.certificates.k8s.io/jane created");
    // Who asks is who was authenticated, whatever the request says.
    cluster
        .kubectl(&["create", "clusterrolebinding", "bot", "--clusterrole=cluster-admin", "--user=bot"])
        .ok();
    create("bots", &["--as=bot"]);
    let columns = r"^NAME +AGE +SIGNERNAME +REQUESTOR +REQUESTEDDURATION +CONDITION$";
    cluster
        .kubectl(&["get", "csr"])
        .ok()
        .matches(columns)
        .matches(r"^bots +\S+ +example.com/signer +bot +<none> +Pending$")
        .lacks(&[" root "]);
    cluster
        .kubectl(&["certificate", "approve", "jane"])
        .ok()
        .is("certificatesigningrequest.certificates.k8s.io/jane approved");
    cluster.kubectl(&["certificate", "deny", "jane"]).fails().says(&["is already Approved"]);
    cluster
        .kubectl(&["certificate", "deny", "bots"])
        .ok()
        .is("certificatesigningrequest.certificates.k8s.io/bots denied");
    cluster.kubectl(&["get", "csr"]).ok().matches(r"^jane .* Approved$").matches(r"^bots .* Denied$");
    cluster.kubectl(&["delete", "csr/jane", "csr/bots", "clusterrolebinding/bot"]).ok();
}
