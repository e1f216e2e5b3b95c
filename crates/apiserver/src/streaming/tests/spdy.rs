use tokio::io::{AsyncRead, AsyncWrite};

use super::*;
use crate::streaming::spdy::testing::SpdyClient;

const V4: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io"];

#[tokio::test]
async fn commands_run_over_spdy() {
    let server = Server::start().await;
    let mut client = server.spdy("/exec?command=cat&stdin=true&stdout=true&stderr=true", V4).await;
    let error = client.open(&[("streamtype", "error")]).await;
    let stdin = client.open(&[("streamtype", "stdin")]).await;
    let stdout = client.open(&[("streamtype", "stdout")]).await;
    let stderr = client.open(&[("streamtype", "stderr")]).await;
    client.data(stdin, "hello").await;
    client.ping(7).await;
    assert!(client.read_until(|client| client.text(stdout) == "hello" && client.pongs == [7]).await);
    client.end(stdin).await;
    let all = [error, stdout, stderr];
    assert!(client.read_until(|client| all.iter().all(|stream| client.ended.contains(stream))).await);
    let status: Value = serde_json::from_str(&client.text(error)).expect("a status");
    assert_eq!(status["status"], "Success");
    assert!(!client.read_until(|_| false).await, "the server closes when all is said");
    drop(client);
    server.sessions.shut_down().await;
}

#[tokio::test]
async fn versions_differ_in_errors_and_resizing() {
    let server = Server::start().await;
    let mut client = server.spdy("/exec?command=size&tty=true&stdout=true", &["v3.channel.k8s.io"]).await;
    let error = client.open(&[("streamtype", "error")]).await;
    let stdout = client.open(&[("streamtype", "stdout")]).await;
    let resize = client.open(&[("streamtype", "resize")]).await;
    client.data(resize, "{\"Width\":100,").await;
    client.data(resize, "\"Height\":30}\n").await;
    assert!(client.read_until(|client| client.ended.contains(&error)).await);
    assert_eq!((client.text(stdout), client.text(error)), ("100x30".to_owned(), String::new()));

    let mut client = server.spdy("/exec?command=fail&stderr=true", &[]).await;
    let error = client.open(&[("streamtype", "error")]).await;
    client.open(&[("streamtype", "stderr")]).await;
    assert!(client.read_until(|client| client.ended.contains(&error)).await);
    assert!(client.text(error).ends_with("exit code 3"), "{}", client.text(error));
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_session_along() {
    let server = Server::start().await;
    let mut client = server.spdy("/exec?command=hang&stdout=true", V4).await;
    client.open(&[("streamtype", "error")]).await;
    client.open(&[("streamtype", "stdout")]).await;
    drop(client);
    server.sessions.tasks.close();
    server.sessions.tasks.wait().await;
}

#[tokio::test]
async fn ports_are_forwarded() {
    let server = Server::start().await;
    let mut client = server.spdy("/portforward", &["portforward.k8s.io"]).await;
    forward_and_back(&mut client).await;
    drop(client);
    server.sessions.tasks.close();
    server.sessions.tasks.wait().await;
}

/// Two connections at once, one of which is half-closed and one reset; and a port that refuses.
pub(super) async fn forward_and_back<C: AsyncRead + AsyncWrite + Unpin>(client: &mut SpdyClient<C>) {
    let mut pairs = Vec::new();
    for (request, port) in [("0", "8080"), ("1", "8080"), ("2", "1")] {
        let headers = |kind| [("streamtype", kind), ("port", port), ("requestid", request)];
        let error = client.open(&headers("error")).await;
        client.end(error).await;
        let data = client.open(&headers("data")).await;
        pairs.push((data, error));
    }
    let [(first, first_error), (second, _), (refused, refused_error)] = pairs[..] else {
        panic!("three pairs")
    };
    client.data(first, "one").await;
    client.data(second, "two").await;
    assert!(client.read_until(|client| client.text(first) == "one" && client.text(second) == "two").await);
    client.end(first).await;
    assert!(client.read_until(|client| client.ended.contains(&first_error)).await);
    assert!(client.ended.contains(&first));
    assert_eq!(client.text(first_error), "");
    client.reset(second).await;
    assert!(client.read_until(|client| client.ended.contains(&refused_error)).await);
    assert!(client.ended.contains(&refused));
    assert!(client.text(refused_error).contains("connection refused"));
    // The connection serves on.
    let headers = |kind| [("streamtype", kind), ("port", "80"), ("requestid", "3")];
    let data = client.open(&headers("data")).await;
    client.open(&headers("error")).await;
    client.data(data, "three").await;
    assert!(client.read_until(|client| client.text(data) == "three").await);
}

#[tokio::test]
async fn streams_that_cannot_be_used_are_refused() {
    let server = Server::start().await;
    let mut client = server.spdy("/portforward", &["portforward.k8s.io"]).await;
    let no_port = client.open(&[("streamtype", "error"), ("port", "0")]).await;
    assert!(client.read_until(|client| client.ended.contains(&no_port)).await);
    assert_eq!(client.text(no_port), "the port header is not a port");
    let headers = [("streamtype", "error"), ("port", "80"), ("requestid", "0")];
    client.open(&headers).await;
    let again = client.open(&headers).await;
    assert!(client.read_until(|client| client.ended.contains(&again)).await);
    assert!(client.text(again).ends_with("stream already assigned"));
}
