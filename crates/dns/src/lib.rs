//! Cluster DNS on the node: the cluster's names from the API, all others from upstream.
//!
//! [`index`] knows the names, [`zone`] what they answer (Kubernetes' DNS specification 1.1.0);
//! both are pure. [`follow`] feeds the one from informers, [`forward`] asks upstream servers, and
//! [`server`] has the sockets. Names below the cluster's domain are never asked upstream. There is
//! no recursion of our own, no DNSSEC validation and no wildcard.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use hickory_proto::rr::Name;
use ipnet::IpNet;
use parking_lot::RwLock;
use sampan_base::drain::Shutdown;
use sampan_client::Client;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinSet;

mod cache;
mod follow;
mod forward;
pub mod fuzzing;
pub mod index;
mod message;
mod server;
#[cfg(test)]
mod tests;
mod upstream;
pub mod zone;

pub use upstream::Upstreams;

use crate::forward::Forwarder;
use crate::index::Index;
use crate::server::Handler;
use crate::zone::Zone;

/// How DNS is served.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// Where UDP and TCP are served. The addresses must be local by now. Port 0 takes any port.
    pub listen: Vec<SocketAddr>,
    /// The cluster's domain, `cluster.local`.
    pub domain: String,
    /// Addresses of pods and services: their reverse names are not asked upstream.
    pub ranges: Vec<IpNet>,
    pub upstreams: Upstreams,
    /// Seconds for which clients may keep answers about the cluster.
    pub ttl: u32,
}

impl DnsConfig {
    /// As clusters usually have it: `cluster.local`, five seconds, the host's upstream servers.
    pub fn new(listen: Vec<SocketAddr>) -> Self {
        DnsConfig {
            listen,
            domain: "cluster.local".to_owned(),
            ranges: Vec::new(),
            upstreams: Upstreams::ResolvConf("/etc/resolv.conf".into()),
            ttl: 5,
        }
    }
}

/// Why DNS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("{domain:?} is not a domain name")]
    Domain {
        domain: String,
        #[source]
        source: hickory_proto::ProtoError,
    },
    #[error("cannot serve DNS over {transport} on {address}")]
    Bind {
        transport: &'static str,
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
}

/// The DNS server. Dropping it ends it.
pub struct Dns {
    tasks: JoinSet<()>,
    ready: watch::Receiver<bool>,
    addresses: Vec<SocketAddr>,
    shutdown: Shutdown,
}

impl Dns {
    /// Binds the sockets and starts to answer; until [`Dns::ready`], names may be missing.
    pub async fn start(config: DnsConfig, client: Client, shutdown: Shutdown) -> Result<Self, DnsError> {
        let domain = Name::from_ascii(&config.domain)
            .map_err(|source| DnsError::Domain { domain: config.domain.clone(), source })?;
        let mut sockets = Vec::new();
        for address in &config.listen {
            sockets.push(bind(*address).await?);
        }
        let addresses: Vec<SocketAddr> = sockets.iter().map(|(address, ..)| *address).collect();
        let servers = addresses.iter().map(SocketAddr::ip).collect();
        let serial = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs() as u32);
        let index = Arc::new(RwLock::new(Index::default()));
        let handler = Arc::new(Handler {
            zone: Zone::new(&domain, config.ttl, servers, config.ranges, serial),
            index: index.clone(),
            forwarder: Forwarder::new(config.upstreams, addresses.clone()),
            rotation: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        for (_, udp, tcp) in sockets {
            tasks.spawn(server::serve_udp(handler.clone(), udp));
            tasks.spawn(server::serve_tcp(handler.clone(), tcp));
        }
        let (ready_sender, ready) = watch::channel(false);
        tasks.spawn(follow::follow(client, index, ready_sender));
        Ok(Dns { tasks, ready, addresses, shutdown })
    }

    /// Where it answers.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Resolves when all that exists in the cluster is known. Independent of `self`, so that it
    /// can be waited for while [`Dns::run`] runs.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut ready = self.ready.clone();
        async move {
            if ready.wait_for(|ready| *ready).await.is_err() {
                // The server ended first: it will never be ready.
                std::future::pending().await
            }
        }
    }

    /// Serves until the process is told to shut down. Ends early only if a part failed.
    pub async fn run(mut self) {
        tokio::select! {
            () = self.shutdown.requested() => {}
            Some(ended) = self.tasks.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a part of DNS failed");
                }
            }
        }
        self.tasks.shutdown().await;
    }
}

/// One address over both transports, on the same port.
async fn bind(address: SocketAddr) -> Result<(SocketAddr, UdpSocket, TcpListener), DnsError> {
    let error = |transport| move |source| DnsError::Bind { transport, address, source };
    let tcp = TcpListener::bind(address).await.map_err(error("TCP"))?;
    let address = tcp.local_addr().map_err(error("TCP"))?;
    let udp = UdpSocket::bind(address).await.map_err(error("UDP"))?;
    Ok((address, udp, tcp))
}
