//! Debian's etcd, for the time of a test, and a connection to it that can be cut.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use sampan_storage::grpc::Endpoint;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

const PROGRAM: &str = "/usr/bin/etcd";

/// One member that is a cluster of its own. Ends, and is forgotten, when it is dropped.
pub struct Etcd {
    process: Child,
    command: Command,
    pub client: SocketAddr,
    _directory: TempDir,
}

/// A port of loopback that nobody has at this moment.
fn free_port() -> u16 {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
    listener.local_addr().expect("has an address").port()
}

impl Etcd {
    /// Starts it; who connects may have to wait until it serves.
    pub fn start(arguments: &[&str]) -> Self {
        assert!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing: install Debian's package etcd-server");
        let directory = TempDir::new().expect("a directory");
        let (client, peer) = (free_port(), free_port());
        let tls = arguments.iter().any(|argument| argument.starts_with("--cert-file"));
        let scheme = if tls { "https" } else { "http" };
        let client_url = format!("{scheme}://127.0.0.1:{client}");
        let peer_url = format!("http://127.0.0.1:{peer}");
        let mut command = Command::new(PROGRAM);
        command
            .arg("--data-dir")
            .arg(directory.path())
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().expect("etcd starts");
        Etcd { process, command, client: (Ipv4Addr::LOCALHOST, client).into(), _directory: directory }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Plain(self.client.to_string())
    }

    /// Kills it, and starts it again on what it had written.
    pub fn restart(&mut self) {
        self.end();
        self.process = self.command.spawn().expect("etcd starts");
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.end();
    }
}

/// Passes bytes on between a client and etcd, until it is told to cut.
pub struct Line {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    _accepting: JoinSet<()>,
}

struct State {
    /// Of the connections of now: answers are swallowed, so that what was asked happens and nobody hears.
    mute: Arc<AtomicBool>,
    swallowed: Arc<Notify>,
    connections: JoinSet<()>,
}

impl Line {
    pub async fn to(etcd: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        let state = Arc::new(Mutex::new(State {
            mute: Arc::default(),
            swallowed: Arc::default(),
            connections: JoinSet::new(),
        }));
        let mut accepting = JoinSet::new();
        let shared = state.clone();
        accepting.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let mut state = shared.lock();
                let connection = pass(client, etcd, state.mute.clone(), state.swallowed.clone());
                state.connections.spawn(connection);
            }
        });
        Line { address, state, _accepting: accepting }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Plain(self.address.to_string())
    }

    /// Swallows all answers from now on.
    pub fn mute(&self) {
        self.state.lock().mute.store(true, Ordering::SeqCst);
    }

    /// Waits until an answer was swallowed.
    pub async fn swallowed(&self) {
        let swallowed = self.state.lock().swallowed.clone();
        swallowed.notified().await;
    }

    /// Ends every connection; new ones work.
    pub fn cut(&self) {
        let mut state = self.state.lock();
        state.mute = Arc::default();
        state.connections = JoinSet::new();
    }
}

async fn pass(client: TcpStream, etcd: SocketAddr, mute: Arc<AtomicBool>, swallowed: Arc<Notify>) {
    let Ok(server) = TcpStream::connect(etcd).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asked = async { tokio::io::copy(&mut from_client, &mut to_server).await };
    let answered = async {
        let mut piece = vec![0; 64 << 10];
        loop {
            let count = from_server.read(&mut piece).await?;
            if count == 0 {
                return Ok(());
            }
            if mute.load(Ordering::SeqCst) {
                swallowed.notify_one();
            } else {
                to_client.write_all(&piece[..count]).await?;
            }
        }
    };
    tokio::select! {
        _ = asked => {}
        _ = async { answered.await as std::io::Result<()> } => {}
    }
}
