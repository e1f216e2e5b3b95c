//! The plugins, on a whole server.

use http::Response;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::testing::{TestServer, bytes_of, request};

async fn answer(response: Response<Incoming>) -> (u16, Vec<String>, Value) {
    let code = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.map(|value| value.to_str().expect("text").to_owned()).collect();
    let body = bytes_of(response).await;
    (code, warnings, serde_json::from_slice(&body).expect("JSON"))
}

async fn send(server: &TestServer, method: &str, path: &str, body: Value) -> (u16, Vec<String>, Value) {
    let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    answer(server.send(request(method, path, &[("content-type", kind)], body.to_string())).await).await
}

/// A server with a namespace `n` that can hold pods.
async fn server(labels: Value) -> TestServer {
    let server = TestServer::start().await;
    server.create("/api/v1/namespaces", &json!({"metadata": {"name": "n", "labels": labels}})).await;
    server.create("/api/v1/namespaces/n/serviceaccounts", &json!({"metadata": {"name": "default"}})).await;
    server
}

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

#[tokio::test]
async fn a_crowd_does_not_exceed_a_quota() {
    let server = server(json!({})).await;
    let hard = json!({"secrets": "5", "count/secrets": "20"});
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    server.create("/api/v1/namespaces/n/resourcequotas", &quota).await;
    let status = json!({"status": {"hard": hard, "used": {"secrets": "0", "count/secrets": "0"}}});
    let at = "/api/v1/namespaces/n/resourcequotas/q";
    assert_eq!(send(&server, "PATCH", &format!("{at}/status"), status).await.0, 200);
    let create = |name: usize| {
        let server = &server;
        async move {
            // Every name is asked for twice: the second one fails and must cost nothing.
            let secret = json!({"metadata": {"name": format!("s{}", name / 2)}});
            send(server, "POST", "/api/v1/namespaces/n/secrets", secret).await
        }
    };
    let answers = futures_util::future::join_all((0..40).map(create)).await;
    let codes = |code: u16| answers.iter().filter(|answer| answer.0 == code).count();
    assert_eq!(codes(201), 5, "{answers:?}");
    assert_eq!(codes(201) + codes(403) + codes(409), 40);
    let refused = answers.iter().find(|answer| answer.0 == 403).expect("more than five were asked for");
    let message = refused.2["message"].as_str().expect("a message");
    let why = "is forbidden: exceeded quota: q, requested: secrets=1, used: secrets=5, limited: secrets=5";
    assert!(message.starts_with("secrets \"s") && message.ends_with(why), "{message}");
    let (_, _, quota) = answer(server.get(at, &[]).await).await;
    assert_eq!(quota["status"]["used"], json!({"secrets": "5", "count/secrets": "5"}));
    let (_, _, list) = answer(server.get("/api/v1/namespaces/n/secrets", &[]).await).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(5));
}

#[tokio::test]
async fn limits_are_set_and_held() {
    let server = server(json!({})).await;
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "default": {"cpu": "500m"}, "max": {"cpu": "1"}}]}});
    server.create("/api/v1/namespaces/n/limitranges", &range).await;
    let pods = "/api/v1/namespaces/n/pods";
    let (code, _, created) = send(&server, "POST", pods, pod("a")).await;
    assert_eq!(
        (code, &created["spec"]["containers"][0]["resources"]["limits"]["cpu"]),
        (201, &json!("500m"))
    );
    let mut big = pod("b");
    big["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    let (code, _, status) = send(&server, "POST", pods, big).await;
    assert_eq!(code, 403);
    let why = "pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2";
    assert_eq!(status["message"], why);
}

#[tokio::test]
async fn pods_keep_to_their_namespaces_standard() {
    let server = server(json!({"pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/warn": "restricted"}))
    .await;
    let mut privileged = pod("p");
    privileged["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let (code, warnings, status) =
        send(&server, "POST", "/api/v1/namespaces/n/pods", privileged.clone()).await;
    assert_eq!((code, warnings.len()), (403, 0));
    assert_eq!(
        status["message"],
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": privileged \
         (container \"c\" must not set securityContext.privileged=true)"
    );
    let (code, warnings, _) = send(&server, "POST", "/api/v1/namespaces/n/pods", pod("q")).await;
    assert_eq!(code, 201);
    assert!(
        warnings[0].contains(
            "would violate PodSecurity \\\"restricted:latest\\\": allowPrivilegeEscalation != false"
        )
    );
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": privileged["spec"]});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let (code, warnings, _) =
        send(&server, "POST", "/apis/apps/v1/namespaces/n/deployments", deployment).await;
    assert_eq!((code, warnings.len()), (201, 1));
    let labels = |labels: Value| json!({"metadata": {"labels": labels}});
    let stricter = labels(json!({"pod-security.kubernetes.io/enforce": "restricted"}));
    let (code, warnings, _) = send(&server, "PATCH", "/api/v1/namespaces/n", stricter).await;
    assert_eq!((code, warnings.len()), (200, 2));
    assert!(
        warnings[1].contains("q: allowPrivilegeEscalation != false, unrestricted capabilities"),
        "{warnings:?}"
    );
    let wrong = labels(json!({"pod-security.kubernetes.io/enforce": "strict"}));
    let (code, _, status) = send(&server, "PATCH", "/api/v1/namespaces/n", wrong).await;
    assert_eq!(code, 422);
    assert_eq!(
        status["details"]["causes"][0]["field"],
        "metadata.labels[pod-security.kubernetes.io/enforce]"
    );
}

#[tokio::test]
async fn classes_are_chosen() {
    let server = server(json!({})).await;
    let class = |name: &str, field: &str| json!({"metadata": {"name": name, "annotations": {field: "true"}}, "provisioner": "p"});
    server
        .create(
            "/apis/storage.k8s.io/v1/storageclasses",
            &class("gold", "storageclass.kubernetes.io/is-default-class"),
        )
        .await;
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    let claims = "/api/v1/namespaces/n/persistentvolumeclaims";
    let (_, _, created) = send(&server, "POST", claims, claim).await;
    assert_eq!(created["spec"]["storageClassName"], "gold");
    assert_eq!(created["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    assert_eq!(send(&server, "PATCH", &format!("{claims}/c/status"), bound).await.0, 200);
    let larger = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let (code, _, status) = send(&server, "PATCH", &format!("{claims}/c"), larger).await;
    assert_eq!(code, 403, "{status}");
    assert_eq!(
        status["message"],
        "persistentvolumeclaims \"c\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
    );
    let priority = |name: &str| json!({"metadata": {"name": name}, "value": 7, "globalDefault": true});
    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    server.create(classes, &priority("seven")).await;
    let (code, _, status) = send(&server, "POST", classes, priority("other")).await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass seven is already marked as default. Only one default can exist"
    );
    let (_, _, created) = send(&server, "POST", "/api/v1/namespaces/n/pods", pod("a")).await;
    assert_eq!(created["spec"]["priorityClassName"], "seven");
    let mut unknown = pod("b");
    unknown["spec"]["runtimeClassName"] = json!("vm");
    let (_, _, status) = send(&server, "POST", "/api/v1/namespaces/n/pods", unknown).await;
    assert_eq!(status["message"], "pods \"b\" is forbidden: pod rejected: RuntimeClass \"vm\" not found");
}
