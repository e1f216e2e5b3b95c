//! The node role, the same in `sampan server` and `sampan agent`: pods, their network, DNS, images.
//!
//! It knows the cluster only through the clients that it is given.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use sampan_base::drain::Tasks;
use sampan_base::readiness::Readiness;
use sampan_client::Client;
use sampan_dns::{Dns, DnsConfig};
use sampan_image::{ImageStore, RegistryClient, RegistryOptions};
use sampan_net::NodeNetwork;
use sampan_node::{Node, NodeConfig, RegistryPuller};

use crate::admin;
use crate::config::Config;

/// The place of the cluster's DNS in the service range.
const DNS_OFFSET: u32 = 10;

/// The API under the identities of a node's parts.
pub struct Clients {
    pub node: Client,
    /// Carries services.
    pub proxy: Client,
    pub dns: Client,
}

/// A node that was started.
pub struct NodeRole {
    pub node: Arc<Node>,
}

impl NodeRole {
    /// Starts this machine's node, its DNS and the socket for its images and for what else is routed. The
    /// network stands by now.
    pub async fn start(
        config: &Config,
        clients: Clients,
        images: ImageStore,
        further: axum::Router,
        tasks: &mut Tasks,
        readiness: &Readiness,
    ) -> Result<Self> {
        let registry = RegistryClient::new(RegistryOptions::default());
        let puller = RegistryPuller { registry: registry.clone(), store: images.clone() };
        let node = start_node(config, clients.node, clients.proxy, puller, tasks, readiness).await?;
        start_dns(config, clients.dns, tasks, readiness).await?;
        let socket = admin::serve(&config.data_dir, images, registry, further, tasks.shutdown())?;
        tasks.spawn("admin socket", socket);
        Ok(NodeRole { node })
    }

    /// Stops to look after the pods, which go on. Nobody else may hold the node any more.
    pub async fn shutdown(self) {
        match Arc::into_inner(self.node) {
            Some(node) => node.shutdown().await,
            None => tracing::warn!("the node is still in use; its containers go on all the same"),
        }
    }
}

/// Sets up the links, addresses and rules of this node's network.
pub fn set_up_network(config: &Config) -> impl Future<Output = Result<()>> + use<> {
    let network = network(config);
    let work = tokio::task::spawn_blocking(move || sampan_net::ensure_node(&network));
    async move { work.await?.context("cannot set up the node's network; `sampan doctor` checks what it needs") }
}

/// What this node's network is made of.
pub fn network(config: &Config) -> NodeNetwork {
    let mut network = NodeNetwork {
        bridge: "sampan0".to_owned(),
        mtu: 1500,
        pod_cidr: config.node_cidr,
        cluster_cidr: config.cluster_cidr,
        service_cidr: config.service_range.to_string().parse().expect("a checked range is a CIDR"),
        dns_ip: Some(config.service_range.address(DNS_OFFSET).into()),
        node_ips: Vec::new(),
        node_port_addresses: config.node_port_addresses.clone(),
        cluster_links: Vec::new(),
        forward_from_outside: false,
        table: "sampan".to_owned(),
    };
    network.node_ips.push(address(config, &network));
    network
}

/// The node's own address: where it listens, or, when that is loopback, its address among its pods.
fn address(config: &Config, network: &NodeNetwork) -> IpAddr {
    let listen = config.listen.ip();
    if listen.is_loopback() || listen.is_unspecified() { network.gateway() } else { listen }
}

/// Opens the image store, which belongs to this process alone.
pub async fn open_images(config: &Config) -> Result<ImageStore> {
    let directory = config.data_dir.join("images");
    Ok(tokio::task::spawn_blocking(move || ImageStore::open(&directory)).await??)
}

/// Starts this machine's node.
async fn start_node(
    config: &Config,
    client: Client,
    proxy: Client,
    puller: RegistryPuller,
    tasks: &mut Tasks,
    readiness: &Readiness,
) -> Result<Arc<Node>> {
    let gate = readiness.gate("node");
    let network = network(config);
    let node_ip = address(config, &network);
    let mut node_config = NodeConfig::new(
        &config.node_name,
        &config.data_dir,
        std::env::current_exe().context("cannot find the running binary")?,
        network,
        node_ip,
        config.service_range.address(DNS_OFFSET).into(),
    );
    node_config.cluster_domain = config.cluster_domain.clone();
    node_config.max_pods = config.max_pods;
    node_config.log_limits = config.container_log;
    node_config.cgroup_root = config.cgroup_root();
    let images = puller.store.clone();
    let node = Arc::new(Node::start(node_config, client, proxy, images, Arc::new(puller)).await?);
    tasks.spawn_until_shutdown("node readiness", {
        let node = node.clone();
        async move {
            node.ready().await;
            gate.open();
            drop(node);
            std::future::pending().await
        }
    });
    Ok(node)
}

/// Starts the cluster's DNS on its service address, which is local to every node.
async fn start_dns(config: &Config, client: Client, tasks: &mut Tasks, readiness: &Readiness) -> Result<()> {
    let gate = readiness.gate("dns");
    let address: IpAddr = config.service_range.address(DNS_OFFSET).into();
    let mut dns_config = DnsConfig::new(vec![SocketAddr::new(address, 53)]);
    dns_config.domain = config.cluster_domain.clone();
    dns_config.ranges = vec![config.cluster_cidr, network(config).service_cidr];
    let dns = Dns::start(dns_config, client, tasks.shutdown()).await.context("cannot serve DNS")?;
    let ready = dns.ready();
    tasks.spawn("dns", dns.run());
    tasks.spawn_until_shutdown("dns readiness", async move {
        ready.await;
        gate.open();
        std::future::pending().await
    });
    Ok(())
}
