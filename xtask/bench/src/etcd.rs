//! Debian's etcd, and a client that speaks its own protocol: gRPC, here over plain HTTP/2.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sampan_testkit::Sandbox;
use sampan_testkit::etcd::{Etcd, Member, PROGRAM};
use tokio::net::TcpStream;

pub const NAME: &str = "etcd";
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2379);
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts one on its data in a sandbox; `None` where it is not installed.
pub fn start(sandbox: &Sandbox, flags: &[&str]) -> Result<Option<Etcd>> {
    if !Path::new(PROGRAM).exists() {
        eprintln!("{PROGRAM} is missing: not compared with etcd (Debian's package etcd-server)");
        return Ok(None);
    }
    let member = Member::alone();
    Etcd::start_with(sandbox, &member, std::slice::from_ref(&member), flags).map(Some)
}

/// A connection of its own.
#[derive(Clone)]
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects; waits for an etcd that is about to start.
    pub async fn connect() -> Result<Client> {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match TcpStream::connect(ADDRESS).await {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => bail!("etcd does not listen: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Client { sender })
    }

    /// `etcdserverpb.KV/Put`; durable when it returns.
    pub async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut message = BytesMut::new();
        field(&mut message, 1, key);
        field(&mut message, 2, value);
        // Not compressed, and how long it is.
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len())?);
        body.put(message);
        let request = Request::post(format!("http://{ADDRESS}/etcdserverpb.KV/Put"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(body.freeze()))?;
        let mut sender = self.sender.clone();
        sender.ready().await?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?;
        let status = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
        match status.or_else(|| head.headers.get("grpc-status")) {
            Some(status) if status == "0" => Ok(()),
            status => bail!("etcd answered {} with gRPC status {status:?}", head.status),
        }
    }
}

/// A field of bytes in protobuf's encoding.
fn field(message: &mut BytesMut, number: u8, bytes: &[u8]) {
    message.put_u8(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        message.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    message.put_u8(length as u8);
    message.put_slice(bytes);
}
