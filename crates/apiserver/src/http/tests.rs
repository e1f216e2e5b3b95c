//! What clients get over HTTP, of a whole server.

use std::time::Duration;

use http_body_util::BodyExt;
use sampan_api::protobuf::{self, Limits};
use serde_json::{Value, json};

use crate::testing::{TestServer, bytes_of, request};

mod leaks;
mod lists;
mod watches;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";

fn config_map(name: &str, data: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"n": name}}, "data": {"k": data}})
}

async fn with_config_maps(names: &[&str]) -> TestServer {
    let server = TestServer::start().await;
    server.create("/api/v1/namespaces", &json!({"metadata": {"name": "a"}})).await;
    for name in names {
        server.create("/api/v1/namespaces/a/configmaps", &config_map(name, "v")).await;
    }
    server
}

const MAPS: &str = "/api/v1/namespaces/a/configmaps";

/// The JSON of an answer in protobuf or JSON, with its content type.
async fn read(server: &TestServer, target: &str, accept: &str) -> (u16, String, Value) {
    let response = server.get(target, &[("accept", accept)]).await;
    let code = response.status().as_u16();
    let content_type = response.headers()["content-type"].to_str().expect("text").to_owned();
    let bytes = bytes_of(response).await;
    let value = if content_type.starts_with(PROTOBUF) {
        protobuf::decode(&bytes, None, &Limits::default()).expect("a message").2
    } else {
        serde_json::from_slice(&bytes).expect("JSON")
    };
    (code, content_type, value)
}

#[tokio::test]
async fn an_object_is_the_same_in_protobuf_and_in_json() {
    let server = with_config_maps(&["one"]).await;
    let target = format!("{MAPS}/one");
    let (code, content_type, message) = read(&server, &target, PROTOBUF).await;
    assert_eq!((code, content_type.as_str()), (200, PROTOBUF));
    let (_, content_type, json) = read(&server, &target, "application/json").await;
    assert_eq!(content_type, "application/json");
    assert_eq!(message, json);
    assert_eq!(json["data"]["k"], "v");
}

#[tokio::test]
async fn bodies_in_protobuf_are_answered_in_protobuf() {
    let server = with_config_maps(&[]).await;
    let body = protobuf::encode("v1", "ConfigMap", &config_map("p", "v")).expect("a message");
    let headers = [("content-type", PROTOBUF), ("accept", PROTOBUF)];
    let response = server.send(request("POST", MAPS, &headers, body.clone())).await;
    assert_eq!(response.status(), 201);
    let (_, kind, value) =
        protobuf::decode(&bytes_of(response).await, None, &Limits::default()).expect("a message");
    assert_eq!((kind.as_str(), &value["metadata"]["name"]), ("ConfigMap", &json!("p")));
    // A second time: the conflict is told in protobuf too.
    let response = server.send(request("POST", MAPS, &headers, body)).await;
    assert_eq!(response.status(), 409);
    let (_, kind, status) =
        protobuf::decode(&bytes_of(response).await, None, &Limits::default()).expect("a message");
    assert_eq!((kind.as_str(), &status["reason"]), ("Status", &json!("AlreadyExists")));
    let options = protobuf::encode("v1", "DeleteOptions", &json!({"preconditions": {"uid": "other"}}));
    let target = format!("{MAPS}/p");
    let response = server.send(request("DELETE", &target, &headers, options.expect("a message"))).await;
    assert_eq!(response.status(), 409);
    let response = server.send(request("DELETE", &target, &headers, "")).await;
    let (_, kind, status) =
        protobuf::decode(&bytes_of(response).await, None, &Limits::default()).expect("a message");
    assert_eq!((kind.as_str(), &status["status"]), ("Status", &json!("Success")));
}

/// The JSON of an answer, as text.
async fn text(server: &TestServer, method: &str, target: &str, body: &Value) -> String {
    let headers = [("content-type", "application/json")];
    let response = server.send(request(method, target, &headers, body.to_string())).await;
    String::from_utf8(bytes_of(response).await.to_vec()).expect("text")
}

#[tokio::test]
async fn a_status_has_its_fields_in_upstreams_order() {
    let server = with_config_maps(&["one"]).await;
    let conflict = text(&server, "POST", MAPS, &config_map("one", "v")).await;
    let expected = concat!(
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
        r#""message":"configmaps \"one\" already exists","reason":"AlreadyExists","#,
        r#""details":{"name":"one","kind":"configmaps"},"code":409}"#,
        "\n"
    );
    assert_eq!(conflict, expected);
}

#[tokio::test]
async fn a_dry_run_creates_also_from_what_was_read() {
    let server = with_config_maps(&["one"]).await;
    let mut copy: Value =
        serde_json::from_str(&text(&server, "GET", &format!("{MAPS}/one"), &json!({})).await).expect("JSON");
    copy["metadata"]["name"] = json!("two");
    let refused = text(&server, "POST", MAPS, &copy).await;
    let refused: Value = serde_json::from_str(&refused).expect("JSON");
    let message = json!("resourceVersion should not be set on objects to be created");
    assert_eq!((&refused["code"], &refused["message"]), (&json!(500), &message));
    // That is the last word: faults and admission come before.
    let mut faulty = copy.clone();
    faulty["metadata"]["name"] = json!("Two");
    let refused = text(&server, "POST", MAPS, &faulty).await;
    assert!(refused.contains("metadata.name: Invalid value"), "{refused}");
    let made = text(&server, "POST", &format!("{MAPS}?dryRun=All"), &copy).await;
    let made: Value = serde_json::from_str(&made).expect("JSON");
    assert_eq!((&made["kind"], &made["metadata"]["name"]), (&json!("ConfigMap"), &json!("two")));
    let missing = text(&server, "GET", &format!("{MAPS}/two"), &json!({})).await;
    assert!(missing.contains("NotFound"), "{missing}");
}

#[tokio::test]
async fn a_deletion_answers_with_the_object_where_upstream_does() {
    let server = with_config_maps(&["one"]).await;
    let gone = text(&server, "DELETE", &format!("{MAPS}/one"), &json!({})).await;
    let start = concat!(
        r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","#,
        r#""details":{"name":"one","kind":"configmaps","uid":""#
    );
    assert!(gone.starts_with(start) && !gone.contains("code"), "{gone}");
    server
        .create(
            "/api/v1/namespaces/a/podtemplates",
            &json!({"metadata": {"name": "one"}, "template":
        {"spec": {"containers": [{"name": "c", "image": "example.com/none:1"}]}}}),
        )
        .await;
    let gone = text(&server, "DELETE", "/api/v1/namespaces/a/podtemplates/one", &json!({})).await;
    let gone: Value = serde_json::from_str(&gone).expect("JSON");
    assert_eq!((&gone["kind"], &gone["metadata"]["name"]), (&json!("PodTemplate"), &json!("one")));
}

/// The items of a list in protobuf, read field by field: `decode` knows no lists.
fn list_items(bytes: &[u8], kind: (&str, &str)) -> (Value, Vec<Value>) {
    let expected = protobuf::encode(kind.0, kind.1, &json!({})).expect("an empty list");
    assert_eq!(bytes[..8], expected[..8], "the envelope");
    let envelope = fields(&bytes[4..]);
    let raw = &envelope.iter().find(|(number, _)| *number == 2).expect("an object").1;
    let item_kind = kind.1.strip_suffix("List").expect("a list");
    let decoded = |version: &str, kind: &str, content: &[u8]| {
        let enveloped = protobuf::envelope(version, kind, content);
        protobuf::decode(&enveloped, None, &Limits::default()).expect("a message").2
    };
    let (mut metadata, mut items) = (Value::Null, Vec::new());
    for (number, content) in fields(raw) {
        match number {
            1 => metadata = decoded("v1", "ListMeta", content),
            2 => items.push(decoded(kind.0, item_kind, content)),
            other => panic!("field {other}"),
        }
    }
    (metadata, items)
}

/// Number and content of fields of wire type 2.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (byte, rest) = bytes.split_first().expect("a byte");
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        assert_eq!(key & 7, 2);
        let length = varint(&mut bytes) as usize;
        let (content, rest) = bytes.split_at(length);
        all.push((key >> 3, content));
        bytes = rest;
    }
    all
}

#[tokio::test]
async fn lists_are_the_same_in_protobuf_and_in_json() {
    let server = with_config_maps(&["a", "b", "c"]).await;
    let target = format!("{MAPS}?limit=2");
    let response = server.get(&target, &[("accept", PROTOBUF)]).await;
    assert_eq!(response.headers()["content-type"], PROTOBUF);
    let (metadata, items) = list_items(&bytes_of(response).await, ("v1", "ConfigMapList"));
    let (_, _, json) = read(&server, &target, "application/json").await;
    assert_eq!(metadata["remainingItemCount"], json["metadata"]["remainingItemCount"]);
    assert_eq!(metadata["resourceVersion"], json["metadata"]["resourceVersion"]);
    assert!(metadata["continue"].is_string());
    let names = |items: &[Value]| -> Vec<Value> { items.iter().map(|one| one["metadata"].clone()).collect() };
    assert_eq!(names(&items), names(json["items"].as_array().expect("items")));
    assert_eq!(items[0]["data"], json!({"k": "v"}));

    let accept = METADATA_LIST.replace("application/json", PROTOBUF);
    let response = server.get(&target, &[("accept", &accept)]).await;
    let kind = ("meta.k8s.io/v1", "PartialObjectMetadataList");
    let (_, partial) = list_items(&bytes_of(response).await, kind);
    assert_eq!(names(&partial), names(&items));
    assert!(partial[0].get("data").is_none());
}

#[tokio::test]
async fn shapes_are_made_where_they_fit() {
    let server = with_config_maps(&["a"]).await;
    let check = async |target: &str, accept: &str, code: u16, expected: &str| {
        let (actual, _, value) = read(&server, target, accept).await;
        let text = match code {
            200 => value["kind"].as_str().expect("a kind").to_owned(),
            _ => value["message"].as_str().expect("a message").to_owned(),
        };
        assert_eq!((actual, text.as_str()), (code, expected), "{target} {accept}");
    };
    let one = format!("{MAPS}/a");
    check(&one, METADATA, 200, "PartialObjectMetadata").await;
    check(MAPS, METADATA_LIST, 200, "PartialObjectMetadataList").await;
    check(MAPS, TABLE, 200, "Table").await;
    check(&one, TABLE, 200, "Table").await;
    let list =
        "you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)";
    check(MAPS, METADATA, 406, list).await;
    let object =
        "you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)";
    check(&one, METADATA_LIST, 406, object).await;
    let all = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    check(&one, "text/html", 406, all).await;
    check(&format!("{MAPS}/none"), PROTOBUF, 404, "configmaps \"none\" not found").await;
    check(&format!("{MAPS}?includeObject=Some"), "application/json", 200, "ConfigMapList").await;
    let included = "Unable to convert to Table as requested: includeObject: Unsupported value: \"Some\": supported values: \"Metadata\", \"None\", \"Object\", \"\"";
    check(&format!("{MAPS}?includeObject=Some"), TABLE, 400, included).await;
}

#[tokio::test]
async fn long_answers_are_compressed_for_who_takes_it() {
    let server = with_config_maps(&[]).await;
    let data = "0123456789abcdef".repeat(2 << 10);
    for at in 0..8 {
        server.create(MAPS, &config_map(&format!("m{at}"), &data)).await;
    }
    let (_, _, plain) = read(&server, MAPS, "application/json").await;
    assert_eq!(plain["items"].as_array().map(Vec::len), Some(8));
    for accept in ["application/json", PROTOBUF] {
        let headers = [("accept", accept), ("accept-encoding", "deflate, gzip")];
        let response = server.get(MAPS, &headers).await;
        assert_eq!(response.headers()["content-encoding"], "gzip");
        assert_eq!(response.headers()["vary"], "Accept-Encoding");
        let bytes = bytes_of(response).await;
        assert!(bytes.len() < 64 << 10, "{}", bytes.len());
        let mut inflated = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&bytes[..]), &mut inflated)
            .expect("gzip");
        if accept == PROTOBUF {
            assert_eq!(list_items(&inflated, ("v1", "ConfigMapList")).1.len(), 8);
        } else {
            assert_eq!(serde_json::from_slice::<Value>(&inflated).expect("JSON"), plain);
        }
    }
    // Below the threshold nothing is compressed, and the length is known.
    let response = server.get(&format!("{MAPS}/m1"), &[("accept-encoding", "gzip")]).await;
    assert!(response.headers().get("content-encoding").is_none());
    assert!(response.headers().contains_key("content-length"));
    let response = server.get(MAPS, &[]).await;
    let length: usize =
        response.headers()["content-length"].to_str().expect("text").parse().expect("a number");
    assert_eq!(bytes_of(response).await.len(), length);
}

#[tokio::test]
async fn people_get_indented_json() {
    let server = with_config_maps(&["a"]).await;
    let response = server.get(&format!("{MAPS}/a"), &[("user-agent", "curl/8.0")]).await;
    let text = String::from_utf8(bytes_of(response).await.to_vec()).expect("text");
    assert!(text.starts_with("{\n  \"apiVersion\": \"v1\""), "{text}");
}
