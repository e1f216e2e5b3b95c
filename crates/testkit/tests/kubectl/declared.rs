//! Commands about what manifests declare: validation, overlays, sets that prune, and waiting for what was asked.

use sampan_testkit::Cluster;

fn settings(name: &str, data: &str) -> String {
    format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n{data}\n")
}

pub fn validate(cluster: &mut Cluster) {
    let namespace = cluster.namespace("validate");
    let create = |how: &str, name: &str, data: &str| {
        namespace.kubectl_stdin(&["create", how, "-f", "-"], &settings(name, data))
    };
    let unknown = "datax: {a: b}";
    create("--validate=strict", "a", unknown)
        .fails()
        .says(&["strict decoding error: unknown field \"datax\""]);
    create("--validate=warn", "a", unknown)
        .ok()
        .says(&["Warning: unknown field \"datax\""])
        .is("configmap/a created");
    let ignored = create("--validate=ignore", "b", unknown).ok().is("configmap/b created");
    assert_eq!(ignored.stderr, "");
    namespace.kubectl(&["get", "cm/b", "-o", "jsonpath={.datax}"]).ok().is("");
}

pub fn kustomize(cluster: &mut Cluster) {
    let namespace = cluster.namespace("kustomize");
    let (overlay, base) = (cluster.scratch().join("overlay"), cluster.scratch().join("overlay/base"));
    std::fs::create_dir_all(&base).expect("the scratch directory can be written");
    let write = |path: std::path::PathBuf, text: &str| std::fs::write(path, text).expect("it can be written");
    write(base.join("kustomization.yaml"), "resources: [settings.yaml]\n");
    write(base.join("settings.yaml"), &settings("settings", "data: {colour: red}"));
    write(
        overlay.join("kustomization.yaml"),
        "namespace: kustomize\nnamePrefix: shop-\nlabels: [{pairs: {team: shop}}]\nresources: [base]\n\
         configMapGenerator: [{name: made, literals: [a=b]}]\n",
    );
    let path = overlay.to_str().expect("text");
    cluster.kubectl(&["kustomize", path]).ok().has(&[
        "name: shop-settings",
        "team: shop",
        "name: shop-made-",
    ]);
    cluster
        .kubectl(&["apply", "-k", path])
        .ok()
        .has(&["configmap/shop-settings created"])
        .matches("^configmap/shop-made-[0-9a-z]{10} created$");
    cluster.kubectl(&["diff", "-k", path]).ok().is("");
    assert_eq!(namespace.get("cm/shop-settings", ".metadata.labels.team"), "shop");
    cluster.kubectl(&["delete", "-k", path]).ok().has(&["configmap \"shop-settings\" deleted"]);
}

pub fn apply_set(cluster: &mut Cluster) {
    let namespace = cluster.namespace("applyset");
    let two = settings("one", "data: {a: b}") + &settings("two", "data: {a: b}");
    let apply = |manifests: &str| {
        let command = ["env", "KUBECTL_APPLYSET=true", "kubectl", "--namespace=applyset", "apply"];
        let arguments = ["--prune", "--applyset=shop", "-f", "-"];
        cluster.run_with_input(&[&command[..], &arguments].concat(), manifests.as_bytes())
    };
    apply(&two).ok().is("configmap/one created\nconfigmap/two created");
    apply(&settings("one", "data: {a: b}")).ok().is("configmap/one unchanged\nconfigmap/two pruned");
    let kept = "jsonpath={.metadata.annotations.applyset\\.kubernetes\\.io/contains-group-kinds}";
    namespace.kubectl(&["get", "secret", "shop", "-o", kept]).ok().is("ConfigMap");
}

pub fn explain_by_version_2(cluster: &mut Cluster) {
    let explain = |field: &str| {
        let arguments = ["explain", field, "--recursive", "--output=plaintext-openapiv2"];
        cluster.kubectl(&arguments).ok()
    };
    explain("pod.spec.containers")
        .matches(r"^KIND: +Pod$")
        .matches(r"^RESOURCE: containers <\[\]Object>$")
        .matches(r"^ +containerPort\t<integer>( -required-)?$");
    explain("customresourcedefinition.spec.names").matches(r"^ +shortNames\t<\[\]string>$");
}

pub fn wait(cluster: &mut Cluster) {
    let namespace = cluster.namespace("waits");
    let mut created = namespace.spawn(&["wait", "--for=create", "cm/later", "--timeout=50s"]);
    namespace.apply(&settings("later", "data: {phase: one}"));
    created.until("^configmap/later condition met$");
    let mut two = namespace.spawn(&["wait", "--for=jsonpath={.data.phase}=two", "cm/later", "--timeout=50s"]);
    namespace.apply(&settings("later", "data: {phase: two}"));
    two.until("^configmap/later condition met$");
    let gone = namespace.spawn(&["wait", "--for=delete", "cm/later", "--timeout=50s"]);
    namespace.kubectl(&["delete", "cm", "later"]).ok();
    let (code, printed) = gone.end();
    assert_eq!(code, Some(0), "{printed}");
    namespace
        .kubectl(&["wait", "--for=create", "cm/never", "--timeout=1s"])
        .fails()
        .says(&["timed out waiting for the condition"]);
}

pub fn watch_only(cluster: &mut Cluster) {
    let namespace = cluster.namespace("watch-only");
    let create = |name: &str| namespace.kubectl(&["create", "configmap", name]).ok();
    create("before");
    let mut watch = namespace.spawn(&["get", "cm", "--watch-only", "--output-watch-events", "-v=6"]);
    // The request is told of when it is answered: what is written from then on is shown.
    watch.until("watch=true.* 200 OK|verb=\"GET\".*watch=true.*200");
    create("after");
    let seen = watch.until(r"^ADDED +after ").to_owned();
    assert!(!seen.contains("ADDED      before"), "{seen}");
    watch.kill();
}

pub fn events(cluster: &mut Cluster) {
    let namespace = cluster.namespace("events");
    let mut watch = namespace.spawn(&["events", "--watch"]);
    namespace.kubectl(&["create", "deployment", "idle", "--image=example.com/none:1", "--replicas=0"]).ok();
    namespace.kubectl(&["scale", "deployment/idle", "--replicas=1"]).ok();
    let scaled = r"Normal +ScalingReplicaSet +Deployment/idle +Scaled up replica set idle-\S+ from 0 to 1$";
    // A set that is created empty was not scaled.
    assert!(!watch.until(scaled).contains("from 0 to 0"));
    watch.kill();
    namespace
        .kubectl(&["events", "--for=deployment/idle", "--types=Normal"])
        .ok()
        .matches(r"^LAST SEEN +TYPE +REASON +OBJECT +MESSAGE$")
        .matches(scaled)
        .lacks(&["Pod/"]);
    namespace
        .kubectl(&["events", "--for=deployment/idle", "--types=Warning"])
        .ok()
        .says(&["No events found in events namespace."]);
}
