//! Which revision a list shows, and how it goes on.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::*;

fn names(list: &Value) -> String {
    let items = list["items"].as_array().expect("items").iter();
    items.map(|item| item["metadata"]["name"].as_str().expect("a name")).collect::<Vec<_>>().join(",")
}

fn revision(list: &Value) -> u64 {
    list["metadata"]["resourceVersion"].as_str().expect("a revision").parse().expect("a number")
}

async fn list(server: &TestServer, query: &str) -> (u16, Value) {
    let (code, _, value) = read(server, &format!("{MAPS}?{query}"), "application/json").await;
    (code, value)
}

#[tokio::test]
async fn a_list_is_of_the_revision_that_was_asked_for() {
    let server = with_config_maps(&["a", "b"]).await;
    let (_, before) = list(&server, "").await;
    let then = revision(&before);
    server.create(MAPS, &config_map("c", "v")).await;
    let check = async |query: &str, expected: &str| {
        let (code, list) = list(&server, query).await;
        assert_eq!((code, names(&list).as_str()), (200, expected), "{query}");
    };
    // Without a limit.
    check("", "a,b,c").await;
    check("resourceVersion=0", "a,b,c").await;
    check(&format!("resourceVersion={then}"), "a,b,c").await;
    check(&format!("resourceVersion={then}&resourceVersionMatch=NotOlderThan"), "a,b,c").await;
    check(&format!("resourceVersion={then}&resourceVersionMatch=Exact"), "a,b").await;
    // With one.
    check("limit=10", "a,b,c").await;
    check(&format!("limit=10&resourceVersion={then}"), "a,b").await;
    check(&format!("limit=10&resourceVersion={then}&resourceVersionMatch=NotOlderThan"), "a,b,c").await;
    check(&format!("limit=10&resourceVersion={then}&resourceVersionMatch=Exact"), "a,b").await;
    // Selected.
    check("fieldSelector=metadata.name=b", "b").await;
    check("fieldSelector=metadata.name!=b", "a,c").await;
    check("fieldSelector=metadata.name=b,metadata.namespace=other", "").await;
    check("labelSelector=n+in+(a,c)", "a,c").await;
}

#[tokio::test]
async fn what_cannot_be_listed_is_told() {
    let server = with_config_maps(&["a", "b"]).await;
    let check = async |server: &TestServer, query: &str, code: u16, reason: &str, message: &str| {
        let (actual, status) = list(server, query).await;
        assert_eq!((actual, &status["reason"]), (code, &json!(reason)), "{query}");
        let text = status["message"].as_str().expect("a message");
        assert!(text.starts_with(message), "{query}: {text}");
        status
    };
    let too_large = "Too large resource version: 99999, current: ";
    let status = check(&server, "resourceVersion=99999", 504, "Timeout", too_large).await;
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(status["details"]["retryAfterSeconds"], 1);
    let unknown = "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
    check(&server, "fieldSelector=spec.x=1", 400, "BadRequest", unknown).await;
    check(&server, "labelSelector=a=b=c", 400, "BadRequest", "found '=', expected: ',' or 'end of string'")
        .await;
    check(&server, "continue=x", 400, "BadRequest", "continue key is not valid").await;

    let (_, first) = list(&server, "limit=1").await;
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let both = format!("limit=1&continue={token}&resourceVersion=5");
    let forbidden = "specifying resource version is not allowed when using continue";
    check(&server, &both, 400, "BadRequest", forbidden).await;

    // Another process has no history: the page is gone, but the list may go on as it is now.
    server.create(MAPS, &config_map("c", "v")).await;
    let server = server.restart().await;
    let gone =
        "The provided continue parameter is too old to display a consistent list result. You can start";
    let status = check(&server, &format!("limit=5&continue={token}"), 410, "Expired", gone).await;
    let token = status["metadata"]["continue"].as_str().expect("a token");
    let (_, rest) = list(&server, &format!("limit=5&continue={token}")).await;
    assert_eq!(names(&rest), "b,c");
    let old = "The resourceVersion for the provided list is too old.";
    check(&server, "resourceVersion=1&resourceVersionMatch=Exact", 410, "Expired", old).await;
}

#[tokio::test]
async fn pages_show_one_revision() {
    let server = with_config_maps(&["a", "b", "c", "d"]).await;
    let (_, first) = list(&server, "limit=2").await;
    assert_eq!((names(&first).as_str(), &first["metadata"]["remainingItemCount"]), ("a,b", &json!(2)));
    let response = server.send(request("DELETE", &format!("{MAPS}/c"), &[], "")).await;
    assert_eq!(response.status(), 200);
    server.create(MAPS, &config_map("e", "v")).await;
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let (_, second) = list(&server, &format!("limit=2&continue={token}")).await;
    assert_eq!((names(&second).as_str(), revision(&second)), ("c,d", revision(&first)));
    assert!(second["metadata"].get("continue").is_none());
    // What a selector leaves is not counted.
    let (_, chosen) = list(&server, "limit=1&labelSelector=n").await;
    assert!(chosen["metadata"]["continue"].is_string());
    assert!(chosen["metadata"].get("remainingItemCount").is_none());
}

#[tokio::test]
async fn every_page_tells_how_many_remain() {
    let server = with_config_maps(&["a", "b", "c", "d", "e", "f", "g"]).await;
    for path in [MAPS, "/api/v1/configmaps"] {
        let (mut token, mut remaining) = (String::new(), Vec::new());
        loop {
            let path = format!("{path}?limit=3&continue={token}");
            let (_, _, page) = read(&server, &path, "application/json").await;
            remaining.push(page["metadata"]["remainingItemCount"].as_u64());
            match page["metadata"]["continue"].as_str() {
                Some(next) => token = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(remaining, [Some(4), Some(1), None], "{path}");
    }
    let (_, _, all) = read(&server, &format!("{MAPS}?limit=7"), "application/json").await;
    assert!(all["metadata"].get("continue").is_none(), "{}", all["metadata"]);
    // More than there are cannot remain, whatever a token says.
    let token = |left: u64| {
        let json = json!({"v": "meta.k8s.io/v1", "rv": revision(&all), "start": "a/b", "left": left});
        URL_SAFE_NO_PAD.encode(json.to_string())
    };
    for left in [8, 1 << 40, u64::MAX] {
        let (code, page) = list(&server, &format!("limit=3&continue={}", token(left))).await;
        let seen = (code, names(&page), page["metadata"]["remainingItemCount"].clone());
        assert_eq!(seen, (200, "c,d,e".to_owned(), json!(2)));
    }
}

#[tokio::test]
async fn long_lists_are_whole() {
    let server = with_config_maps(&[]).await;
    let data = "x".repeat(3000);
    for at in 0..100 {
        server.create(MAPS, &config_map(&format!("m{at:03}"), &data)).await;
    }
    let (_, _, json) = read(&server, MAPS, "application/json").await;
    assert_eq!(json["items"].as_array().map(Vec::len), Some(100));
    let bytes = bytes_of(server.get(MAPS, &[("accept", PROTOBUF)]).await).await;
    let (_, items) = list_items(&bytes, ("v1", "ConfigMapList"));
    for (item, expected) in items.iter().zip(json["items"].as_array().expect("items")) {
        assert_eq!((&item["metadata"], &item["data"]), (&expected["metadata"], &expected["data"]));
    }
    let (_, _, table) = read(&server, MAPS, TABLE).await;
    assert_eq!(table["rows"].as_array().map(Vec::len), Some(100));
    assert_eq!(table["rows"][99]["object"]["metadata"]["name"], "m099");
    assert_eq!(table["metadata"]["resourceVersion"], json["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn items_of_built_in_kinds_leave_out_what_the_list_says() {
    let server = with_config_maps(&["a", "b"]).await;
    let response = server.get(MAPS, &[]).await;
    let length: usize =
        response.headers()["content-length"].to_str().expect("text").parse().expect("a number");
    let bytes = bytes_of(response).await;
    assert_eq!(bytes.len(), length);
    let list: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    for item in list["items"].as_array().expect("items") {
        assert_eq!((item.get("kind"), item.get("apiVersion")), (None, None), "{item}");
    }
}
