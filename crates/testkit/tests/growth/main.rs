//! A week's load in a minute: everything that a cluster keeps has a bound, and each holds at every look.
//!
//! Clients make events, renew the leases of many nodes and rewrite large objects as fast as they are served, with each
//! request in the audit log; pods log without a pause, come, go and are restarted. Bounds are small, so that all of them are
//! reached many times over. `SAMPAN_GROWTH_SECONDS` says how long it goes on.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use sampan_testkit::{Cluster, Suite, Workers};
use serde_json::{Value, json};

mod bounds;
mod load;

use bounds::{Bounds, Seen};

/// What the server is told.
pub const EVENT_TTL_S: u64 = 5;
pub const AUDIT_FILE_BYTES: u64 = 1 << 20;
pub const AUDIT_BACKUPS: u64 = 3;
pub const LOG_FILE_BYTES: u64 = 256 << 10;
pub const LOG_FILES: u64 = 3;

/// What the audit log has of the first request.
const FIRST: &str = r#""name":"first""#;
/// How much longer a slow machine may take until all bounds are come to.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let directory = tempfile::Builder::new().prefix("sampan-growth-").tempdir().expect("a directory");
    let policy = directory.path().join("policy.yaml");
    let rules = json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{"level": "Request"}]});
    std::fs::write(&policy, rules.to_string()).expect("the directory can be written");
    let audit = directory.path().join("audit");
    let flag = |text: String| -> &'static str { text.leak() };
    Suite::new("growth")
        .test_image()
        .argument(flag(format!("--event-ttl={EVENT_TTL_S}s")))
        .argument(flag(format!("--audit-policy-file={}", policy.display())))
        .argument(flag(format!("--audit-log-path={}", audit.join("audit.log").display())))
        .argument(flag(format!("--audit-log-maxsize={}", AUDIT_FILE_BYTES >> 20)))
        .argument(flag(format!("--audit-log-maxbackup={AUDIT_BACKUPS}")))
        .argument(flag(format!("--container-log-max-size={LOG_FILE_BYTES}")))
        .argument(flag(format!("--container-log-max-files={LOG_FILES}")))
        .check("everything that is kept has a bound", move |cluster| {
            weeks_load(cluster, &Bounds::new(cluster, &audit));
        })
        .run()
}

fn seconds() -> u64 {
    let text = std::env::var("SAMPAN_GROWTH_SECONDS").ok();
    text.map_or(60, |text| text.parse().unwrap_or_else(|_| panic!("SAMPAN_GROWTH_SECONDS: {text}")))
}

fn weeks_load(cluster: &mut Cluster, bounds: &Bounds) {
    let namespace = cluster.namespace("load");
    namespace.kubectl(&["create", "configmap", "first"]).ok();
    namespace.apply(load::PODS);
    namespace.wait("pod/talks", "condition=Ready");
    let mut workers = Workers::default();
    load::start(cluster, &mut workers);
    let (began, length) = (Instant::now(), Duration::from_secs(seconds()));
    let (mut looks, mut most) = (0, Seen::default());
    // Three runs that ended: what was logged by the first is not kept.
    let restarted = || bounds.runs("restarts").into_iter().max().unwrap_or_default() >= 3;
    let all_seen = |most: &Seen| bounds.are_reached(most) && restarted() && bounds.audit_forgot(FIRST);
    while (began.elapsed() < length || !all_seen(&most)) && !workers.any_ended() {
        assert!(began.elapsed() < length + PATIENCE, "no bound held anything back: {most}");
        let seen = bounds.look(cluster);
        bounds.hold(&seen);
        most = most.max(&seen);
        looks += 1;
    }
    let told = workers.finish();
    println!("{} s: {}", began.elapsed().as_secs(), told.join(", "));
    println!("the most of {looks} looks: {most}");
    assert!(looks > 2, "there was more than one look");
    newest_lines(&namespace);
    oldest_is_gone(cluster, bounds);
    newest_is_there(cluster, bounds);
}

/// What a pod logs now can be read and followed, through every rotation.
fn newest_lines(namespace: &sampan_testkit::Namespace<'_>) {
    let last = namespace.kubectl(&["logs", "talks", "--tail=1"]).ok().text();
    let last: u64 = last.parse().expect("a number");
    let mut follower = namespace.spawn(&["logs", "talks", "--follow", "--tail=1"]);
    // More than one file's worth later.
    let later = last + 2 * LOG_FILE_BYTES / load::LINE_BYTES;
    let mut seen = 0;
    while seen < later {
        let text = follower.until(r"^\d+\n");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        seen = whole.lines().next_back().and_then(|line| line.parse().ok()).expect("a number");
        follower.forget();
    }
}

/// What the bounds do not allow was removed.
fn oldest_is_gone(cluster: &Cluster, bounds: &Bounds) {
    let selector = format!("--field-selector=reason={}", load::EVENT_REASON);
    let all = ["--namespace=load", "wait", "--for=delete", "events", &selector, "--timeout=55s"];
    cluster.kubectl(&all).ok();
    bounds.until("logs of the first run are gone", || !bounds.runs("restarts").contains(&0));
    let pods = cluster.kubectl(&["get", "pods", "--all-namespaces", "-o", "json"]).ok().json();
    let uids: Vec<&str> = pods["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|pod| pod["metadata"]["uid"].as_str())
        .collect();
    bounds.until("logs are of pods that are there", || {
        bounds.logged_pods().iter().all(|pod| uids.iter().any(|uid| pod.ends_with(uid)))
    });
    assert!(bounds.audit_forgot(FIRST), "the first requests are not kept");
}

/// What was asked last is in the audit log, each line of which is whole, and in the store.
fn newest_is_there(cluster: &Cluster, bounds: &Bounds) {
    cluster.kubectl(&["--namespace=load", "create", "configmap", "last"]).ok();
    let text = bounds.audit_text();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let is_last = |event: &&Value| {
        event["verb"] == "create"
            && event["objectRef"]["resource"] == "configmaps"
            && event["requestObject"]["metadata"]["name"] == "last"
    };
    assert!(lines.iter().any(|event| is_last(&event)), "the last request is recorded");
    cluster.kubectl(&["--namespace=load", "get", "configmap", "last"]).ok();
}
