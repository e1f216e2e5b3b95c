//! `/livez`, `/readyz`, `/healthz`: every check by name, in upstream's words.

use std::fmt::Write as _;

use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use sampan_api::Status;

use super::{ResponseBody, answer};
use crate::ApiServer;
use crate::route::Query;

const NO_SNIFF: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));

/// How long the store may take to answer.
const STORE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(2);
/// What is said of a part of the process that does not work yet.
pub const NOT_READY: &str = "not ready yet";
/// What upstream does after it began to listen, in its order, and this server before: whoever waits for one of
/// these names, as probes and upstream's own tests do, need not wait here.
const HOOKS: [&str; 29] = [
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/storage-object-count-tracker-hook",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-apiserver-identity-lease-controller",
    "poststarthook/start-kube-apiserver-identity-lease-garbage-collector",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/aggregator-reload-proxy-client-cert",
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
    "poststarthook/storage-readiness",
];

/// A check that ran.
struct Check {
    name: String,
    failure: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, failure: Option<String>) -> Self {
        Check { name: name.into(), failure }
    }
}

/// Answers a path if it is one of a check.
pub async fn get(
    server: &ApiServer,
    path: &str,
    query: &Query,
) -> Option<Result<Response<ResponseBody>, Status>> {
    let (root, rest) = match path.strip_prefix('/')?.split_once('/') {
        Some((root, rest)) => (root, Some(rest)),
        None => (path.strip_prefix('/')?, None),
    };
    if !matches!(root, "livez" | "readyz" | "healthz") {
        return None;
    }
    let checks = run(server, root == "readyz").await;
    Some(match rest {
        None => {
            for check in &checks {
                observe(server, check, root);
            }
            Ok(all(root, &checks, query))
        }
        Some(name) => match checks.iter().find(|check| check.name == name) {
            Some(check) => Ok(one(check)),
            None => Err(Status::no_such_route()),
        },
    })
}

/// Why the store is of no use, if it is not.
pub async fn store_failure(server: &ApiServer) -> Option<String> {
    match tokio::time::timeout(STORE_TIMEOUT, server.registry.store_stats()).await {
        Ok(answered) => answered.err().map(|status| status.message),
        Err(_) => Some("the store does not answer".to_owned()),
    }
}

/// Runs the checks: those of the process, and for readiness also those of its parts.
async fn run(server: &ApiServer, readiness: bool) -> Vec<Check> {
    let stored = store_failure(server).await;
    let mut checks =
        vec![Check::new("ping", None), Check::new("log", None), Check::new("etcd", stored.clone())];
    if let Some(encryption) = &server.encryption {
        let failure = encryption.failure();
        if failure.is_some() || !encryption.rules().kms.is_empty() {
            checks.push(Check::new("kms-providers", failure));
        }
    }
    if readiness {
        checks.push(Check::new("etcd-readiness", stored));
        checks.push(Check::new("informer-sync", None));
        let gates = server.health.gates().into_iter();
        checks.extend(gates.map(|(name, open)| Check::new(name, (!open).then(|| NOT_READY.to_owned()))));
    }
    checks.extend(HOOKS.iter().map(|name| Check::new(*name, None)));
    let stops = server.is_stopping().then(|| "process is shutting down".to_owned());
    if readiness {
        checks.push(Check::new("shutdown", stops));
    }
    checks
}

fn observe(server: &ApiServer, check: &Check, root: &str) {
    let passed = check.failure.is_none();
    let status = if passed { "success" } else { "error" };
    server.metrics.health_checks.with(&[&check.name, status, root]).inc();
    server.metrics.health_state.with(&[&check.name, root]).set(i64::from(passed));
}

fn all(root: &str, checks: &[Check], query: &Query) -> Response<ResponseBody> {
    let mut excluded: Vec<&str> = query.all("exclude").collect();
    let (mut text, mut failed) = (String::new(), false);
    for Check { name, failure } in checks {
        if excluded.contains(&name.as_str()) {
            excluded.retain(|other| other != name);
            let _ = writeln!(text, "[+]{name} excluded: ok");
        } else if failure.is_some() {
            failed = true;
            let _ = writeln!(text, "[-]{name} failed: reason withheld");
        } else {
            let _ = writeln!(text, "[+]{name} ok");
        }
    }
    if !excluded.is_empty() {
        excluded.sort_unstable();
        excluded.dedup();
        let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(",");
        let _ = writeln!(text, "warn: some health checks cannot be excluded: no matches for {names}");
    }
    let mut response = if failed {
        let _ = writeln!(text, "{root} check failed");
        answer::text(StatusCode::INTERNAL_SERVER_ERROR, text)
    } else if query.all("verbose").next().is_some() {
        let _ = writeln!(text, "{root} check passed");
        answer::text(StatusCode::OK, text)
    } else {
        answer::text(StatusCode::OK, "ok")
    };
    response.headers_mut().insert(NO_SNIFF.0, NO_SNIFF.1);
    response
}

fn one(check: &Check) -> Response<ResponseBody> {
    match &check.failure {
        None => answer::text(StatusCode::OK, "ok"),
        Some(why) => {
            let text = format!("internal server error: {why}\n");
            let mut response = answer::text(StatusCode::INTERNAL_SERVER_ERROR, text);
            response.headers_mut().insert(NO_SNIFF.0, NO_SNIFF.1);
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn check(query: &str, broken: bool, code: u16, expected: &str) {
        let failure = broken.then(|| "secret".to_owned());
        let checks = [Check::new("ping", None), Check::new("node", failure)];
        let response = all("readyz", &checks, &Query::parse(query));
        assert_eq!(response.status().as_u16(), code, "{query}");
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(String::from_utf8_lossy(&body), expected, "{query}");
    }

    #[tokio::test]
    async fn checks_are_listed_in_upstreams_words() {
        check("", false, 200, "ok").await;
        check("verbose", false, 200, "[+]ping ok\n[+]node ok\nreadyz check passed\n").await;
        let failed = "[+]ping ok\n[-]node failed: reason withheld\nreadyz check failed\n";
        check("", true, 500, failed).await;
        check("exclude=node", true, 200, "ok").await;
        let unmatched = "[+]ping excluded: ok\n[+]node ok\n\
            warn: some health checks cannot be excluded: no matches for \"x\"\nreadyz check passed\n";
        check("verbose&exclude=x&exclude=ping", false, 200, unmatched).await;
    }
}
