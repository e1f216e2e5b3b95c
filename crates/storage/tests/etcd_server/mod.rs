//! Debian's etcd, for the time of a test, and a connection to it that can be cut.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sampan_storage::grpc::Endpoint;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

const PROGRAM: &str = "/usr/bin/etcd";
/// How long a machine that is busy may take to start it.
const PATIENCE: Duration = Duration::from_secs(60);

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Where it says how it is, also when clients need TLS.
const HEALTH_PORT: u16 = 2381;

/// One member that is a cluster of its own. Ends, and is forgotten, when it is dropped.
pub struct Etcd {
    process: Child,
    command: Command,
    pub client: SocketAddr,
    directory: TempDir,
}

/// An address of loopback that nobody else has, so that its ports are free and stay so.
pub fn own_address() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, COUNT.fetch_add(1, Ordering::Relaxed), high, low)
}

impl Etcd {
    /// Starts it and waits until it serves.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_at(own_address(), arguments)
    }

    pub fn start_at(address: Ipv4Addr, arguments: &[&str]) -> Self {
        assert!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing: install Debian's package etcd-server");
        let directory = TempDir::new().expect("a directory");
        let tls = arguments.iter().any(|argument| argument.starts_with("--cert-file"));
        let scheme = if tls { "https" } else { "http" };
        let client_url = format!("{scheme}://{address}:{CLIENT_PORT}");
        let peer_url = format!("http://{address}:{PEER_PORT}");
        let health_url = format!("http://{address}:{HEALTH_PORT}");
        let mut command = Command::new(PROGRAM);
        command
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .args(["--listen-metrics-urls", &health_url])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(File::create(directory.path().join("log")).expect("a file"));
        let process = command.spawn().expect("etcd starts");
        let mut etcd = Etcd { process, command, client: (address, CLIENT_PORT).into(), directory };
        etcd.wait_until_it_serves();
        etcd
    }

    fn wait_until_it_serves(&mut self) {
        let since = Instant::now();
        while !is_healthy((self.client.ip(), HEALTH_PORT).into()).unwrap_or(false) {
            let ended = self.process.try_wait().expect("is a child");
            if ended.is_some() || since.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                panic!("etcd does not serve ({ended:?}): {log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Plain(self.client.to_string())
    }

    /// Kills it, and starts it again on what it had written. Who connects has to wait until it serves.
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

fn is_healthy(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = StdStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.contains(r#""health":"true""#))
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
        state.swallowed = Arc::default();
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
