//! Whoever may do nothing learns nothing: what is there and what is not there answer the same bytes, in every
//! verb on every resource and subresource of the table.

use std::collections::BTreeSet;

use sampan_api::table::{ResourceDef, Table};

use super::*;

/// Names of equal length, of what is there and of what is not.
const NAMES: [&str; 2] = ["present", "missing"];
const NAMESPACES: [&str; 2] = ["hidden", "nobody"];
/// What everybody may ask, about themselves.
const ABOUT_ONESELF: [&str; 3] =
    ["selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"];
const ACCEPTS: [&str; 4] = ["application/json", TABLE, METADATA, PROTOBUF];

/// A request as one tries it: method, what follows the path, headers, body.
struct Attempt {
    method: &'static str,
    query: String,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
}

fn attempt(
    method: &'static str,
    query: &str,
    headers: &[(&'static str, &'static str)],
    body: &str,
) -> Attempt {
    Attempt { method, query: query.to_owned(), headers: headers.to_vec(), body: body.to_owned() }
}

/// What is tried on one object.
fn on_object(name: &str) -> Vec<Attempt> {
    let body = json!({"metadata": {"name": name}}).to_string();
    let mut attempts: Vec<Attempt> =
        ACCEPTS.iter().map(|accept| attempt("GET", "", &[("accept", accept)], "")).collect();
    let json = ("content-type", "application/json");
    attempts.extend([
        attempt("HEAD", "", &[], ""),
        attempt("GET", "?watch=1", &[], ""),
        attempt("POST", "", &[json], &body),
        attempt("PUT", "", &[json], &body),
        attempt("PUT", "?dryRun=All", &[json], "no JSON"),
        attempt("PATCH", "", &[("content-type", "application/merge-patch+json")], "{}"),
        attempt(
            "PATCH",
            "?fieldManager=m&force=true",
            &[("content-type", "application/apply-patch+yaml")],
            &body,
        ),
        attempt("DELETE", "", &[json], ""),
        attempt("DELETE", "?dryRun=All", &[json], ""),
    ]);
    attempts
}

/// What is tried on a collection, to find out about one object of it.
fn on_collection(name: &str) -> Vec<Attempt> {
    let selected = format!("fieldSelector=metadata.name%3D{name}");
    let body = json!({"metadata": {"name": name}}).to_string();
    let json = ("content-type", "application/json");
    let mut attempts: Vec<Attempt> = ACCEPTS
        .iter()
        .map(|accept| attempt("GET", &format!("?{selected}"), &[("accept", accept)], ""))
        .collect();
    attempts.extend([
        attempt("GET", "", &[], ""),
        attempt("GET", "?limit=1&resourceVersion=0", &[], ""),
        attempt("GET", "?labelSelector=secret%3Dyes", &[], ""),
        attempt("GET", "?fieldSelector=spec.nope%3D1", &[], ""),
        attempt("GET", &format!("?watch=1&{selected}"), &[("accept", TABLE)], ""),
        attempt("GET", "?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan", &[], ""),
        attempt("POST", "", &[json], &body),
        attempt("POST", "?dryRun=All", &[json], &body),
        attempt("DELETE", &format!("?{selected}"), &[json], ""),
    ]);
    attempts
}

/// The answer to an attempt, without the names that the asker gave.
async fn answer(
    server: &TestServer,
    user: &str,
    path: &str,
    attempt: &Attempt,
    given: &[&str],
) -> (u16, String) {
    let mut headers: Vec<(&str, &str)> = attempt.headers.clone();
    headers.extend([("impersonate-user", user), ("impersonate-group", "system:authenticated")]);
    let target = format!("{path}{}", attempt.query);
    let response = server.send(request(attempt.method, &target, &headers, attempt.body.clone())).await;
    let code = response.status().as_u16();
    let mut shown: Vec<String> = response
        .headers()
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "audit-id" | "date"))
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    shown.sort();
    let body = bytes_of(response).await;
    let mut text = format!("{}\n{}", shown.join("\n"), String::from_utf8_lossy(&body));
    for name in given {
        text = text.replace(name, "NAME");
    }
    (code, text)
}

/// Both answers must be refusals, and the same.
async fn same(
    server: &TestServer,
    user: &str,
    paths: &[String],
    attempts: [&[Attempt]; 2],
    expected: u16,
) -> usize {
    let given: Vec<&str> = NAMES.into_iter().chain(NAMESPACES).collect();
    for (at, first) in attempts[0].iter().enumerate() {
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for (which, path) in paths.iter().enumerate() {
            let attempt = &attempts[which % 2][at];
            let (code, text) = answer(server, user, path, attempt, &given).await;
            assert_eq!(code, expected, "{user}: {} {path}{}: {text}", attempt.method, attempt.query);
            seen.insert(text);
        }
        assert_eq!(
            seen.len(),
            1,
            "{user}: {} {}{} tells {paths:?} apart: {seen:#?}",
            first.method,
            paths[0],
            first.query
        );
    }
    attempts[0].len() * paths.len()
}

fn root(def: &ResourceDef) -> String {
    match &*def.gvr.group {
        "" => format!("/api/{}", def.gvr.version),
        group => format!("/apis/{group}/{}", def.gvr.version),
    }
}

/// A server with one object of every stored resource, and namespaces.
async fn with_everything() -> TestServer {
    let server = TestServer::start().await;
    crate::bootstrap::ensure(&server.server.registry, "10.0.0.1:6443".parse().expect("an address"))
        .await
        .expect("the first objects");
    for namespace in ["hidden", "theirs"] {
        server.create("/api/v1/namespaces", &json!({"metadata": {"name": namespace}})).await;
    }
    let binding = json!({"metadata": {"name": "mallory"}, "subjects": [{"kind": "User", "name": "mallory", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": "admin", "apiGroup": "rbac.authorization.k8s.io"}});
    server.create("/apis/rbac.authorization.k8s.io/v1/namespaces/theirs/rolebindings", &binding).await;
    let mut stored = BTreeSet::new();
    for def in Table::builtin().entries() {
        let namespace = if def.namespaced { "hidden" } else { "" };
        let Some(key) = def.key(namespace, "present") else { continue };
        // Some resources are served in several versions; and what defines resources must be whole.
        if !stored.insert(key.clone())
            || def.gvr.group.ends_with("k8s.io") && def.kind.ends_with("Definition")
        {
            continue;
        }
        let version = def.storage.as_ref().expect("it has a key").stored_as.api_version();
        let mut object = json!({"apiVersion": version, "kind": &*def.kind,
            "metadata": {"name": "present", "uid": "7f3b7a52-0000-4000-8000-000000000000", "labels": {"secret": "yes"},
                "creationTimestamp": "2026-01-01T00:00:00Z"}});
        if def.namespaced {
            object["metadata"]["namespace"] = "hidden".into();
        }
        if def.kind.ends_with("Binding") && &*def.gvr.group == "rbac.authorization.k8s.io" {
            object["roleRef"] =
                json!({"kind": "ClusterRole", "name": "none", "apiGroup": "rbac.authorization.k8s.io"});
        }
        server.put(&key, &object).await;
    }
    server.restart().await
}

#[tokio::test]
async fn who_may_do_nothing_cannot_tell_what_is_there() {
    let server = with_everything().await;
    let mut tried = 0;
    for def in Table::builtin().entries() {
        let (root, resource) = (root(def), &*def.gvr.resource);
        if ABOUT_ONESELF.contains(&resource) {
            continue;
        }
        let places: Vec<String> = match def.namespaced {
            true => NAMESPACES
                .iter()
                .map(|namespace| format!("{root}/namespaces/{namespace}/{resource}"))
                .collect(),
            false => vec![format!("{root}/{resource}"), format!("{root}/{resource}")],
        };
        let subresources = def.subresources.iter().map(|subresource| format!("/{}", subresource.name));
        let parts: Vec<String> =
            [String::new(), "/nope".to_owned()].into_iter().chain(subresources).collect();
        let (present, missing) = (on_object(NAMES[0]), on_object(NAMES[1]));
        for part in &parts {
            // Here and there, present and missing.
            let mut paths = Vec::new();
            for place in &places {
                paths.extend(NAMES.iter().map(|name| format!("{place}/{name}{part}")));
            }
            tried += same(&server, "jane", &paths, [&present, &missing], 403).await;
            // Who has a namespace has nothing in others.
            tried += same(&server, "mallory", &paths[..2], [&present, &missing], 403).await;
        }
        let (present, missing) = (on_collection(NAMES[0]), on_collection(NAMES[1]));
        tried += same(&server, "jane", &places, [&present, &missing], 403).await;
        tried += same(&server, "mallory", &places, [&present, &missing], 403).await;
        if def.namespaced {
            let reads: Vec<Attempt> = present.into_iter().filter(|attempt| attempt.method == "GET").collect();
            let all = [format!("{root}/{resource}"), format!("{root}/{resource}")];
            tried += same(&server, "mallory", &all, [&reads, &reads], 403).await;
        }
    }
    assert!(tried > 5000, "{tried}");
}

#[tokio::test]
async fn what_is_no_resource_is_refused_alike() {
    let server = with_everything().await;
    let gets = [attempt("GET", "", &[], ""), attempt("POST", "", &[], "")];
    let paths: Vec<String> = [
        "/metrics",
        "/metrics/slis",
        "/metrics/present",
        "/debug/pprof",
        "/logs/present",
        "/configz",
        "/apis/example.com/v1/present",
        "/apis/example.com/v1/namespaces/hidden/things/missing",
        "/nope",
    ]
    .map(str::to_owned)
    .to_vec();
    for path in paths {
        same(&server, "jane", std::slice::from_ref(&path), [&gets, &gets], 403).await;
    }
}

#[tokio::test]
async fn selectors_of_ones_own_namespace_show_nothing_of_others() {
    let server = with_everything().await;
    let user = [("impersonate-user", "mallory"), ("impersonate-group", "system:authenticated")];
    for resource in ["pods", "secrets", "configmaps", "services", "serviceaccounts"] {
        for query in [
            "",
            "?fieldSelector=metadata.namespace%3Dhidden",
            "?fieldSelector=metadata.name%3Dpresent",
            "?labelSelector=secret%3Dyes",
        ] {
            let target = format!("/api/v1/namespaces/theirs/{resource}{query}");
            let response = server.get(&target, &user).await;
            assert_eq!(response.status(), 200, "{target}");
            let list: Value = serde_json::from_slice(&bytes_of(response).await).expect("JSON");
            assert_eq!(list["items"], json!([]), "{target}");
        }
    }
}
