//! Server-side apply: owners, conflicts, what is no longer applied, and the way there from
//! client-side apply.

use sampan_testkit::{Cluster, Namespace, Output};

const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: example.com/none:1, ports: [{containerPort: 80}]}
      - {name: side, image: example.com/none:1}
";

fn settings(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {data}\n")
}

/// Applies on the server, as a manager.
fn apply(namespace: &Namespace<'_>, manager: &str, manifest: &str, more: &[&str]) -> Output {
    let manager = format!("--field-manager={manager}");
    let arguments = ["apply", "--server-side", manager.as_str(), "-f", "-"];
    namespace.kubectl_stdin(&[&arguments[..], more].concat(), manifest)
}

/// The managers of an object's entries, with operation and subresource, in order.
fn managers(namespace: &Namespace<'_>, object: &str) -> String {
    let entries = "{range .metadata.managedFields[*]}{.manager} {.operation} {.subresource}|{end}";
    let path = format!("jsonpath={entries}");
    namespace.kubectl(&["get", object, "--show-managed-fields", "-o", &path]).ok().text()
}

pub fn conflicts(cluster: &mut Cluster) {
    let namespace = cluster.namespace("ssa-conflicts");
    apply(&namespace, "one", WEB, &[]).ok().is("deployment.apps/web serverside-applied");
    let two = WEB.replace("replicas: 0", "replicas: 2");
    apply(&namespace, "two", &two, &[])
        .fails()
        .says(&["error: Apply failed with 1 conflict: conflict with \"one\": .spec.replicas"]);
    let side = "{name: side, image: example.com/none:1}";
    let changed = two.replace(side, "{name: side, image: example.com/none:2}");
    apply(&namespace, "two", &changed, &[]).fails().says(&[
        "error: Apply failed with 2 conflicts: conflicts with \"one\":",
        "- .spec.replicas",
        "- .spec.template.spec.containers[name=\"side\"].image",
    ]);
    // Who updated is named with its version and subresource.
    namespace.kubectl(&["scale", "deployment/web", "--replicas=1"]).ok();
    apply(&namespace, "two", &two, &[])
        .fails()
        .says(&["conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas"]);
    apply(&namespace, "two", &two, &["--force-conflicts"]).ok();
    namespace.kubectl(&["get", "deployment/web", "-o", "jsonpath={.spec.replicas}"]).ok().is("2");
    assert!(!managers(&namespace, "deployment/web").contains("scale"));
    // One who leaves a field out gives it up; what the other owns stays.
    apply(&namespace, "two", &two.replace("  replicas: 2\n", ""), &[]).ok();
    namespace.kubectl(&["scale", "deployment/web", "--replicas=0"]).ok();
}

pub fn removes(cluster: &mut Cluster) {
    let namespace = cluster.namespace("ssa-removes");
    let data = |expected: &str| {
        namespace.kubectl(&["get", "cm/settings", "-o", "jsonpath={.data}"]).ok().is(expected);
    };
    apply(&namespace, "one", &settings("{a: x, b: x}"), &[]).ok().is("configmap/settings serverside-applied");
    apply(&namespace, "two", &settings("{b: x, c: x}"), &[]).ok();
    data(r#"{"a":"x","b":"x","c":"x"}"#);
    apply(&namespace, "one", &settings("{}").replace("data: {}", ""), &[]).ok();
    data(r#"{"b":"x","c":"x"}"#);
    assert_eq!(managers(&namespace, "cm/settings"), "two Apply |");
    // An apply that changes nothing is no write.
    let revision = || {
        namespace.kubectl(&["get", "cm/settings", "-o", "jsonpath={.metadata.resourceVersion}"]).ok().text()
    };
    let before = revision();
    apply(&namespace, "two", &settings("{b: x, c: x}"), &[]).ok();
    assert_eq!(revision(), before);
    apply(&namespace, "two", &settings("{b: w}"), &["--dry-run=server", "-o", "jsonpath={.data}"])
        .ok()
        .is(r#"{"b":"w"}"#);
    assert_eq!(revision(), before);
    apply(&namespace, "two", &settings("{b: [1]}"), &[]).fails().says(&[".data.b: expected string"]);
    apply(&namespace, "two", &settings("{b: x}\nnonsense: 1"), &[])
        .fails()
        .says(&[".nonsense: field not declared in schema"]);
}

pub fn status(cluster: &mut Cluster) {
    let namespace = cluster.namespace("ssa-status");
    apply(&namespace, "one", WEB, &[]).ok();
    // What a status holds is not the main resource's to set, nor the rest the status'.
    let status = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {replicas: 7}
status:
  conditions:
  - {type: Example, status: 'True'}
";
    apply(&namespace, "two", status, &["--subresource=status"]).ok();
    namespace
        .kubectl(&[
            "get",
            "deployment/web",
            "-o",
            "jsonpath={.spec.replicas} {.status.conditions[?(@.type==\"Example\")].status}",
        ])
        .ok()
        .is("0 True");
    assert!(managers(&namespace, "deployment/web").contains("two Apply status|"));
}

pub fn diff(cluster: &mut Cluster) {
    let namespace = cluster.namespace("ssa-diff");
    apply(&namespace, "one", &settings("{a: x}"), &[]).ok();
    let manager = "--field-manager=one";
    let arguments = ["diff", "--server-side", manager, "-f", "-"];
    namespace.kubectl_stdin(&arguments, &settings("{a: x}")).ok().is("");
    let ran = namespace.kubectl_stdin(&arguments, &settings("{a: w}")).fails();
    let ran = ran.matches(r"^-  a: x$").matches(r"^\+  a: w$");
    ran.lacks(&["resourceVersion"]);
    namespace.kubectl(&["get", "cm/settings", "-o", "jsonpath={.data.a}"]).ok().is("x");
}

pub fn tracked(cluster: &mut Cluster) {
    let namespace = cluster.namespace("ssa-tracked");
    namespace.kubectl_stdin(&["create", "-f", "-"], WEB).ok();
    namespace.kubectl(&["annotate", "deployment/web", "a=b", "--field-manager=somebody"]).ok();
    let shown = managers(&namespace, "deployment/web");
    assert!(shown.contains("kubectl-create Update |"), "{shown}");
    assert!(shown.contains("somebody Update |"), "{shown}");
    let fields = "jsonpath={.metadata.managedFields[?(@.manager==\"somebody\")].fieldsV1}";
    namespace
        .kubectl(&["get", "deployment/web", "--show-managed-fields", "-o", fields])
        .ok()
        .is(r#"{"f:metadata":{"f:annotations":{"f:a":{}}}}"#);
    namespace.kubectl(&["get", "deployment/web", "-o", "yaml"]).ok().lacks(&["managedFields"]);
    // An empty list forgets them all.
    let reset = r#"{"metadata": {"managedFields": [{}]}}"#;
    namespace.kubectl(&["patch", "deployment/web", "--type=merge", "-p", reset]).ok();
    assert_eq!(managers(&namespace, "deployment/web"), "");
}

pub fn migrates(cluster: &mut Cluster) {
    let namespace = cluster.namespace("ssa-migrates");
    namespace.kubectl_stdin(&["apply", "-f", "-"], &settings("{a: x, b: x}")).ok();
    assert_eq!(managers(&namespace, "cm/settings"), "kubectl-client-side-apply Update |");
    // kubectl makes its old entry one of an applier, so that what is left out goes.
    let server = ["apply", "--server-side", "-f", "-"];
    namespace.kubectl_stdin(&server, &settings("{a: w}")).ok().is("configmap/settings serverside-applied");
    namespace.kubectl(&["get", "cm/settings", "-o", "jsonpath={.data}"]).ok().is(r#"{"a":"w"}"#);
    let shown = managers(&namespace, "cm/settings");
    assert!(shown.contains("kubectl Apply |") && !shown.contains("client-side"), "{shown}");
    // And back: the annotation was kept true.
    namespace.kubectl_stdin(&["apply", "-f", "-"], &settings("{c: z}")).ok();
    namespace.kubectl(&["get", "cm/settings", "-o", "jsonpath={.data}"]).ok().is(r#"{"c":"z"}"#);
}
