//! What extends the API: admission webhooks, an aggregated API, and the way through the API server to
//! services and pods.

use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sampan_testkit::{Cluster, Namespace, Suite};

fn main() -> ExitCode {
    Suite::new("extension")
        .test_image()
        .check("mutating and validating webhooks", webhooks)
        .check("webhooks that fail", failures)
        .check("conversion of custom resources", conversion)
        .check("an aggregated API", aggregated)
        .check("proxies to services, pods and nodes", proxies)
        .run()
}

/// Runs the test's server behind the service `extension`; answers its authority, in base64.
fn deploy(namespace: &Namespace<'_>) -> String {
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(authority, authority_key).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec![format!("extension.{}.svc", namespace.name)]).expect("parameters");
    let leaf = leaf.signed_by(&key, &authority).expect("a certificate");
    let manifest = format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: tls}}
data: {{tls.crt: {}, tls.key: {}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: extension}}
spec:
  selector: {{matchLabels: {{app: extension}}}}
  template:
    metadata: {{labels: {{app: extension}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: example.com/test:1
        command: [extension, '9443', /tls/tls.crt, /tls/tls.key]
        readinessProbe: {{tcpSocket: {{port: 9443}}, periodSeconds: 1}}
        volumeMounts: [{{name: tls, mountPath: /tls}}]
      volumes: [{{name: tls, secret: {{secretName: tls}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: extension}}
spec:
  selector: {{app: extension}}
  ports: [{{port: 443, targetPort: 9443}}]
",
        STANDARD.encode(leaf.pem()),
        STANDARD.encode(key.serialize_pem()),
    );
    namespace.apply(&manifest);
    namespace.rolled_out("extension");
    namespace.endpoints("extension", 1);
    STANDARD.encode(authority.pem())
}

/// A configuration of one webhook for config maps and secrets of a namespace.
fn configuration(kind: &str, namespace: &str, path: &str, bundle: &str, more: &str) -> String {
    format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: {kind}WebhookConfiguration
metadata: {{name: {namespace}-{path}}}
webhooks:
- name: {path}.extension.example.com
  clientConfig: {{service: {{namespace: {namespace}, name: extension, path: /{path}}}, caBundle: {bundle}}}
  rules: [{{operations: ['*'], apiGroups: [''], apiVersions: [v1], resources: [configmaps, pods/exec]}}]
  namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}
  admissionReviewVersions: [v1]
  {more}
"
    )
}

fn webhooks(cluster: &mut Cluster) {
    let namespace = cluster.namespace("webhooks");
    let bundle = deploy(&namespace);
    let safe = "sideEffects: None";
    namespace.apply(&configuration("Mutating", "webhooks", "label", &bundle, safe));
    namespace.apply(&configuration("Validating", "webhooks", "deny", &bundle, safe));
    namespace
        .kubectl(&["create", "configmap", "wanted", "--from-literal=a=b"])
        .ok()
        .says(&["Warning: labelled by a webhook"]);
    assert_eq!(namespace.get("configmap/wanted", ".metadata.labels.labelled"), "yes");
    let denied = "admission webhook \"deny.extension.example.com\" denied the request: denied is not wanted";
    namespace.kubectl(&["create", "configmap", "denied"]).fails().says(&[denied]);
    namespace.kubectl(&["create", "configmap", "dry", "--dry-run=server"]).ok();
    namespace.kubectl(&["delete", "configmap", "wanted"]).ok();
    namespace.kubectl(&["exec", "deployment/extension", "--", "true"]).ok();
    let log = namespace.kubectl(&["logs", "deployment/extension"]).ok().text();
    for line in [
        "/label CREATE v1/configmaps wanted dryRun=false user=kubernetes-admin kind=ConfigMap old=false",
        "/deny CREATE v1/configmaps denied dryRun=false user=kubernetes-admin kind=ConfigMap old=false",
        "/deny CREATE v1/configmaps dry dryRun=true user=kubernetes-admin kind=ConfigMap old=false",
        "/deny DELETE v1/configmaps wanted dryRun=false user=kubernetes-admin kind=ConfigMap old=true",
    ] {
        assert!(log.contains(line), "{line} is in\n{log}");
    }
    assert!(
        log.contains("/deny CONNECT v1/pods/exec extension-") && log.contains("kind=PodExecOptions"),
        "{log}"
    );
    remove(cluster, "webhooks");
}

fn failures(cluster: &mut Cluster) {
    let namespace = cluster.namespace("failures");
    let bundle = deploy(&namespace);
    let create =
        |name: &str, more: &[&str]| namespace.kubectl(&[&["create", "configmap", name], more].concat());
    // It never answers.
    let put = |policy: &str| {
        let more = format!("sideEffects: NoneOnDryRun\n  timeoutSeconds: 1\n  failurePolicy: {policy}");
        namespace.apply(&configuration("Validating", "failures", "slow", &bundle, &more));
    };
    put("Fail");
    create("slow", &[]).fails().says(&[
        "failed calling webhook \"slow.extension.example.com\": failed to call webhook: Post",
        "context deadline exceeded",
    ]);
    put("Ignore");
    create("passed-over", &[]).ok();
    remove(cluster, "failures");
    // Nobody is there.
    let nowhere = configuration("Mutating", "failures", "label", &bundle, "sideEffects: None");
    namespace.apply(&nowhere.replace("name: extension,", "name: nobody,"));
    create("nobody", &[]).fails().says(&["service \"nobody\" not found"]);
    // What decides about admission can always be repaired.
    remove(cluster, "failures");
    create("repaired", &[]).ok();
}

fn remove(cluster: &Cluster, namespace: &str) {
    for path in ["label", "deny", "slow"] {
        for kind in ["mutating", "validating"] {
            let name = format!("{namespace}-{path}");
            let resource = format!("{kind}webhookconfigurations");
            cluster.kubectl(&["delete", &resource, &name, "--ignore-not-found"]).ok();
        }
    }
}

/// A kind of two versions; `stored` is the one in which objects are kept.
fn two_versions(bundle: &str, stored: &str) -> String {
    let version = |name: &str, fields: &str| {
        format!(
            "
  - name: {name}
    served: true
    storage: {}
    schema: {{openAPIV3Schema: {{type: object, properties: {{{fields}}}}}}}",
            name == stored
        )
    };
    format!(
        "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: addresses.conversion.example.com}}
spec:
  group: conversion.example.com
  scope: Namespaced
  names: {{plural: addresses, singular: address, kind: Address}}
  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1]
      clientConfig: {{service: {{namespace: conversion, name: extension, path: /convert}}, caBundle: {bundle}}}
  versions:{}{}
",
        version("v1", "hostPort: {type: string}"),
        version("v2", "host: {type: string}, port: {type: string}"),
    )
}

fn conversion(cluster: &mut Cluster) {
    let namespace = cluster.namespace("conversion");
    let bundle = deploy(&namespace);
    let definition = "crd/addresses.conversion.example.com";
    namespace.apply(&two_versions(&bundle, "v1"));
    cluster.kubectl(&["wait", "--for=condition=Established", definition, "--timeout=10s"]).ok();
    let create = |name: &str, version: &str, fields: &str| {
        let object = format!(
            "apiVersion: conversion.example.com/{version}\nkind: Address\nmetadata: {{name: {name}}}\n{fields}\n"
        );
        namespace.kubectl_stdin(&["create", "-f", "-"], &object)
    };
    let (v1, v2) = ("addresses.v1.conversion.example.com", "addresses.v2.conversion.example.com");
    let both = ".host},{.port},{.hostPort";
    create("one", "v1", "hostPort: 'localhost:8080'").ok();
    assert_eq!(namespace.get(&format!("{v2}/one"), both), "localhost,8080,");
    create("two", "v2", "host: example.com\nport: '80'").ok();
    assert_eq!(namespace.get(&format!("{v1}/two"), both), ",,example.com:80");
    // What is kept in two versions is listed in one.
    namespace.apply(&two_versions(&bundle, "v2"));
    create("three", "v1", "hostPort: 'localhost:3'").ok();
    let list = "jsonpath={range .items[*]}{.metadata.name}={.host}{.port}{.hostPort} {end}";
    namespace
        .kubectl(&["get", v2, "-o", list])
        .ok()
        .is("one=localhost8080 three=localhost3 two=example.com80");
    namespace
        .kubectl(&["get", v1, "-o", list])
        .ok()
        .is("one=localhost:8080 three=localhost:3 two=example.com:80");
    let patch = ["patch", v1, "one", "--type=merge", "-p", r#"{"hostPort":"localhost:9"}"#];
    namespace.kubectl(&patch).ok();
    assert_eq!(namespace.get(&format!("{v2}/one"), both), "localhost,9,");
    create("four", "v1", "hostPort: 'refused:1'").fails().says(&[
        "conversion webhook for conversion.example.com/v1, Kind=Address failed: that host has no version 2",
    ]);
    cluster.kubectl(&["delete", definition]).ok();
}

fn aggregated(cluster: &mut Cluster) {
    let namespace = cluster.namespace("aggregated");
    cluster.kubectl(&["get", "apiservices", "v1.", "v1.apps"]).ok().matches(r"v1\.apps +Local +True");
    let bundle = deploy(&namespace);
    namespace.apply(&format!(
        "
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: v1.extension.example.com}}
spec:
  group: extension.example.com
  version: v1
  groupPriorityMinimum: 100
  versionPriority: 100
  caBundle: {bundle}
  service: {{namespace: aggregated, name: extension}}
"
    ));
    cluster
        .kubectl(&[
            "wait",
            "--for=condition=Available",
            "apiservice/v1.extension.example.com",
            "--timeout=30s",
        ])
        .ok();
    cluster
        .kubectl(&["api-resources", "--api-group=extension.example.com"])
        .ok()
        .matches(r"flowers +fl +extension");
    namespace.kubectl(&["get", "flowers", "-o", "name"]).ok().has(&["flower.extension.example.com/rose"]);
    assert_eq!(namespace.get("flower/rose", ".spec.user"), "kubernetes-admin");
    assert!(namespace.get("flower/rose", ".spec.groups").contains("system:masters"));
    cluster.kubectl(&["get", "--raw", "/openapi/v3"]).ok().has(&["apis/extension.example.com/v1"]);
    cluster.kubectl(&["explain", "flowers"]).ok().has(&["A flower of the extension."]);
    namespace.kubectl(&["delete", "service", "extension"]).ok();
    let missing = "condition=Available=false";
    cluster
        .kubectl(&[
            "wait",
            &format!("--for={missing}"),
            "apiservice/v1.extension.example.com",
            "--timeout=30s",
        ])
        .ok();
    let reason = ".status.conditions[0].reason";
    let path = format!("jsonpath={{{reason}}}");
    cluster
        .kubectl(&["get", "apiservice", "v1.extension.example.com", "-o", &path])
        .ok()
        .is("ServiceNotFound");
    namespace.kubectl(&["get", "--raw", "/apis/extension.example.com/v1"]).fails();
    cluster.kubectl(&["delete", "apiservice", "v1.extension.example.com"]).ok();
}

fn proxies(cluster: &mut Cluster) {
    let namespace = cluster.namespace("proxies");
    namespace.deploy_web(1, "one");
    namespace.endpoints("web", 1);
    let raw = |path: &str| cluster.kubectl(&["get", "--raw", path]);
    raw("/api/v1/namespaces/proxies/services/web/proxy/").ok().has(&["one web-"]);
    raw("/api/v1/namespaces/proxies/services/http:web:80/proxy/any/path?x=y").ok().has(&["one web-"]);
    let pod = namespace
        .kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"])
        .ok()
        .text();
    raw(&format!("/api/v1/namespaces/proxies/pods/{}:8080/proxy/", pod.trim())).ok().has(&["one web-"]);
    let node = cluster.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]).ok().text();
    let of_node = |path: &str| raw(&format!("/api/v1/nodes/{}/proxy/{path}", node.trim()));
    of_node("healthz").ok().is("ok");
    let container = namespace.get(&format!("pod/{}", pod.trim()), ".spec.containers[0].name");
    of_node(&format!("containerLogs/proxies/{}/{container}", pod.trim())).ok();
    of_node(&format!("containerLogs/proxies/{}/nobody", pod.trim()))
        .fails()
        .says(&["container \"nobody\" not found in pod"]);
    of_node("metrics").ok().has(&[
        "workqueue_adds_total{name=\"deployment\"}",
        "workqueue_depth{name=\"replicaset\"} ",
        "workqueue_queue_duration_seconds_count{name=\"replicaset\"}",
        "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"}",
        "scheduler_scheduling_attempt_duration_seconds_count{profile=\"default-scheduler\",result=\"scheduled\"}",
        "scheduler_pending_pods{queue=\"unschedulable\"} ",
    ]);
    raw("/api/v1/namespaces/proxies/services/web:81/proxy/")
        .fails()
        .says(&["no service port 81 found for service \"web\""]);
    namespace.kubectl(&["scale", "deployment", "web", "--replicas=0"]).ok();
    namespace.endpoints("web", 0);
    raw("/api/v1/namespaces/proxies/services/web/proxy/")
        .fails()
        .says(&["no endpoints available for service"]);
}
