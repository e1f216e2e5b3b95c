use super::*;
use crate::streaming::command::{Command, CommandKind};
use crate::streaming::spdy::testing::SpdyClient;
use crate::streaming::websocket::{self, COMMAND_PROTOCOLS};

/// Reads to the end; what came, by channel.
async fn read_all(mut socket: WebSocketStream<TcpStream>) -> BTreeMap<u8, String> {
    let mut channels: BTreeMap<u8, String> = BTreeMap::new();
    let mut closed = false;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Binary(bytes) => {
                let (channel, bytes) = bytes.split_first().expect("a channel");
                channels.entry(*channel).or_default().push_str(&String::from_utf8_lossy(bytes));
            }
            Message::Text(text) => {
                let (channel, text) = text.split_at(1);
                let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text);
                let text = String::from_utf8(bytes.expect("base64")).expect("text");
                channels.entry(channel.as_bytes()[0] - b'0').or_default().push_str(&text);
            }
            Message::Close(_) => closed = true,
            _ => {}
        }
    }
    assert!(closed, "the session ends with a close message");
    channels
}

async fn run(path: &str, protocol: &str, messages: Vec<Message>) -> BTreeMap<u8, String> {
    let server = Server::start().await;
    let mut socket = server.websocket(path, protocol).await;
    for message in messages {
        socket.send(message).await.expect("sent");
    }
    let channels = read_all(socket).await;
    server.sessions.shut_down().await;
    channels
}

fn binary(bytes: &[u8]) -> Message {
    Message::Binary(Bytes::copy_from_slice(bytes))
}

#[tokio::test]
async fn input_ends_with_its_channel() {
    let messages = vec![binary(b"\0hello "), binary(b"\0world"), binary(&[255, 0])];
    let channels =
        run("/exec?command=cat&stdin=true&stdout=true&stderr=true", "v5.channel.k8s.io", messages).await;
    assert_eq!(channels[&1], "hello world");
    let status: Value = serde_json::from_str(&channels[&3]).expect("a status");
    assert_eq!(status["status"], "Success");
}

#[tokio::test]
async fn exit_codes_are_in_the_status() {
    for protocol in ["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io"] {
        let channels = run("/exec?command=fail&command=now&stdout=true&stderr=true", protocol, vec![]).await;
        assert_eq!(channels[&2], "oops", "{protocol}");
        let status: Value = serde_json::from_str(&channels[&3]).expect("a status");
        assert_eq!(status["status"], "Failure");
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0]["reason"], "ExitCode");
        assert_eq!(status["details"]["causes"][0]["message"], "3");
        let message = status["message"].as_str().expect("text");
        assert_eq!(
            message,
            "command terminated with non-zero exit code: error executing command [fail now], exit code 3"
        );
    }
}

#[tokio::test]
async fn older_protocols_say_errors_as_text() {
    let channels = run("/exec?command=missing&stdout=true", "base64.channel.k8s.io", vec![]).await;
    assert_eq!(channels[&3], "Internal error occurred: error executing command in container: no such file");
    let channels = run("/exec?command=cat&stdin=false&stdout=true", "channel.k8s.io", vec![]).await;
    assert_eq!(channels.get(&3), None, "success says nothing");
}

#[tokio::test]
async fn attaching_succeeds_whatever_the_container_exits_with() {
    let channels = run("/attach?stdout=true&stderr=true", "v4.channel.k8s.io", vec![]).await;
    let status: Value = serde_json::from_str(&channels[&3]).expect("a status");
    assert_eq!((&channels[&2], &status["status"]), (&"oops".to_owned(), &Value::from("Success")));
}

#[tokio::test]
async fn whoever_typed_leaves_a_container_that_goes_on_reading() {
    let messages = vec![binary(b"\0one"), binary(&[255, 0])];
    let channels = run("/attach?stdin=true&stdout=true", "v5.channel.k8s.io", messages).await;
    let status: Value = serde_json::from_str(&channels[&3]).expect("a status");
    assert_eq!((&channels[&1], &status["status"]), (&"one".to_owned(), &Value::from("Success")));
}

#[tokio::test]
async fn terminals_are_resized() {
    let messages = vec![binary(b"\x04{\"Width\":80,\"Height\":24}")];
    let channels =
        run("/exec?command=size&tty=true&stdin=true&stdout=true", "v4.channel.k8s.io", messages).await;
    assert_eq!(channels[&1], "80x24");
    assert!(!channels.contains_key(&2));
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_session_along() {
    let server = Server::start().await;
    let socket = server.websocket("/exec?command=hang&stdin=true&stdout=true", "v4.channel.k8s.io").await;
    drop(socket);
    server.node.released.notified().await;
    server.sessions.shut_down().await;
}

#[tokio::test]
async fn what_a_client_sent_before_it_left_arrives() {
    let server = Server::start().await;
    let mut socket = server.websocket("/exec?command=take&stdin=true", "v4.channel.k8s.io").await;
    for _ in 0..100 {
        socket.send(binary(&[0; 1025])).await.expect("sends");
    }
    drop(socket);
    server.node.released.notified().await;
    assert_eq!(server.node.taken.load(Ordering::Relaxed), 100 * 1024);
    server.sessions.shut_down().await;
}

#[tokio::test]
async fn a_server_that_stops_ends_its_sessions() {
    let server = Server::start().await;
    let mut socket = server.websocket("/exec?command=hang&stdout=true", "v4.channel.k8s.io").await;
    assert_eq!(socket.next().await.expect("a message").expect("a message"), binary(&[1]));
    assert_eq!(server.sessions.len(), 1);
    server.sessions.shut_down().await;
    assert!(!matches!(socket.next().await, Some(Ok(_))), "the connection is closed");
}

fn command(node: &Arc<EchoNode>, name: &str) -> Command {
    let query = CommandQuery::exec(&format!("command={name}&stdout=true")).expect("a query");
    Command { node: node.clone(), target: container(), query, kind: CommandKind::Exec }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_stops_the_process() {
    let node = Arc::new(EchoNode::default());
    let (_client, connection) = tokio::io::duplex(1024);
    let activity = Arc::new(Activity::new(IDLE_LIMIT));
    let session =
        websocket::run_command(connection, activity, COMMAND_PROTOCOLS[0].1, command(&node, "flood"));
    // Nothing was said for the limit, since nothing could be: this ends by the idle limit.
    session.await;
    let flooded = node.flooded.load(Ordering::Relaxed);
    assert!(flooded > 0 && flooded < 2 << 20, "{flooded} bytes are somewhere between");
}

#[tokio::test]
async fn ports_are_forwarded_on_pairs_of_channels() {
    let server = Server::start().await;
    let mut socket = server.websocket("/portforward?ports=8080,1", "v4.channel.k8s.io").await;
    socket.send(binary(b"\0ping")).await.expect("sent");
    let mut channels: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
    let is_done = |channels: &BTreeMap<u8, Vec<u8>>| {
        let long = |channel, bytes| channels.get(&channel).is_some_and(|got: &Vec<u8>| got.len() > bytes);
        long(0, 5) && long(3, 2)
    };
    while !is_done(&channels) {
        let message = socket.next().await.expect("a message").expect("a message").into_data();
        channels.entry(message[0]).or_default().extend_from_slice(&message[1..]);
    }
    assert_eq!(channels[&0], b"\x90\x1fping");
    assert_eq!(channels[&1], b"\x90\x1f");
    let error = String::from_utf8_lossy(&channels[&3][2..]).into_owned();
    assert!(error.starts_with("error forwarding port 1 to pod p_n, uid u: "), "{error}");
    drop(socket);
    server.node.released.notified().await;
}

#[tokio::test]
async fn a_tunnel_carries_spdy() {
    let server = Server::start().await;
    let socket = server.websocket("/portforward", "SPDY/3.1+portforward.k8s.io").await;
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut from, mut to) = tokio::io::split(far);
    let (mut send, mut receive) = socket.split();
    let sending = tokio::spawn(async move {
        let mut buffer = vec![0; 1000];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            send.send(binary(&buffer[..read])).await.expect("sent");
        }
        send.close().await
    });
    let receiving = tokio::spawn(async move {
        while let Some(Ok(message)) = receive.next().await {
            if let Message::Binary(bytes) = message {
                to.write_all(&bytes).await.expect("room");
            }
        }
    });
    let mut client = SpdyClient::new(near);
    super::spdy::forward_and_back(&mut client).await;
    drop(client);
    let _ = sending.await.expect("no panic");
    server.node.released.notified().await;
    receiving.await.expect("no panic");
    server.sessions.shut_down().await;
}
