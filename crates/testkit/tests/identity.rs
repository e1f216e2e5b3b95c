//! Who asks, who decides and what is recorded, where that is configured: issuers of tokens, webhooks, bootstrap
//! tokens, the audit log. The servers that Sampan asks run in this process, inside the cluster's network.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sampan_testkit::{Cluster, Output, Suite};
use serde_json::{Value, json};

#[path = "identity/partner.rs"]
mod partner;

use partner::{Issuer, Partner};

const PORT: u16 = 9444;

fn main() -> ExitCode {
    let directory = tempfile::Builder::new().prefix("sampan-identity-").tempdir().expect("a directory");
    let files = Files::write(directory.path());
    let flag = |name: &str, path: &Path| -> &'static str { format!("--{name}={}", path.display()).leak() };
    Suite::new("identity")
        .argument(flag("authentication-config", &files.authentication))
        .argument(flag("authentication-token-webhook-config-file", &files.kubeconfig("token")))
        .argument("--authentication-token-webhook-cache-ttl=1s")
        .argument(flag("authorization-config", &files.authorization))
        .argument(flag("audit-policy-file", &files.audit_policy))
        .argument(flag("audit-log-path", &files.audit_log))
        .argument(flag("audit-webhook-config-file", &files.kubeconfig("audit")))
        .argument("--audit-webhook-batch-max-wait=100ms")
        .check("tokens of an issuer, whose configuration changes", {
            let files = files.clone();
            move |cluster| issuer(cluster, &files)
        })
        .check("tokens that a webhook knows", {
            let files = files.clone();
            move |cluster| token_webhook(cluster, &files)
        })
        .check("bootstrap tokens", {
            let files = files.clone();
            move |cluster| bootstrap_tokens(cluster, &files)
        })
        .check("secrets with tokens of service accounts", {
            let files = files.clone();
            move |cluster| token_secrets(cluster, &files)
        })
        .check("a webhook that decides", {
            let files = files.clone();
            move |cluster| authorization_webhook(cluster, &files)
        })
        .check("requests without credentials", {
            let files = files.clone();
            move |cluster| anonymous(cluster, &files)
        })
        .check("the audit log and the audit webhook", move |cluster| audit(cluster, &files))
        .run()
}

/// What the server is configured with.
#[derive(Clone)]
struct Files {
    directory: PathBuf,
    authentication: PathBuf,
    authorization: PathBuf,
    audit_policy: PathBuf,
    audit_log: PathBuf,
    partner: Partner,
}

impl Files {
    fn write(directory: &Path) -> Files {
        let partner = Partner::new(PORT);
        let files = Files {
            directory: directory.to_owned(),
            authentication: directory.join("authentication.yaml"),
            authorization: directory.join("authorization.yaml"),
            audit_policy: directory.join("policy.yaml"),
            audit_log: directory.join("audit.log"),
            partner,
        };
        files.configure("oidc:");
        for path in ["token", "authorize", "audit"] {
            let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": format!("https://127.0.0.1:{PORT}/{path}"),
                    "certificate-authority-data": STANDARD.encode(&files.partner.authority)}}],
                "users": [{"name": "u", "user": {"token": "of-the-server"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
            write(&files.kubeconfig(path), &kubeconfig);
        }
        let webhook = json!({"timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
            "matchConditionSubjectAccessReviewVersion": "v1", "unauthorizedTTL": "1s", "authorizedTTL": "1s",
            "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": files.kubeconfig("authorize")},
            "matchConditions": [{"expression": "request.user.startsWith('asked-')"}]});
        write(
            &files.authorization,
            &json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
            "authorizers": [{"type": "Webhook", "name": "partner", "webhook": webhook}, {"type": "Node", "name": "node"},
                {"type": "RBAC", "name": "rbac"}]}),
        );
        write(
            &files.audit_policy,
            &json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [{"level": "Request", "resources": [{"resources": ["configmaps"]}], "namespaces": ["audited"]},
                {"level": "Metadata", "resources": [{"resources": ["secrets"]}], "namespaces": ["audited"]},
                {"level": "None"}]}),
        );
        files
    }

    fn kubeconfig(&self, path: &str) -> PathBuf {
        self.directory.join(format!("{path}.kubeconfig"))
    }

    /// The issuer's part, with a prefix for names of users.
    fn configure(&self, prefix: &str) {
        let configuration = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
            "jwt": [{"issuer": {"url": format!("https://127.0.0.1:{PORT}"), "audiences": ["sampan"],
                    "certificateAuthority": self.partner.authority},
                "claimMappings": {"username": {"claim": "sub", "prefix": prefix}, "groups": {"expression": "claims.roles"}},
                "claimValidationRules": [{"expression": "claims.tenant == 'us'", "message": "of another tenant"}]}]});
        // Replaced in one step, as configuration management does it.
        let new = self.directory.join("new");
        write(&new, &configuration);
        std::fs::rename(new, &self.authentication).expect("the directory can be written");
    }
}

fn write(path: &Path, value: &Value) {
    std::fs::write(path, value.to_string()).expect("the directory can be written");
}

/// The file of the authority that the API's certificate is of.
fn authority(cluster: &Cluster, files: &Files) -> String {
    let file = files.directory.join("cluster.crt");
    if !file.exists() {
        let path = "jsonpath={.clusters[0].cluster.certificate-authority-data}";
        let text = cluster.kubectl(&["config", "view", "--raw", "-o", path]).ok().text();
        let pem = STANDARD.decode(text.trim()).expect("base64");
        std::fs::write(&file, pem).expect("the directory can be written");
    }
    file.to_str().expect("text").to_owned()
}

/// kubectl with a token alone.
fn with_token(cluster: &Cluster, files: &Files, token: &str, arguments: &[&str]) -> Output {
    let authority = format!("--certificate-authority={}", authority(cluster, files));
    let server = format!("--server=https://{}", sampan_testkit::cluster::API);
    let token = format!("--token={token}");
    let fixed = ["--kubeconfig=/dev/null", &server, &authority, &token];
    cluster.kubectl(&[&fixed, arguments].concat())
}

/// Waits until the server has written something.
fn log_says(cluster: &Cluster, what: &str) {
    let path = cluster.scratch().join("server.log");
    cluster.spawn(&["tail", "-n", "+1", "-F", path.to_str().expect("text")]).until(what);
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs()
}

fn issuer(cluster: &mut Cluster, files: &Files) {
    let issuer = Issuer::new(&files.partner);
    files.partner.serve(cluster);
    let claims = |changes: Value| {
        let mut claims = json!({"iss": format!("https://127.0.0.1:{PORT}"), "aud": "sampan", "sub": "jane",
            "roles": ["dev", "ops"], "tenant": "us", "exp": now() + 600});
        for (name, value) in changes.as_object().expect("changes") {
            claims[name] = value.clone();
        }
        claims
    };
    let whoami = ["auth", "whoami"];
    let token = issuer.sign("one", &claims(json!({})));
    with_token(cluster, files, &token, &whoami)
        .ok()
        .matches(r"^Username +oidc:jane$")
        .matches(r"^Groups +\[dev ops system:authenticated\]$");
    for wrong in [
        json!({"aud": "other"}),
        json!({"exp": now() - 600}),
        json!({"tenant": "them"}),
        json!({"iss": "https://x"}),
    ] {
        let token = issuer.sign("one", &claims(wrong));
        with_token(cluster, files, &token, &whoami).fails().says(&["Unauthorized"]);
    }
    with_token(cluster, files, &format!("{token}AAAA"), &whoami).fails().says(&["Unauthorized"]);
    // What the roles give to a group of the issuer.
    let bind = ["create", "clusterrolebinding", "ops-view", "--clusterrole=view", "--group=ops"];
    cluster.kubectl(&bind).ok();
    with_token(cluster, files, &token, &["auth", "can-i", "list", "pods"]).ok().is("yes");
    with_token(cluster, files, &token, &["get", "pods"]).ok();
    with_token(cluster, files, &token, &["get", "secrets"])
        .fails()
        .says(&["User \"oidc:jane\" cannot list resource \"secrets\""]);
    cluster.kubectl(&["delete", "clusterrolebinding", "ops-view"]).ok();
    // Another prefix, without a restart.
    files.configure("id:");
    log_says(cluster, "a changed configuration is in use");
    with_token(cluster, files, &token, &whoami).ok().matches(r"^Username +id:jane$");
    // What cannot be used changes nothing.
    write(&files.authentication, &json!({"kind": "nonsense"}));
    log_says(cluster, "a changed configuration is not used");
    with_token(cluster, files, &token, &whoami).ok().matches(r"^Username +id:jane$");
}

fn token_webhook(cluster: &mut Cluster, files: &Files) {
    files.partner.serve(cluster);
    files.partner.answer("/token", |review| {
        let known = review["spec"]["token"] == "magic";
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": if known {
            json!({"authenticated": true, "user": {"username": "merlin", "groups": ["wizards"], "extra": {"example.com/a": ["b"]}}})
        } else {
            json!({"authenticated": false})
        }})
    });
    with_token(cluster, files, "magic", &["auth", "whoami"])
        .ok()
        .matches(r"^Username +merlin$")
        .matches(r"^Groups +\[wizards system:authenticated\]$")
        .matches(r"^Extra: example.com/a +\[b\]$");
    with_token(cluster, files, "other", &["auth", "whoami"]).fails().says(&["Unauthorized"]);
    let asked = files.partner.requests("/token");
    assert_eq!(asked[0]["authorization"], "Bearer of-the-server");
    assert_eq!(
        asked[0]["body"]["spec"]["audiences"],
        json!(["https://kubernetes.default.svc.cluster.local"])
    );
}

fn bootstrap_tokens(cluster: &mut Cluster, files: &Files) {
    let create = |id: &str, expiration: &str| {
        let manifest = json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
            "stringData": {"token-id": id, "token-secret": "0123456789abcdef", "expiration": expiration,
                "usage-bootstrap-authentication": "true", "auth-extra-groups": "system:bootstrappers:edge"}});
        cluster.kubectl_stdin(&["apply", "-f", "-"], &manifest.to_string()).ok();
    };
    create("abc123", "2100-01-01T00:00:00Z");
    with_token(cluster, files, "abc123.0123456789abcdef", &["auth", "whoami"])
        .ok()
        .matches(r"^Username +system:bootstrap:abc123$")
        .matches(r"^Groups +\[system:bootstrappers system:bootstrappers:edge system:authenticated\]$");
    with_token(cluster, files, "abc123.0123456789abcdee", &["auth", "whoami"])
        .fails()
        .says(&["Unauthorized"]);
    cluster.kubectl(&["-n", "kube-system", "delete", "secret", "bootstrap-token-abc123"]).ok();
    with_token(cluster, files, "abc123.0123456789abcdef", &["auth", "whoami"])
        .fails()
        .says(&["Unauthorized"]);

    create("old123", "2020-01-01T00:00:00Z");
    let gone =
        ["-n", "kube-system", "wait", "--for=delete", "secret/bootstrap-token-old123", "--timeout=60s"];
    cluster.kubectl(&gone).ok();
}

fn token_secrets(cluster: &mut Cluster, files: &Files) {
    cluster.kubectl(&["create", "serviceaccount", "robot"]).ok();
    let manifest = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "of-robot", "annotations": {"kubernetes.io/service-account.name": "robot"}}});
    cluster.kubectl_stdin(&["apply", "-f", "-"], &manifest.to_string()).ok();
    let filled = ["wait", "--for=jsonpath={.data.token}", "secret/of-robot", "--timeout=60s"];
    cluster.kubectl(&filled).ok();
    let field = |path: &str| {
        let shown =
            cluster.kubectl(&["get", "secret", "of-robot", "-o", &format!("jsonpath={{{path}}}")]).ok();
        String::from_utf8(STANDARD.decode(shown.stdout.trim()).expect("base64")).expect("text")
    };
    assert_eq!(field(".data.namespace"), "default");
    assert!(field(r".data.ca\.crt").starts_with("-----BEGIN CERTIFICATE-----"));
    let token = field(".data.token");
    with_token(cluster, files, &token, &["auth", "whoami"])
        .ok()
        .matches(r"^Username +system:serviceaccount:default:robot$");
    cluster.kubectl(&["delete", "serviceaccount", "robot"]).ok();
    cluster.kubectl(&["wait", "--for=delete", "secret/of-robot", "--timeout=60s"]).ok();
    with_token(cluster, files, &token, &["auth", "whoami"]).fails().says(&["Unauthorized"]);
}

fn authorization_webhook(cluster: &mut Cluster, files: &Files) {
    files.partner.serve(cluster);
    files.partner.answer("/authorize", |review| {
        let resource = &review["spec"]["resourceAttributes"]["resource"];
        let status = match resource.as_str() {
            Some("pods") => json!({"allowed": true, "reason": "pods are free"}),
            Some("secrets") => json!({"allowed": false, "denied": true, "reason": "secrets are not"}),
            _ => json!({"allowed": false, "reason": "nothing to say"}),
        };
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": status})
    });
    let bind =
        ["create", "clusterrolebinding", "asked-all", "--clusterrole=cluster-admin", "--user=asked-jane"];
    cluster.kubectl(&["get", "pods", "--as=asked-jane"]).ok();
    cluster
        .kubectl(&["get", "configmaps", "--as=asked-jane"])
        .fails()
        .says(&["cannot list resource \"configmaps\"", "nothing to say"]);
    cluster.kubectl(&bind).ok();
    cluster.kubectl(&["get", "configmaps", "--as=asked-jane"]).ok();
    // Who is asked first has the last word when it denies.
    cluster
        .kubectl(&["get", "secrets", "--as=asked-jane"])
        .fails()
        .says(&["cannot list resource \"secrets\"", "secrets are not"]);
    cluster
        .kubectl(&["auth", "can-i", "list", "secrets", "--as=asked-jane"])
        .fails()
        .has(&["no - secrets are not"]);
    cluster.kubectl(&["delete", "clusterrolebinding", "asked-all"]).ok();
    // It is asked for those alone whom its conditions name.
    let users: Vec<Value> =
        files.partner.requests("/authorize").iter().map(|one| one["body"]["spec"]["user"].clone()).collect();
    assert!(!users.is_empty() && users.iter().all(|user| user == "asked-jane"), "{users:?}");
}

fn anonymous(cluster: &mut Cluster, files: &Files) {
    // kubectl asks for a name where it has no credentials.
    let authority = authority(cluster, files);
    let ask = |path: &str| {
        let url = format!("https://{}{path}", sampan_testkit::cluster::API);
        cluster.run(&["curl", "-sS", "-w", " %{http_code}", "--cacert", &authority, &url])
    };
    for path in ["/livez", "/readyz", "/healthz"] {
        ask(path).ok().is("ok 200");
    }
    for path in ["/version", "/api", "/api/v1/namespaces", "/metrics", "/livez/ping"] {
        ask(path).ok().has(&["Unauthorized", "401"]);
    }
}

fn audit(cluster: &mut Cluster, files: &Files) {
    files.partner.serve(cluster);
    files.partner.answer("/audit", |_| json!({}));
    let namespace = cluster.namespace("audited");
    namespace.kubectl(&["create", "configmap", "told", "--from-literal=a=b"]).ok();
    namespace.kubectl(&["create", "secret", "generic", "kept", "--from-literal=a=hidden-value"]).ok();
    namespace.kubectl(&["get", "configmap", "none", "--as=jane"]).fails();
    // It is told to the webhook in batches, whose last event comes last.
    let mut delivered: Vec<Value> = Vec::new();
    let is_refusal = |event: &Value| event["impersonatedUser"]["username"] == "jane";
    files.partner.until("/audit", |requests| {
        let items = requests.iter().filter_map(|request| request["body"]["items"].as_array());
        delivered = items.flatten().cloned().collect();
        delivered.iter().any(is_refusal)
    });
    let log = std::fs::read_to_string(&files.audit_log).expect("a log");
    assert!(!log.contains("hidden-value"), "the policy keeps secrets out");
    let logged: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for events in [&logged, &delivered] {
        let find = |verb: &str, resource: &str| {
            let is_it = |event: &&Value| {
                event["verb"] == verb
                    && event["objectRef"]["resource"] == resource
                    && event["objectRef"]["namespace"] == "audited"
                    && event["objectRef"]["name"] != "kube-root-ca.crt"
            };
            events.iter().find(is_it).unwrap_or_else(|| panic!("{verb} {resource} is in {events:#?}"))
        };
        let created = find("create", "configmaps");
        assert_eq!(created["user"]["username"], "kubernetes-admin");
        assert_eq!(created["sourceIPs"], json!(["127.0.0.1"]));
        assert_eq!(created["requestObject"]["data"], json!({"a": "b"}));
        assert_eq!(created["responseStatus"]["code"], 201);
        assert_eq!((&created["stage"], &created["level"]), (&json!("ResponseComplete"), &json!("Request")));
        assert!(created["userAgent"].as_str().is_some_and(|agent| agent.starts_with("kubectl")), "{created}");
        let secret = find("create", "secrets");
        assert_eq!((&secret["level"], &secret["requestObject"]), (&json!("Metadata"), &Value::Null));
        let refused = events.iter().find(|event| is_refusal(event)).expect("a refusal");
        assert_eq!(refused["responseStatus"]["code"], 403);
        assert_eq!(refused["annotations"]["authorization.k8s.io/decision"], "forbid");
    }
    let metrics = cluster.kubectl(&["get", "--raw", "/metrics"]).ok().text();
    assert!(metrics.contains("apiserver_audit_level_total{level=\"Request\"}"), "levels are counted");
}
