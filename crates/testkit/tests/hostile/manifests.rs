//! Bodies of requests that are too large, too deep or of wrong types.

use sampan_testkit::{Cluster, Namespace, Output};

use super::bounded;

/// Sends a body with curl, past kubectl's own checks; prints the status code after the answer.
fn post(namespace: &Namespace<'_>, content_type: &str, body: &[u8]) -> Output {
    let cluster = namespace.cluster;
    let file = cluster.scratch().join("body");
    std::fs::write(&file, body).expect("the scratch directory can be written");
    let proxy = cluster.scratch().join("proxy.sock");
    let _ = std::fs::remove_file(&proxy);
    let socket = proxy.to_str().expect("text");
    let mut running = cluster.spawn(&["kubectl", "proxy", "--unix-socket", socket]);
    running.until("Starting to serve");
    let url = format!("http://localhost/api/v1/namespaces/{}/configmaps", namespace.name);
    let (header, data) = (format!("Content-Type: {content_type}"), format!("@{}", file.display()));
    let output = cluster.run(&[
        "curl",
        "-sS",
        "--unix-socket",
        socket,
        "-H",
        &header,
        "-H",
        "Expect:",
        "--data-binary",
        &data,
        "-w",
        "\n%{http_code}",
        &url,
    ]);
    running.kill();
    output
}

pub fn large(cluster: &mut Cluster) {
    let namespace = cluster.namespace("large");
    let filling = "x".repeat(100 << 20);
    bounded(cluster, 64, || {
        let manifest =
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: huge}}\ndata: {{a: {filling}}}\n");
        let refused = namespace.kubectl_stdin(&["create", "-f", "-"], &manifest).fails();
        assert!(refused.stderr.contains("too large"), "{refused}");
    });
    bounded(cluster, 64, || {
        let body = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"huge"}},"data":{{"a":"{filling}"}}}}"#
        );
        let answer = post(&namespace, "application/json", body.as_bytes());
        // The server may refuse by the length alone, and close before all has been sent: curl then could not
        // send (55), or finds the connection reset when it comes to read the answer (56).
        let closed = ["curl: (55)", "curl: (56)"].iter().any(|told| answer.stderr.contains(told));
        assert!(answer.stdout.contains("413") || closed, "{answer}");
    });
    namespace.kubectl(&["get", "configmaps", "-o", "name"]).ok().lacks(&["huge"]);
    // Within the size of a request, yet more than an object may hold.
    let body = format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"big"}},"data":{{"a":"{}"}}}}"#,
        "x".repeat(1_200_000)
    );
    post(&namespace, "application/json", body.as_bytes())
        .has(&["Too long: may not be more than 1048576 bytes", "422"]);
}

pub fn deep(cluster: &mut Cluster) {
    let namespace = cluster.namespace("deep");
    let nested = |open: &str, close: &str| format!("{}{}", open.repeat(10_000), close.repeat(10_000));
    bounded(cluster, 64, || {
        for value in [nested("[", "]"), nested("{\"a\":", "}").replace(":}", ":1}")] {
            let body = format!(
                r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"deep"}},"data":{value}}}"#
            );
            post(&namespace, "application/json", body.as_bytes()).matches("^400$");
        }
        let yaml = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: deep}}\ndata: {}\n",
            nested("[", "]")
        );
        post(&namespace, "application/yaml", yaml.as_bytes()).matches("^400$");
        // Ten levels that would be ten to the ninth.
        let mut bomb =
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\ndata:\n  l0: &l0 lol\n".to_owned();
        for level in 1..10 {
            let aliases = vec![format!("*l{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("  l{level}: &l{level} [{aliases}]\n"));
        }
        post(&namespace, "application/yaml", bomb.as_bytes()).matches("^400$");
    });
}

pub fn mistyped(cluster: &mut Cluster) {
    let namespace = cluster.namespace("mistyped");
    let check = |content_type: &str, body: &str, code: &str, says: &str| {
        post(&namespace, content_type, body.as_bytes())
            .matches(&format!("^{code}$"))
            .has(&[says, "\"kind\": \"Status\""]);
    };
    let json = "application/json";
    let object = |rest: &str| format!(r#"{{"apiVersion":"v1","kind":"ConfigMap",{rest}}}"#);
    check(json, &object(r#""metadata":7"#), "400", "metadata");
    check(json, &object(r#""metadata":{"name":["a"]}"#), "400", "name");
    check(json, &object(r#""metadata":{"name":"a"},"data":{"a":{"b":1}}"#), "400", "data");
    check(json, &object(r#""metadata":{"name":"a"},"data":[]"#), "400", "data");
    check(json, &object(r#""metadata":{"name":"a"},"immutable":"maybe""#), "400", "immutable");
    check(json, &object(r#""metadata":{}"#), "422", "name or generateName is required");
    check(json, r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#, "400", "ConfigMap");
    check(json, r#"{"apiVersion":"v9","kind":"ConfigMap","metadata":{"name":"a"}}"#, "400", "v9");
    check(json, "[1, 2]", "400", "");
    check(json, "{\"a\":", "400", "");
    check(json, "", "400", "");
    check(json, "null", "400", "");
    check("application/yaml", "a: b: c", "400", "");
    check("application/vnd.kubernetes.protobuf", "k8s\0\u{1}\u{2}\u{3}", "400", "");
    check("application/vnd.kubernetes.protobuf", "nonsense", "400", "");
    check("text/plain", "{}", "415", "media type");
    let mut binary = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":""#.to_vec();
    binary.extend([0xff, 0xfe, b'"', b'}', b'}']);
    post(&namespace, json, &binary).matches("^400$");
    namespace.kubectl(&["get", "configmaps", "-o", "name"]).ok().lacks(&["configmap/a"]);
}
