use http::Response;
use hyper::body::Incoming;

use super::*;

/// Frames of a watch, in their encoding.
struct Frames {
    response: Response<Incoming>,
    rest: Vec<u8>,
    protobuf: bool,
}

impl Frames {
    async fn open(server: &TestServer, target: &str, accept: &str) -> Self {
        let response = server.get(target, &[("accept", accept)]).await;
        assert_eq!(response.status(), 200, "{target}");
        let content_type = response.headers()["content-type"].to_str().expect("text").to_owned();
        let protobuf = content_type == "application/vnd.kubernetes.protobuf;stream=watch";
        assert!(protobuf || content_type == "application/json", "{content_type}");
        Frames { response, rest: Vec::new(), protobuf }
    }

    /// One whole frame, once it is there.
    fn take(&mut self) -> Option<Vec<u8>> {
        let end = if self.protobuf {
            let length = u32::from_be_bytes(*self.rest.first_chunk()?) as usize;
            (self.rest.len() >= length + 4).then_some(length + 4)?
        } else {
            self.rest.iter().position(|byte| *byte == b'\n')? + 1
        };
        Some(self.rest.drain(..end).collect())
    }

    /// Type and object of the next event; None at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(frame) = self.take() {
                return Some(self.decode(&frame));
            }
            let waited = tokio::time::timeout(Duration::from_secs(20), self.response.frame());
            let frame = waited.await.expect("an event, or the end")?.expect("a frame");
            self.rest.extend_from_slice(&frame.into_data().expect("data"));
        }
    }

    fn decode(&self, frame: &[u8]) -> (String, Value) {
        if !self.protobuf {
            let event: Value = serde_json::from_slice(frame).expect("JSON");
            return (event["type"].as_str().expect("a type").to_owned(), event["object"].clone());
        }
        decode_event(&frame[4..])
    }
}

fn decode_event(bytes: &[u8]) -> (String, Value) {
    let event = fields(bytes);
    assert_eq!(event.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
    let raw = fields(event[1].1);
    let object = protobuf::decode(raw[0].1, None, &Limits::default()).expect("an object").2;
    (String::from_utf8(event[0].1.to_vec()).expect("text"), object)
}

const INITIAL: &str =
    "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

#[tokio::test]
async fn events_are_the_same_in_protobuf_and_in_json() {
    let server = with_config_maps(&["a"]).await;
    let target = format!("{MAPS}?{INITIAL}");
    let mut streams = [
        Frames::open(&server, &target, "application/json").await,
        Frames::open(&server, &target, PROTOBUF).await,
        Frames::open(&server, &target, PROTOBUF).await,
    ];
    server.create(MAPS, &config_map("b", "v")).await;
    let response = server.send(request("DELETE", &format!("{MAPS}/a"), &[], "")).await;
    assert_eq!(response.status(), 200);
    let mut seen = Vec::new();
    for stream in &mut streams {
        let mut events = Vec::new();
        for _ in 0..4 {
            events.push(stream.next().await.expect("an event"));
        }
        seen.push(events);
    }
    let types: Vec<&str> = seen[0].iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(types, ["ADDED", "BOOKMARK", "ADDED", "DELETED"]);
    assert_eq!(seen[0][1].1["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    // JSON tells that a bookmark was never created.
    seen[0][1].1["metadata"].as_object_mut().expect("metadata").remove("creationTimestamp");
    for events in &mut seen {
        events[1].1["metadata"].as_object_mut().expect("metadata").remove("creationTimestamp");
    }
    assert_eq!(seen[0][0], seen[1][0]);
    assert_eq!(seen[0][1].1["metadata"], seen[1][1].1["metadata"]);
    assert_eq!(seen[0][2..], seen[1][2..]);
    assert_eq!(seen[1], seen[2]);
}

#[tokio::test]
async fn only_the_first_table_of_a_watch_has_columns() {
    let server = with_config_maps(&["a", "b"]).await;
    let target = format!("{MAPS}?{INITIAL}&includeObject=Object");
    let mut stream = Frames::open(&server, &target, TABLE).await;
    let mut columns = Vec::new();
    for at in 0..4 {
        if at == 3 {
            server.create(MAPS, &config_map("c", "v")).await;
        }
        let (_, table) = stream.next().await.expect("an event");
        assert_eq!(table["kind"], "Table");
        assert_eq!(table["rows"][0]["object"]["kind"], "ConfigMap");
        assert_eq!(table["rows"][0]["cells"].as_array().map(Vec::len), Some(3));
        columns.push(table["columnDefinitions"].as_array().map_or(0, Vec::len));
    }
    assert_eq!(columns, [3, 0, 0, 0]);
}

#[tokio::test]
async fn a_watch_may_be_asked_for_as_long_as_can_be_written() {
    let server = with_config_maps(&["a"]).await;
    let target = format!("{MAPS}?watch=1&timeoutSeconds={}", i64::MAX);
    let mut stream = Frames::open(&server, &target, "application/json").await;
    assert_eq!(stream.next().await.expect("an event").0, "ADDED");
}

#[tokio::test]
async fn where_a_watch_begins() {
    let server = with_config_maps(&["a"]).await;
    let (_, _, list) = read(&server, MAPS, "application/json").await;
    let revision = list["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned();
    let check = async |query: &str, expected: &[&str]| {
        let mut stream = Frames::open(&server, &format!("{MAPS}?watch=1&{query}"), "application/json").await;
        let name = format!("n{}", rand::random_range(0..u64::MAX));
        server.create(MAPS, &config_map(&name, "v")).await;
        for expected in expected.iter().copied().chain([name.as_str()]) {
            let (_, object) = stream.next().await.expect("an event");
            assert_eq!(object["metadata"]["name"], *expected, "{query}");
        }
        let response = server.send(request("DELETE", &format!("{MAPS}/{name}"), &[], "")).await;
        assert_eq!(response.status(), 200);
    };
    check("", &["a"]).await;
    check("resourceVersion=0", &["a"]).await;
    check("sendInitialEvents=false&resourceVersionMatch=NotOlderThan", &[]).await;
    let fields = "fieldSelector=metadata.name=a&timeoutSeconds=1";
    let mut stream = Frames::open(&server, &format!("{MAPS}?watch=1&{fields}"), "application/json").await;
    assert_eq!(stream.next().await.expect("an event").1["metadata"]["name"], "a");
    assert_eq!(stream.next().await, None);
    let target =
        format!("/api/v1/watch/namespaces/a/configmaps/a?resourceVersion={revision}&timeoutSeconds=1");
    let mut stream = Frames::open(&server, &target, "application/json").await;
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn what_ends_a_watch_is_its_last_event() {
    let server = with_config_maps(&["a"]).await.restart().await;
    for accept in ["application/json", PROTOBUF] {
        let target = format!("{MAPS}?watch=1&resourceVersion=1");
        let mut stream = Frames::open(&server, &target, accept).await;
        let (kind, status) = stream.next().await.expect("an event");
        assert_eq!(kind, "ERROR");
        assert_eq!((&status["code"], &status["reason"]), (&json!(410), &json!("Expired")));
        let message = status["message"].as_str().expect("a message");
        assert!(message.starts_with("too old resource version: 1 ("), "{message}");
        assert_eq!(stream.next().await, None);
    }
}

#[tokio::test]
async fn a_watch_goes_over_websocket() {
    use futures_util::StreamExt;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    let server = with_config_maps(&["a"]).await;
    for accept in ["application/json", PROTOBUF] {
        let headers = [
            ("accept", accept),
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let response = server.get(&format!("{MAPS}?watch=1"), &headers).await;
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let upgraded = hyper::upgrade::on(response).await.expect("an upgrade");
        let io = hyper_util::rt::TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
        let message = socket.next().await.expect("a message").expect("a message");
        let (kind, object) = if message.is_text() {
            let event: Value = serde_json::from_slice(&message.into_data()).expect("JSON");
            (event["type"].as_str().expect("a type").to_owned(), event["object"].clone())
        } else {
            decode_event(&message.into_data())
        };
        assert_eq!((kind.as_str(), &object["metadata"]["name"]), ("ADDED", &json!("a")));
    }
}

/// So many watchers that they take turns, and take over what others joined.
#[tokio::test]
async fn very_many_watchers_get_every_event_once_and_in_order() {
    const WATCHERS: usize = 300;
    const MAPS_OF_EACH: usize = 100;
    let server = with_config_maps(&[]).await;
    let mut watches = Vec::new();
    for number in 0..WATCHERS {
        let selector = ["", "&labelSelector=even", "&labelSelector=!even"][number % 3];
        let accept = ["application/json", PROTOBUF][number % 2];
        let target = format!("{MAPS}?watch=true&resourceVersion=0{selector}");
        watches.push((number % 3, Frames::open(&server, &target, accept).await));
    }
    let maps = sampan_api::Gvr::new("", "v1", "configmaps");
    let cache = server.server.registry.resource(&maps).expect("a resource").cache;
    let mut seen: Vec<(usize, Vec<String>)> =
        watches.iter().map(|(selects, _)| (*selects, Vec::new())).collect();
    // Many at once, or each would be seen before the next one. A slow store may still be slower than turns.
    for round in 0.. {
        assert!(round < 50, "nothing was joined");
        let writing = futures_util::future::join_all((0..MAPS_OF_EACH * 2).map(|number| {
            let mut map = config_map(&format!("m{round}-{number}"), "v");
            if number % 2 == 0 {
                map["metadata"]["labels"] = json!({"even": ""});
            }
            let server = &server;
            async move { server.create(MAPS, &map).await }
        }));
        let readers = watches.iter_mut().zip(&mut seen);
        let reading =
            futures_util::future::join_all(readers.map(|((_, frames), (selects, names))| async move {
                for _ in 0..[MAPS_OF_EACH * 2, MAPS_OF_EACH][usize::from(*selects > 0)] {
                    let (kind, object) = frames.next().await.expect("an event");
                    assert_eq!(kind, "ADDED");
                    names.push(object["metadata"]["name"].as_str().expect("a name").to_owned());
                }
            }));
        tokio::join!(writing, reading);
        if cache.frames.batches.len() > 0 {
            break;
        }
    }
    let (_, _, mut list) = read(&server, MAPS, "application/json").await;
    let items = list["items"].as_array_mut().expect("items");
    items.sort_by_key(revision);
    for (selects, names) in seen {
        let chosen = items.iter().filter(|item| {
            let is_even = item["metadata"]["labels"].get("even").is_some();
            [true, is_even, !is_even][selects]
        });
        assert!(chosen.map(|item| &item["metadata"]["name"]).eq(names.iter()), "{names:?}");
    }
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().expect("a revision").parse().expect("a number")
}
