//! Custom resources: a definition, its objects, and what kubectl makes of both.

use sampan_testkit::Cluster;

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    schema: &schema
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            description: What is wanted.
            required: [cronSpec]
            properties:
              cronSpec: {type: string, description: When it runs.}
              replicas: {type: integer, minimum: 1, maximum: 10, default: 1}
              mode: {type: string, enum: [Fast, Slow]}
          status:
            type: object
            properties:
              replicas: {type: integer}
              phase: {type: string}
    subresources: &subresources
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    selectableFields: [{jsonPath: .spec.mode}]
    additionalPrinterColumns:
    - {name: Spec, type: string, jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Mode, type: string, jsonPath: .spec.mode, priority: 1}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
  - name: v1beta1
    served: true
    storage: false
    schema: *schema
    subresources: *subresources
    selectableFields: [{jsonPath: .spec.cronSpec}]
"#;

fn object(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
    )
}

fn define(cluster: &Cluster) {
    cluster.kubectl_stdin(&["create", "-f", "-"], DEFINITION).ok();
    cluster
        .kubectl(&["wait", "--for=condition=Established", "crd/crontabs.stable.example.com", "--timeout=10s"])
        .ok();
}

pub fn define_use_delete(cluster: &mut Cluster) {
    define(cluster);
    let namespace = cluster.namespace("custom");
    let create = |text: String| namespace.kubectl_stdin(&["create", "-f", "-"], &text);
    create(object("one", "cronSpec: '* * * * *', mode: Fast"))
        .ok()
        .is("crontab.stable.example.com/one created");
    create(object("two", "cronSpec: '5 * * * *', mode: Slow, replicas: 2")).ok();
    namespace
        .kubectl(&["get", "ct"])
        .ok()
        .matches(r"^NAME +SPEC +REPLICAS +AGE$")
        .matches(r"^one +\* \* \* \* \* +1 +\d+s$");
    namespace.kubectl(&["get", "crontab/two", "-o", "wide"]).ok().matches(r"^two .* 2 +Slow +\d+s$");
    namespace.kubectl(&["get", "all"]).ok().has(&["crontab.stable.example.com/one"]);
    namespace
        .kubectl(&["get", "ct", "--field-selector=spec.mode=Slow", "-o", "name"])
        .ok()
        .is("crontab.stable.example.com/two");
    namespace
        .kubectl(&["get", "ct", "--field-selector=spec.nope=Slow"])
        .fails()
        .says(&["field label not supported: spec.nope"]);
    // Each version has fields of its own.
    let other = "crontabs.v1beta1.stable.example.com";
    let selector = "--field-selector=spec.cronSpec=5 * * * *";
    namespace.kubectl(&["get", other, selector, "-o", "name"]).ok().is("crontab.stable.example.com/two");
    namespace
        .kubectl(&["get", other, "--field-selector=spec.mode=Slow"])
        .fails()
        .says(&["field label not supported: spec.mode"]);
    let mut watch = namespace.spawn(&["get", other, selector, "--watch", "--output-watch-events"]);
    watch.until(r"^ADDED +two ");
    let schedule = |schedule: &str| {
        let patch = format!(r#"{{"spec":{{"cronSpec":"{schedule}"}}}}"#);
        namespace.kubectl(&["patch", "ct", "one", "--type=merge", "-p", &patch]).ok();
    };
    schedule("5 * * * *");
    watch.until(r"^ADDED +one ");
    schedule("* * * * *");
    watch.until(r"^DELETED +one ");
    drop(watch);
    namespace
        .kubectl(&["get", "crontabs.v1beta1.stable.example.com", "one", "-o", "jsonpath={.apiVersion}"])
        .ok()
        .is("stable.example.com/v1beta1");
    cluster.kubectl(&["delete", "crd", "crontabs.stable.example.com"]).ok();
    namespace.kubectl(&["get", "--raw", "/apis/stable.example.com/v1"]).fails();
    define(cluster);
    namespace.kubectl(&["get", "ct", "-o", "name"]).ok().is("");
    cluster.kubectl(&["delete", "crd", "crontabs.stable.example.com"]).ok();
}

pub fn explain(cluster: &mut Cluster) {
    define(cluster);
    cluster
        .kubectl(&["explain", "crontab.spec"])
        .ok()
        .matches(r"^KIND: +CronTab$")
        .has(&["What is wanted.", "When it runs."])
        .matches(r"^ +cronSpec\t<string> -required-$")
        .matches(r"^ +enum: Fast, Slow$");
    cluster.kubectl(&["explain", "crontab", "--recursive"]).ok().matches(r"^ +replicas\t<integer>$");
    cluster.kubectl(&["delete", "crd", "crontabs.stable.example.com"]).ok();
}

pub fn refuse(cluster: &mut Cluster) {
    define(cluster);
    let namespace = cluster.namespace("refused");
    let create = |spec: &str| namespace.kubectl_stdin(&["create", "-f", "-"], &object("bad", spec)).fails();
    create("cronSpec: '*', replicas: 11").says(&[
        "The CronTab \"bad\" is invalid: spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10",
    ]);
    create("mode: Medium").says(&[
        "spec.cronSpec: Required value",
        "spec.mode: Unsupported value: \"Medium\": supported values: \"Fast\", \"Slow\"",
    ]);
    create("cronSpec: 1").says(&[
        "spec.cronSpec: Invalid value: \"integer\": spec.cronSpec in body must be of type string: \"integer\"",
    ]);
    create("cronSpec: '*', other: 1").says(&["strict decoding error: unknown field \"spec.other\""]);
    let bad =
        DEFINITION.replace("type: integer, minimum", "minimum").replace("scope: Namespaced", "scope: Some");
    let bad = bad.replace("crontabs", "others").replace("  - name: v1beta1", "  - name: v1");
    cluster.kubectl_stdin(&["create", "-f", "-"], &bad).fails().says(&[
        "spec.scope: Unsupported value: \"Some\": supported values: \"Cluster\", \"Namespaced\"",
        "spec.validation.openAPIV3Schema.properties[spec].properties[replicas].type: Required value: must not be empty for specified object fields",
        "must contain unique version names",
    ]);
    cluster.kubectl(&["delete", "crd", "crontabs.stable.example.com"]).ok();
}

pub fn finalizers(cluster: &mut Cluster) {
    define(cluster);
    let namespace = cluster.namespace("held");
    let held = object("held", "cronSpec: '*'").replace("{name: held}", "{name: held, finalizers: [mine]}");
    namespace.kubectl_stdin(&["create", "-f", "-"], &held).ok().says(&[
        "Warning: metadata.finalizers: \"mine\": prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers",
    ]);
    // The definition waits for its last object, and takes no other one.
    let definition = "crd/crontabs.stable.example.com";
    cluster.kubectl(&["delete", definition, "--wait=false"]).ok();
    cluster.kubectl(&["wait", "--for=condition=Terminating", definition, "--timeout=10s"]).ok();
    namespace
        .kubectl_stdin(&["create", "-f", "-"], &object("late", "cronSpec: '*'"))
        .fails()
        .says(&["create not allowed while custom resource definition is terminating"]);
    let freed = r#"{"metadata":{"finalizers":null}}"#;
    namespace.kubectl(&["patch", "ct", "held", "--type=merge", "-p", freed]).ok();
    cluster.kubectl(&["wait", "--for=delete", definition, "--timeout=10s"]).ok();
}

pub fn status_and_scale(cluster: &mut Cluster) {
    define(cluster);
    let namespace = cluster.namespace("parts");
    namespace.kubectl_stdin(&["create", "-f", "-"], &object("one", "cronSpec: '*'")).ok();
    namespace
        .kubectl(&["scale", "crontab", "one", "--replicas=3"])
        .ok()
        .is("crontab.stable.example.com/one scaled");
    let both = r#"{"spec":{"replicas":5},"status":{"phase":"On","replicas":3}}"#;
    namespace.kubectl(&["patch", "ct", "one", "--subresource=status", "--type=merge", "-p", both]).ok();
    let shown = "jsonpath={.metadata.generation} {.spec.replicas} {.status.phase}";
    namespace.kubectl(&["get", "ct", "one", "-o", shown]).ok().is("2 3 On");
    let both = both.replace("On", "Off");
    namespace.kubectl(&["patch", "ct", "one", "--type=merge", "-p", &both]).ok();
    namespace.kubectl(&["get", "ct", "one", "-o", shown]).ok().is("3 5 On");
    cluster.kubectl(&["delete", "crd", "crontabs.stable.example.com"]).ok();
}

pub fn restart(cluster: &mut Cluster) {
    define(cluster);
    cluster.kubectl(&["create", "namespace", "kept"]).ok();
    cluster.kubectl_stdin(&["create", "-n", "kept", "-f", "-"], &object("one", "cronSpec: '*'")).ok();
    cluster.restart().expect("the server starts again");
    cluster.kubectl(&["get", "ct", "one", "-n", "kept", "-o", "jsonpath={.spec.replicas}"]).ok().is("1");
    cluster.kubectl(&["delete", "namespace/kept", "crd/crontabs.stable.example.com"]).ok();
}
