//! What a whole server writes about requests.

use std::path::Path;

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::log::{Limits, Log, LogConfig};
use super::policy::Policy;
use super::*;
use crate::testing::{TestServer, bytes_of, request};

const LIMITS: Limits = Limits { file_bytes: 1 << 26, backups: 0, age_days: 0, total_bytes: 1 << 28 };

struct Audited {
    server: TestServer,
    directory: tempfile::TempDir,
}

impl Audited {
    async fn start(rules: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}");
        let path = directory.path().join("audit.log");
        let log = Log::open(LogConfig { path, limits: LIMITS, compress: false }).expect("a log");
        let log = LogSink { log, mode: LogMode::Blocking, max_event: MAX_EVENT };
        let policy = Policy::read(text.as_bytes()).expect("a policy");
        let audit = Some(AuditConfig { policy, log: Some(log), webhook: None });
        Audited {
            server: TestServer::with(crate::Surroundings { audit, ..Default::default() }).await,
            directory,
        }
    }

    /// The events since the last call, of a request that has been answered in full.
    async fn events(&self, request: Request<Full<bytes::Bytes>>) -> Vec<Value> {
        let response: Response<Incoming> = self.server.send(request).await;
        let id = response.headers()["audit-id"].clone();
        let _ = response.into_body().collect().await;
        self.until(|event| event["auditID"] == id.to_str().expect("text")).await
    }

    /// The events of a request, once the last one is there: the client may be done before the server is.
    async fn until(&self, is_its: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        for _ in 0..1000 {
            events = lines(&self.directory.path().join("audit.log"));
            events.retain(&is_its);
            if stages(&events).contains(&"ResponseComplete") {
                return events;
            }
            tokio::task::yield_now().await;
        }
        assert!(events.is_empty(), "the request has not ended");
        events
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("a log");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn stages(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["stage"].as_str()).collect()
}

const JSON: (&str, &str) = ("content-type", "application/json");
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn a_write_is_told_with_who_what_and_how_it_was_answered() {
    let audited = Audited::start("- level: RequestResponse\n").await;
    audited.server.create("/api/v1/namespaces", &json!({"metadata": {"name": "default"}})).await;
    let body = json!({"metadata": {"name": "one"}, "data": {"k": "v"}}).to_string();
    let headers = [JSON, ("user-agent", "test/1"), ("x-forwarded-for", "10.1.2.3")];
    let events = audited.events(request("POST", MAPS, &headers, body)).await;
    assert_eq!(stages(&events), ["RequestReceived", "ResponseComplete"]);
    let [received, complete] = &events[..] else { unreachable!() };
    assert_eq!(received["objectRef"]["name"], Value::Null);
    assert_eq!(received["requestObject"], Value::Null);
    assert_eq!((&complete["verb"], &complete["requestURI"]), (&json!("create"), &json!(MAPS)));
    assert_eq!((&complete["userAgent"], &complete["sourceIPs"]), (&json!("test/1"), &json!(["10.1.2.3"])));
    assert_eq!(complete["user"]["groups"], json!(["system:masters", "system:authenticated"]));
    let reference =
        json!({"resource": "configmaps", "namespace": "default", "name": "one", "apiVersion": "v1"});
    assert_eq!(complete["objectRef"], reference);
    assert_eq!(complete["responseStatus"], json!({"metadata": {}, "code": 201}));
    assert_eq!(complete["requestObject"]["data"], json!({"k": "v"}));
    assert_eq!(complete["responseObject"]["metadata"]["name"], "one");
    assert_eq!(complete["annotations"]["authorization.k8s.io/decision"], "allow");
}

#[tokio::test]
async fn a_level_shows_no_more_than_it_says() {
    let audited = Audited::start(
        "- {level: None, nonResourceURLs: ['/version']}\n\
         - {level: Metadata, verbs: [get], omitStages: [RequestReceived]}\n\
         - {level: Request, omitManagedFields: true}\n",
    )
    .await;
    audited.server.create("/api/v1/namespaces", &json!({"metadata": {"name": "default"}})).await;
    audited.server.create(MAPS, &json!({"metadata": {"name": "one"}})).await;
    assert!(audited.events(request("GET", "/version", &[], "")).await.is_empty());
    let events = audited.events(request("GET", &format!("{MAPS}/one"), &[], "")).await;
    assert_eq!(stages(&events), ["ResponseComplete"]);
    assert_eq!((&events[0]["requestObject"], &events[0]["responseObject"]), (&Value::Null, &Value::Null));
    let missing = audited.events(request("GET", &format!("{MAPS}/two"), &[], "")).await;
    let status = &missing[0]["responseStatus"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(404), &json!("NotFound")));
    let managed = json!([{"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}]);
    let body = json!({"metadata": {"name": "one", "managedFields": managed}, "data": {}}).to_string();
    let events = audited.events(request("PUT", &format!("{MAPS}/one"), &[JSON], body)).await;
    assert_eq!(events[1]["requestObject"]["metadata"], json!({"name": "one"}));
    assert_eq!(events[1]["responseObject"], Value::Null);
    let patch = [("content-type", "application/merge-patch+json")];
    let events =
        audited.events(request("PATCH", &format!("{MAPS}/one"), &patch, r#"{"data":{"a":"b"}}"#)).await;
    assert_eq!(events[1]["requestObject"], json!({"data": {"a": "b"}}));
}

#[tokio::test]
async fn answers_are_told_as_json_however_they_were_sent() {
    let audited = Audited::start("- level: RequestResponse\n").await;
    audited.server.create("/api/v1/namespaces", &json!({"metadata": {"name": "default"}})).await;
    let data = "x".repeat(200_000);
    audited.server.create(MAPS, &json!({"metadata": {"name": "one"}, "data": {"k": data}})).await;
    let target = format!("{MAPS}/one");
    for headers in [
        [("accept", "application/vnd.kubernetes.protobuf"), ("accept-encoding", "gzip")],
        [("accept", "application/yaml"), ("accept-encoding", "identity")],
        [("accept", "application/json"), ("accept-encoding", "gzip")],
    ] {
        let events = audited.events(request("GET", &target, &headers, "")).await;
        assert_eq!(events[1]["responseObject"]["data"]["k"], data.as_str(), "{headers:?}");
        assert_eq!(events[1]["responseObject"]["kind"], "ConfigMap", "{headers:?}");
        let events = audited.events(request("GET", MAPS, &headers, "")).await;
        assert_eq!(events[1]["responseObject"]["items"][0]["data"]["k"], data.as_str(), "{headers:?}");
        assert_eq!(events[1]["responseObject"]["kind"], "ConfigMapList", "{headers:?}");
    }
}

#[tokio::test]
async fn a_token_is_recognised_by_its_number() {
    let audited = Audited::start("- level: Metadata\n").await;
    audited.server.create("/api/v1/namespaces", &json!({"metadata": {"name": "default"}})).await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    audited.server.create(accounts, &json!({"metadata": {"name": "bot"}})).await;
    let target = format!("{accounts}/bot/token");
    let response = audited.server.send(request("POST", &target, &[JSON], "{}")).await;
    let made: Value = serde_json::from_slice(&bytes_of(response).await).expect("JSON");
    let issued =
        audited.until(|event| event["objectRef"]["subresource"] == "token").await.pop().expect("an event");
    let id = &issued["annotations"]["authentication.kubernetes.io/issued-credential-id"];
    assert!(id.as_str().is_some_and(|id| id.starts_with("JTI=")), "{issued}");
    // A certificate wins over a token; the review tells whose a token is.
    let review = json!({"spec": {"token": made["status"]["token"]}}).to_string();
    let response = audited
        .server
        .send(request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", &[JSON], review))
        .await;
    let review: Value = serde_json::from_slice(&bytes_of(response).await).expect("JSON");
    assert_eq!(&review["status"]["user"]["extra"]["authentication.kubernetes.io/credential-id"][0], id);
}

#[tokio::test]
async fn refusals_say_why() {
    let audited = Audited::start("- level: Metadata\n").await;
    let jane = [("impersonate-user", "jane"), ("impersonate-group", "dev")];
    let events = audited.events(request("GET", MAPS, &jane, "")).await;
    let complete = &events[1];
    assert_eq!(complete["impersonatedUser"]["username"], "jane");
    assert_eq!(complete["responseStatus"]["code"], 403);
    let annotations = json!({"authorization.k8s.io/decision": "forbid", "authorization.k8s.io/reason": ""});
    assert_eq!(complete["annotations"], annotations);
}

#[tokio::test]
async fn a_watch_is_told_when_it_begins_and_when_it_ends() {
    let audited = Audited::start("- {level: Metadata, omitStages: [RequestReceived]}\n").await;
    let target = format!("{MAPS}?watch=1&timeoutSeconds=1");
    let response = audited.server.send(request("GET", &target, &[], "")).await;
    assert_eq!(stages(&lines(&audited.directory.path().join("audit.log"))), ["ResponseStarted"]);
    bytes_of(response).await;
    assert_eq!(stages(&audited.until(|_| true).await), ["ResponseStarted", "ResponseComplete"]);
}
