//! Whole sessions over loopback TCP, with a node that echoes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use sampan_client::node_streams::{
    BoxDuplex, ExecSession, ExitStatus, LogOptions, LogStream, StreamFlags, TerminalSize,
};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::*;

mod negotiation;
mod spdy;
mod websocket;

/// A node whose commands are `cat`, `fail`, `size`, `hang`, `flood` and `missing`.
#[derive(Default)]
struct EchoNode {
    /// Told when a command's session is let go.
    released: Arc<Notify>,
    /// Bytes that `flood` could write.
    flooded: Arc<AtomicUsize>,
    /// Bytes that `take` read until the end of its input.
    taken: Arc<AtomicUsize>,
}

/// Tells when it is dropped.
struct Held(Arc<Notify>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

struct Process {
    stdin: DuplexStream,
    stdout: DuplexStream,
    stderr: DuplexStream,
    sizes: mpsc::Receiver<TerminalSize>,
    flooded: Arc<AtomicUsize>,
    taken: Arc<AtomicUsize>,
    held: Held,
}

impl Process {
    async fn run(mut self, command: String) -> Result<ExitStatus, Status> {
        let write = "a pipe takes what fits";
        let code = match command.as_str() {
            "cat" => {
                tokio::io::copy(&mut self.stdin, &mut self.stdout).await.expect(write);
                0
            }
            "size" => {
                let TerminalSize { width, height } = self.sizes.recv().await.expect("a size");
                self.stdout.write_all(format!("{width}x{height}").as_bytes()).await.expect(write);
                0
            }
            "flood" => loop {
                self.stdout.write_all(&[b'x'; 1024]).await.expect(write);
                self.flooded.fetch_add(1024, Ordering::Relaxed);
            },
            "take" => {
                let mut input = Vec::new();
                self.stdin.read_to_end(&mut input).await.expect("a pipe");
                self.taken.store(input.len(), Ordering::Relaxed);
                0
            }
            "reader" => {
                tokio::io::copy(&mut self.stdin, &mut self.stdout).await.expect(write);
                // Whoever typed left: the process itself goes on.
                drop((self.stdout, self.stderr));
                std::future::pending().await
            }
            "hang" => std::future::pending().await,
            _ => {
                self.stderr.write_all(b"oops").await.expect(write);
                3
            }
        };
        drop(self.held);
        Ok(ExitStatus { code })
    }
}

impl EchoNode {
    fn start(&self, command: String, streams: StreamFlags) -> ExecSession {
        let (stdin, process_stdin) = tokio::io::duplex(1024);
        let (stdout, process_stdout) = tokio::io::duplex(1024);
        let (stderr, process_stderr) = tokio::io::duplex(1024);
        let (resize, sizes) = mpsc::channel(1);
        let process = Process {
            stdin: process_stdin,
            stdout: process_stdout,
            stderr: process_stderr,
            sizes,
            flooded: self.flooded.clone(),
            taken: self.taken.clone(),
            held: Held(self.released.clone()),
        };
        ExecSession {
            stdin: streams.stdin.then(|| Box::new(stdin) as _),
            stdout: streams.stdout.then(|| Box::new(stdout) as _),
            stderr: streams.stderr.then(|| Box::new(stderr) as _),
            resize: streams.tty.then_some(resize),
            ends_with_input: false,
            exit: Box::pin(process.run(command)),
        }
    }
}

#[async_trait]
impl NodeStreams for EchoNode {
    async fn logs(&self, pod: &PodRef, container: &str, options: LogOptions) -> Result<LogStream, Status> {
        let line = format!("{pod} {container} {:?}\n", options.tail_lines);
        Ok(Box::pin(futures_util::stream::iter([Ok(Bytes::from(line))])))
    }

    async fn exec(
        &self,
        _pod: &PodRef,
        _container: &str,
        command: Vec<String>,
        streams: StreamFlags,
    ) -> Result<ExecSession, Status> {
        match command[0].as_str() {
            "missing" => Err(Status::internal("no such file")),
            name => Ok(self.start(name.to_owned(), streams)),
        }
    }

    async fn attach(&self, _: &PodRef, _: &str, streams: StreamFlags) -> Result<ExecSession, Status> {
        let command = if streams.stdin { "reader" } else { "fail" };
        Ok(ExecSession { ends_with_input: streams.stdin, ..self.start(command.to_owned(), streams) })
    }

    async fn port_forward(&self, _pod: &PodRef, port: u16) -> Result<BoxDuplex, Status> {
        if port == 1 {
            return Err(Status::internal("connection refused"));
        }
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let held = Held(self.released.clone());
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(&mut theirs);
            let copied = tokio::io::copy(&mut from, &mut to).await;
            drop(held);
            copied
        });
        Ok(Box::new(ours))
    }
}

fn pod() -> PodRef {
    PodRef { namespace: "n".to_owned(), name: "p".to_owned(), uid: "u".to_owned() }
}

fn container() -> ContainerRef {
    ContainerRef { pod: pod(), container: "c".to_owned() }
}

/// An HTTP server with nothing but these subresources.
struct Server {
    address: std::net::SocketAddr,
    node: Arc<EchoNode>,
    sessions: Sessions,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = Server { address, node: Arc::default(), sessions: Sessions::default() };
        let (node, sessions) = (server.node.clone(), server.sessions.clone());
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (node, sessions) = (node.clone(), sessions.clone());
                let service = service_fn(move |request| {
                    let answer = answer(request, node.clone(), &sessions);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(connection), service)
                    .with_upgrades();
                tokio::spawn(serving);
            }
        });
        server
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    async fn websocket(&self, path: &str, protocol: &str) -> WebSocketStream<TcpStream> {
        let mut request = format!("ws://localhost{path}").into_client_request().expect("a request");
        let value = HeaderValue::from_str(protocol).expect("a header");
        request.headers_mut().insert(http::header::SEC_WEBSOCKET_PROTOCOL, value);
        let (websocket, response) =
            tokio_tungstenite::client_async(request, self.connect().await).await.expect("accepted");
        assert_eq!(response.headers()[http::header::SEC_WEBSOCKET_PROTOCOL], protocol);
        websocket
    }

    async fn spdy(
        &self,
        path: &str,
        protocols: &[&str],
    ) -> super::spdy::testing::SpdyClient<TokioIo<hyper::upgrade::Upgraded>> {
        let connection = TokioIo::new(self.connect().await);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(connection).await.expect("HTTP");
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::post(path)
            .header(http::header::HOST, "localhost")
            .header(http::header::CONNECTION, "Upgrade")
            .header(http::header::UPGRADE, "SPDY/3.1");
        for protocol in protocols {
            request = request.header("X-Stream-Protocol-Version", *protocol);
        }
        let response =
            sender.send_request(request.body(Full::default()).expect("a request")).await.expect("answered");
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let upgraded = hyper::upgrade::on(response).await.expect("upgraded");
        super::spdy::testing::SpdyClient::new(TokioIo::new(upgraded))
    }
}

fn answer(request: Request<Incoming>, node: Arc<EchoNode>, sessions: &Sessions) -> UpgradeResponse {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let answer = match request.uri().path() {
        "/exec" => {
            let query = CommandQuery::exec(&query).map_err(Status::from);
            query.and_then(|query| sessions.exec(request, node, container(), query))
        }
        "/attach" => {
            let query = CommandQuery::attach(&query).map_err(Status::from);
            query.and_then(|query| sessions.attach(request, node, container(), query))
        }
        _ => {
            let ports = port_list(&query).map_err(Status::from);
            ports.and_then(|ports| sessions.port_forward(request, node, pod(), ports))
        }
    };
    answer.unwrap_or_else(|status| {
        let mut response = Response::new(Full::from(status.to_string()));
        *response.status_mut() = StatusCode::from_u16(status.code).expect("a code");
        response
    })
}
