//! Commands about objects that nothing runs: what the API alone answers.

use std::os::unix::fs::PermissionsExt as _;

use sampan_testkit::{Cluster, Namespace};

const CONFIG: &str = "
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
  labels: {app: shop}
data:
  colour: red
  size: large
";

pub fn create(cluster: &mut Cluster) {
    cluster.kubectl(&["create", "namespace", "create"]).ok().is("namespace/create created");
    cluster
        .kubectl(&["create", "namespace", "create"])
        .fails()
        .says(&["Error from server (AlreadyExists): namespaces \"create\" already exists"]);
    let kubectl = |arguments: &[&str]| cluster.kubectl(&[&["--namespace=create"], arguments].concat());
    kubectl(&["create", "configmap", "one", "--from-literal=a=b"]).ok().is("configmap/one created");
    kubectl(&["create", "secret", "generic", "two", "--from-literal=a=b"]).ok().is("secret/two created");
    kubectl(&["get", "secret", "two", "-o", "jsonpath={.type} {.data.a}"]).ok().is("Opaque Yg==");
    kubectl(&["create", "serviceaccount", "three"]).ok().is("serviceaccount/three created");
    kubectl(&["create", "service", "clusterip", "four", "--tcp=80:8080"]).ok().is("service/four created");
    kubectl(&["create", "quota", "five", "--hard=pods=5"]).ok().is("resourcequota/five created");
    kubectl(&["create", "role", "six", "--verb=get", "--resource=pods"])
        .ok()
        .is("role.rbac.authorization.k8s.io/six created");
    kubectl(&["create", "cronjob", "seven", "--image=example.com/none:1", "--schedule=0 0 1 1 *"])
        .ok()
        .is("cronjob.batch/seven created");
    kubectl(&["create", "ingress", "eight", "--rule=example.com/*=four:80"])
        .ok()
        .is("ingress.networking.k8s.io/eight created");
    kubectl(&["create", "priorityclass", "nine", "--value=7"])
        .ok()
        .is("priorityclass.scheduling.k8s.io/nine created");
    kubectl(&["create", "poddisruptionbudget", "ten", "--selector=app=x", "--min-available=1"])
        .ok()
        .is("poddisruptionbudget.policy/ten created");
    kubectl(&["create", "configmap", "Not_Valid"]).fails().says(&["ConfigMap \"Not_Valid\" is invalid: metadata.name: Invalid value: \"Not_Valid\": a lowercase RFC 1123 subdomain must consist of"]);
    cluster
        .kubectl(&["delete", "namespace/create", "priorityclass/nine"])
        .ok()
        .has(&["namespace \"create\" deleted"]);
    cluster.kubectl(&["get", "namespace", "create"]).fails().says(&["namespaces \"create\" not found"]);
}

pub fn create_from_manifest(cluster: &mut Cluster) {
    let namespace = cluster.namespace("manifest");
    namespace.kubectl_stdin(&["create", "-f", "-"], CONFIG).ok().is("configmap/settings created");
    namespace.kubectl_stdin(&["create", "-f", "-"], CONFIG).fails().says(&["(AlreadyExists)"]);
    let generated = "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: part-}\n";
    let name = namespace.kubectl_stdin(&["create", "-f", "-", "-o", "name"], generated).ok().text();
    assert_eq!(name.len(), "configmap/part-".len() + 5, "{name}");
    let file = cluster.scratch().join("settings.yaml");
    std::fs::write(&file, CONFIG).expect("the scratch directory can be written");
    let path = file.to_str().expect("text");
    namespace.kubectl(&["get", "-f", path, "-o", "name"]).ok().is("configmap/settings");
}

pub fn get_formats(cluster: &mut Cluster) {
    let namespace = cluster.namespace("formats");
    namespace.apply(CONFIG);
    namespace
        .kubectl(&["get", "configmap", "settings"])
        .ok()
        .matches(r"^NAME +DATA +AGE$")
        .matches(r"^settings +2 +\d+s$");
    namespace.kubectl(&["get", "cm/settings", "-o", "wide"]).ok().matches(r"^settings +2 ");
    let yaml = namespace.kubectl(&["get", "cm", "settings", "-o", "yaml"]).ok();
    let yaml = yaml.matches("^  colour: red$").matches("^kind: ConfigMap$").matches("^    app: shop$");
    yaml.matches(r"^  uid: [0-9a-f-]{36}$")
        .matches(r"^  creationTimestamp: .20\d\d-.*Z.$")
        .lacks(&["managedFields"]);
    let json = namespace.kubectl(&["get", "cm", "settings", "-o", "json"]).ok().json();
    assert_eq!(json["data"]["size"], "large");
    namespace.kubectl(&["get", "cm", "settings", "-o", "jsonpath={.data.colour}"]).ok().is("red");
    let template = "{{range $key, $value := .data}}{{$key}}={{$value}};{{end}}";
    namespace
        .kubectl(&["get", "cm", "settings", "-o", &format!("go-template={template}")])
        .ok()
        .is("colour=red;size=large;");
    let columns = "custom-columns=NAME:.metadata.name,COLOUR:.data.colour";
    namespace
        .kubectl(&["get", "cm", "settings", "-o", columns])
        .ok()
        .matches("^NAME +COLOUR$")
        .matches("^settings +red$");
    namespace.kubectl(&["get", "cm", "-o", "name"]).ok().has(&["configmap/settings"]);
    namespace.kubectl(&["get", "cm", "--show-labels"]).ok().matches(r"^settings +2 +\S+ +app=shop$");
    namespace.kubectl(&["get", "cm", "-L", "app"]).ok().matches(r"^NAME +DATA +AGE +APP$");
    namespace
        .kubectl(&["get", "cm", "missing"])
        .fails()
        .says(&["Error from server (NotFound): configmaps \"missing\" not found"]);
    namespace.kubectl(&["get", "cm", "missing", "--ignore-not-found"]).ok().is("");
    namespace
        .kubectl(&["get", "nonsense"])
        .fails()
        .says(&["the server doesn't have a resource type \"nonsense\""]);
    namespace.kubectl(&["get", "pods"]).ok().says(&["No resources found in formats namespace."]);
    namespace
        .kubectl(&["get", "cm,serviceaccounts"])
        .ok()
        .has(&["configmap/settings", "serviceaccount/default"]);
    namespace
        .kubectl(&["get", "--raw", "/api/v1/namespaces/formats/configmaps/settings"])
        .ok()
        .has(&["\"colour\":\"red\""]);
    let sorted =
        ["get", "cm", "--sort-by=.metadata.name", "--no-headers", "-o", "custom-columns=N:.metadata.name"];
    namespace.kubectl(&sorted).ok().is("kube-root-ca.crt\nsettings");
}

fn numbered(namespace: &Namespace<'_>, count: usize) {
    let documents: Vec<String> = (0..count)
        .map(|number| {
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: n{number:03}, labels: {{parity: {}, all: numbers}}}}",
                if number % 2 == 0 { "even" } else { "odd" }
            )
        })
        .collect();
    namespace.kubectl_stdin(&["create", "-f", "-"], &documents.join("\n---\n")).ok();
}

pub fn get_selectors(cluster: &mut Cluster) {
    let namespace = cluster.namespace("selectors");
    numbered(&namespace, 4);
    let names =
        |arguments: &[&str]| namespace.kubectl(&[&["get", "cm", "-o", "name"], arguments].concat()).ok();
    names(&["-l", "parity=odd"]).is("configmap/n001\nconfigmap/n003");
    names(&["-l", "parity in (even),all"]).is("configmap/n000\nconfigmap/n002");
    names(&["-l", "!all"]).is("configmap/kube-root-ca.crt");
    names(&["-l", "parity notin (odd),all"]).is("configmap/n000\nconfigmap/n002");
    names(&["--field-selector=metadata.name=n002"]).is("configmap/n002");
    names(&["--field-selector=metadata.name!=n002", "-l", "parity=even"]).is("configmap/n000");
    namespace
        .kubectl(&["get", "cm", "--field-selector=data.x=1"])
        .fails()
        .says(&["\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""]);
    namespace.kubectl(&["get", "cm", "-l", "a=(b"]).fails();
}

pub fn get_chunks(cluster: &mut Cluster) {
    let namespace = cluster.namespace("chunks");
    numbered(&namespace, 25);
    let output =
        namespace.kubectl(&["get", "cm", "-l", "all=numbers", "--chunk-size=10", "-o", "name", "-v=6"]).ok();
    assert_eq!(output.stdout.lines().count(), 25, "{output}");
    output.says(&["limit=10", "continue="]);
}

pub fn get_watch(cluster: &mut Cluster) {
    let namespace = cluster.namespace("watch");
    namespace.apply(CONFIG);
    let mut watch = namespace.spawn(&["get", "cm", "-l", "app=shop", "--watch", "--output-watch-events"]);
    watch.until(r"^ADDED +settings +2 ");
    namespace.kubectl(&["create", "cm", "other"]).ok();
    namespace.kubectl(&["patch", "cm", "settings", "-p", r#"{"data":{"weight":"3"}}"#]).ok();
    watch.until(r"^MODIFIED +settings +3 ");
    namespace.kubectl(&["label", "cm", "other", "app=shop"]).ok();
    watch.until(r"^ADDED +other +0 ");
    namespace.kubectl(&["label", "cm", "other", "app-"]).ok();
    watch.until(r"^DELETED +other +0 ");
    namespace.kubectl(&["delete", "cm", "settings"]).ok();
    watch.until(r"^DELETED +settings +3 ");
    watch.kill();
}

pub fn describe(cluster: &mut Cluster) {
    let namespace = cluster.namespace("describe");
    namespace.apply(CONFIG);
    namespace
        .kubectl(&["describe", "configmap", "settings"])
        .ok()
        .matches(r"^Name: +settings$")
        .matches(r"^Labels: +app=shop$")
        .has(&["colour:\n----\nred"]);
    namespace.kubectl(&["create", "secret", "generic", "hidden", "--from-literal=password=abc"]).ok();
    namespace
        .kubectl(&["describe", "secret", "hidden"])
        .ok()
        .matches(r"^password: +3 bytes$")
        .lacks(&["abc\n", "YWJj"]);
    namespace.kubectl(&["create", "service", "nodeport", "door", "--tcp=80:8080"]).ok();
    namespace
        .kubectl(&["describe", "service", "door"])
        .ok()
        .matches(r"^Type: +NodePort$")
        .matches(r"^IP: +10\.43\.\d+\.\d+$")
        .matches(r"^NodePort: +80-8080 +3\d{4}/TCP$");
    cluster
        .kubectl(&["describe", "namespace", "describe"])
        .ok()
        .matches(r"^Status: +Active$")
        .has(&["No resource quota."]);
}

pub fn apply(cluster: &mut Cluster) {
    let namespace = cluster.namespace("apply");
    namespace.apply(CONFIG).is("configmap/settings created");
    namespace.apply(CONFIG).is("configmap/settings unchanged");
    let changed = CONFIG.replace("  size: large\n", "").replace("red", "blue");
    namespace
        .kubectl(&["patch", "cm", "settings", "-p", r#"{"data":{"mine":"kept"}}"#])
        .ok()
        .is("configmap/settings patched");
    namespace.apply(&changed).is("configmap/settings configured");
    // What the manifest no longer has goes, what others added stays.
    let data = namespace.kubectl(&["get", "cm", "settings", "-o", "json"]).ok().json();
    assert_eq!(data["data"], serde_json::json!({"colour": "blue", "mine": "kept"}));
    namespace
        .kubectl(&["apply", "view-last-applied", "cm/settings"])
        .ok()
        .has(&["colour: blue"])
        .lacks(&["mine"]);
    namespace.kubectl_stdin(&["apply", "set-last-applied", "-f", "-"], CONFIG).ok();
    namespace.kubectl(&["apply", "view-last-applied", "cm/settings"]).ok().has(&["size: large"]);
}

pub fn apply_several(cluster: &mut Cluster) {
    let namespace = cluster.namespace("several");
    let service = "
apiVersion: v1
kind: Service
metadata: {name: front}
spec:
  selector: {app: front}
  ports: [{port: 80, targetPort: http}]
";
    let list = format!("{CONFIG}---\n{service}---\n# only a comment\n");
    namespace.apply(&list).is("configmap/settings created\nservice/front created");
    namespace.apply(&list).is("configmap/settings unchanged\nservice/front unchanged");
    // A list in a map keyed by port is merged by that key.
    let two = list.replace(
        "[{port: 80, targetPort: http}]",
        "[{port: 80, targetPort: http, name: a}, {port: 81, name: b}]",
    );
    namespace.apply(&two).has(&["service/front configured"]);
    assert_eq!(namespace.get("service/front", ".spec.ports[*].port"), "80 81");
    namespace.apply(&list).has(&["service/front configured"]);
    assert_eq!(namespace.get("service/front", ".spec.ports[*].port"), "80");
}

pub fn apply_prune(cluster: &mut Cluster) {
    let namespace = cluster.namespace("prune");
    let two = format!("{CONFIG}---\n{}", CONFIG.replace("name: settings", "name: second"));
    namespace.apply(&two);
    let prune = ["apply", "-f", "-", "--prune", "-l", "app=shop", "--prune-allowlist=core/v1/ConfigMap"];
    namespace
        .kubectl_stdin(&prune, CONFIG)
        .ok()
        .has(&["configmap/settings unchanged", "configmap/second pruned"]);
}

pub fn apply_refuses(cluster: &mut Cluster) {
    let namespace = cluster.namespace("refuses");
    let check = |manifest: &str, says: &[&str]| {
        namespace.kubectl_stdin(&["apply", "-f", "-"], manifest).fails().says(says);
    };
    check(&CONFIG.replace("\ndata:", "\ndataa:"), &["unknown field \"dataa\""]);
    check(&CONFIG.replace("red", "[1]"), &["ConfigMap", "data"]);
    check(
        &CONFIG.replace("kind: ConfigMap", "kind: Nonsense"),
        &["no matches for kind \"Nonsense\" in version \"v1\""],
    );
    check(&CONFIG.replace("name: settings", "name: A"), &["metadata.name: Invalid value: \"A\""]);
    check(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}\n",
        &["spec.containers: Required value"],
    );
    check(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: x, ports: [{containerPort: many}]}]}\n",
        &["containerPort"],
    );
    check(
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: 99999}]}\n",
        &["spec.ports[0].port: Invalid value: 99999: must be between 1 and 65535, inclusive"],
    );
    namespace
        .kubectl(&["get", "cm,pods,services", "--field-selector=metadata.name!=kube-root-ca.crt"])
        .ok()
        .is("");
}

pub fn diff(cluster: &mut Cluster) {
    let namespace = cluster.namespace("diff");
    namespace.apply(CONFIG);
    namespace.kubectl_stdin(&["diff", "-f", "-"], CONFIG).ok().is("");
    let output = namespace
        .kubectl_stdin(&["diff", "-f", "-"], &CONFIG.replace("red", "blue"))
        .matches(r"^-  colour: red$")
        .matches(r"^\+  colour: blue$");
    assert_eq!(output.code, Some(1), "a difference is said by 1\n{output}");
    assert_eq!(namespace.get("cm/settings", ".data.colour"), "red");
}

pub fn edit(cluster: &mut Cluster) {
    let namespace = cluster.namespace("edit");
    namespace.apply(CONFIG);
    let editor = cluster.scratch().join("editor");
    std::fs::write(&editor, "#!/bin/sh\nexec sed -i \"$EDIT\" \"$1\"\n")
        .expect("the scratch directory can be written");
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let editor = format!("EDITOR={}", editor.display());
    let edit = |script: &str, target: &str| {
        cluster.run(&[
            "env",
            &editor,
            &format!("EDIT={script}"),
            "kubectl",
            "--namespace=edit",
            "edit",
            target,
        ])
    };
    edit("s/colour: red/colour: violet/", "cm/settings").ok().is("configmap/settings edited");
    assert_eq!(namespace.get("cm/settings", ".data.colour"), "violet");
    edit("s/nothing/matches/", "cm/settings").ok().says(&["Edit cancelled, no changes made."]);
    // Names cannot be edited: kubectl says so and keeps the text.
    edit("s/name: settings/name: renamed/", "cm/settings")
        .fails()
        .says(&["At least one of apiVersion, kind and name was changed"]);
}

pub fn label(cluster: &mut Cluster) {
    let namespace = cluster.namespace("label");
    namespace.apply(CONFIG);
    namespace.kubectl(&["label", "cm", "settings", "tier=back"]).ok().is("configmap/settings labeled");
    namespace
        .kubectl(&["label", "cm", "settings", "tier=front"])
        .fails()
        .says(&["already has a value (back), and --overwrite is false"]);
    namespace.kubectl(&["label", "cm", "settings", "tier=front", "--overwrite"]).ok();
    namespace.kubectl(&["label", "cm", "--list", "settings"]).ok().has(&["tier=front", "app=shop"]);
    namespace.kubectl(&["label", "cm", "settings", "tier-"]).ok().is("configmap/settings unlabeled");
    namespace
        .kubectl(&["label", "cm", "settings", "tier=not valid"])
        .fails()
        .says(&["a valid label must be"]);
}

pub fn annotate(cluster: &mut Cluster) {
    let namespace = cluster.namespace("annotate");
    namespace.apply(CONFIG);
    namespace
        .kubectl(&["annotate", "cm/settings", "note=any text, even this"])
        .ok()
        .is("configmap/settings annotated");
    assert_eq!(namespace.get("cm/settings", ".metadata.annotations.note"), "any text, even this");
    namespace.kubectl(&["annotate", "cm/settings", "note-"]).ok().is("configmap/settings annotated");
    assert_eq!(namespace.get("cm/settings", ".metadata.annotations.note"), "");
}

pub fn patch(cluster: &mut Cluster) {
    let namespace = cluster.namespace("patch");
    namespace.apply(CONFIG);
    let patch = |kind: &str, patch: &str| namespace.kubectl(&["patch", "cm", "settings", kind, "-p", patch]);
    patch("--type=merge", r#"{"data":{"colour":null,"depth":"2"}}"#).ok().is("configmap/settings patched");
    patch("--type=merge", r#"{"data":{"depth":"2"}}"#).ok().is("configmap/settings patched (no change)");
    patch(
        "--type=json",
        r#"[{"op":"test","path":"/data/depth","value":"2"},{"op":"remove","path":"/data/depth"}]"#,
    )
    .ok();
    patch("--type=json", r#"[{"op":"remove","path":"/data/depth"}]"#).fails();
    patch(
        "--type=strategic",
        r#"{"data":{"size":"small"},"metadata":{"labels":{"$patch":"replace","new":"1"}}}"#,
    )
    .ok();
    let after = namespace.kubectl(&["get", "cm/settings", "-o", "json"]).ok().json();
    assert_eq!(after["data"], serde_json::json!({"size": "small"}));
    assert_eq!(after["metadata"]["labels"], serde_json::json!({"new": "1"}));
    patch("--type=merge", r#"{"metadata":{"name":"other"}}"#).fails();
    patch("--type=merge", r#"{"immutable":true}"#).ok();
    patch("--type=merge", r#"{"data":{"size":"huge"}}"#)
        .fails()
        .says(&["field is immutable when `immutable` is set"]);
}

pub fn replace(cluster: &mut Cluster) {
    let namespace = cluster.namespace("replace");
    namespace.kubectl_stdin(&["replace", "-f", "-"], CONFIG).fails().says(&["(NotFound)"]);
    namespace.apply(CONFIG);
    let changed = CONFIG.replace("  size: large\n", "");
    namespace.kubectl_stdin(&["replace", "-f", "-"], &changed).ok().is("configmap/settings replaced");
    assert_eq!(namespace.get("cm/settings", ".data"), r#"{"colour":"red"}"#);
    let stale = changed.replace("metadata:\n", "metadata:\n  resourceVersion: \"1\"\n");
    namespace.kubectl_stdin(&["replace", "-f", "-"], &stale).fails().says(&[
        "(Conflict)",
        "the object has been modified; please apply your changes to the latest version and try again",
    ]);
    namespace
        .kubectl_stdin(&["replace", "--force", "-f", "-"], &changed)
        .ok()
        .has(&["configmap \"settings\" deleted", "configmap/settings replaced"]);
}

pub fn delete(cluster: &mut Cluster) {
    let namespace = cluster.namespace("delete");
    numbered(&namespace, 6);
    namespace.kubectl(&["delete", "cm", "n000"]).ok().has(&["configmap \"n000\" deleted"]);
    namespace.kubectl(&["delete", "cm", "n000"]).fails().says(&["(NotFound)"]);
    namespace.kubectl(&["delete", "cm", "n000", "--ignore-not-found"]).ok();
    namespace
        .kubectl(&["delete", "cm", "-l", "parity=odd"])
        .ok()
        .has(&["\"n001\" deleted", "\"n003\" deleted", "\"n005\" deleted"])
        .lacks(&["n002"]);
    namespace
        .kubectl_stdin(&["delete", "-f", "-"], "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: n002}\n")
        .ok();
    // A finalizer holds an object until somebody takes it away.
    namespace
        .kubectl(&[
            "patch",
            "cm",
            "n004",
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":["example.com/hold"]}}"#,
        ])
        .ok();
    namespace.kubectl(&["delete", "cm", "n004", "--wait=false"]).ok();
    assert_ne!(namespace.get("cm/n004", ".metadata.deletionTimestamp"), "");
    namespace
        .kubectl(&["patch", "cm", "n004", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#])
        .ok();
    namespace.kubectl(&["get", "cm", "n004"]).fails().says(&["(NotFound)"]);
    numbered(&namespace, 2);
    namespace.kubectl(&["delete", "cm", "--all"]).ok().has(&["\"n000\" deleted", "\"n001\" deleted"]);
    namespace.kubectl(&["get", "cm", "-l", "all"]).ok().is("");
}

pub fn dry_run(cluster: &mut Cluster) {
    let namespace = cluster.namespace("dry-run");
    namespace
        .kubectl(&["create", "cm", "ghost", "--dry-run=server"])
        .ok()
        .is("configmap/ghost created (server dry run)");
    namespace
        .kubectl(&["create", "cm", "ghost", "--dry-run=client", "-o", "yaml"])
        .ok()
        .has(&["name: ghost"]);
    namespace.kubectl(&["get", "cm", "ghost"]).fails();
    namespace.apply(CONFIG);
    namespace
        .kubectl(&["delete", "cm", "settings", "--dry-run=server"])
        .ok()
        .has(&["configmap \"settings\" deleted", "(server dry run)"]);
    namespace.kubectl(&["label", "cm", "settings", "x=y", "--dry-run=server"]).ok();
    assert_eq!(namespace.get("cm/settings", ".metadata.labels"), r#"{"app":"shop"}"#);
}
