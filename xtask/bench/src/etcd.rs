//! Debian's etcd, and clients of it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use sampan_storage::grpc::{CallError, Channel, Endpoint, TlsFiles, wire};
use sampan_testkit::Sandbox;
use sampan_testkit::daemon::Daemon;
use sampan_testkit::etcd::{self, Member, PROGRAM};

pub const NAME: &str = "etcd";
const PUT: &str = "/etcdserverpb.KV/Put";
/// How long it may take to start, and to answer.
const PATIENCE: Duration = Duration::from_secs(30);
const ANSWER_BYTES: usize = 1 << 20;

/// Starts one on its data in a sandbox; `None` where it is not installed.
pub fn start(sandbox: &Sandbox, member: &Member, flags: &[&str]) -> Result<Option<Daemon>> {
    if !Path::new(PROGRAM).exists() {
        eprintln!("{PROGRAM} is missing: not compared with etcd (Debian's package etcd-server)");
        return Ok(None);
    }
    etcd::start(sandbox, member, std::slice::from_ref(member), flags).map(Some)
}

/// Its clients' way to a member.
fn endpoint(member: &Member) -> Endpoint {
    let address = member.client();
    match &member.tls {
        None => Endpoint::Plain(address),
        Some(tls) => {
            let identity = Some((tls.certificate.clone(), tls.key.clone()));
            let files = Arc::new(TlsFiles { authority: tls.authority.clone(), identity });
            Endpoint::Tls { address, host: member.address.clone(), files }
        }
    }
}

/// A connection of its own.
#[derive(Clone)]
pub struct Client {
    channel: Arc<Channel>,
}

impl Client {
    /// Some, each connected to an etcd that may be about to start.
    pub async fn connect(member: &Member, count: usize) -> Result<Vec<Client>> {
        let deadline = Instant::now() + PATIENCE;
        let endpoint = endpoint(member);
        let connects = (0..count).map(|_| async {
            let channel = Channel::new(endpoint.clone(), ANSWER_BYTES);
            let client = Client { channel: Arc::new(channel) };
            // It may listen before it has elected itself.
            loop {
                match client.put(b"ready", b"").await {
                    Ok(()) => return Ok(client),
                    Err(error) if Instant::now() > deadline => return Err(error),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        futures_util::future::try_join_all(connects).await
    }

    /// Durable when it returns.
    pub async fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut message = Vec::with_capacity(key.len() + value.len() + 16);
        wire::put_bytes(&mut message, 1, key);
        wire::put_bytes(&mut message, 2, value);
        self.channel.call(PUT, &message, PATIENCE).await.map(drop).map_err(CallError::into)
    }
}
