//! `sampan server`: every role in one process, wired here and nowhere else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use sampan_api::table::Table;
use sampan_apiserver::identity::authentication::{Authenticator, ServiceAccountTokens, TokenConfig};
use sampan_apiserver::identity::pki::{Pki, PkiConfig};
use sampan_apiserver::identity::{MASTERS_GROUP, User};
use sampan_apiserver::registry::Registry;
use sampan_apiserver::strategy::service::Allocators;
use sampan_apiserver::{ApiServer, bootstrap, listener};
use sampan_base::drain::Tasks;
use sampan_base::readiness::Readiness;
use sampan_controllers::ControllersConfig;
use sampan_dns::{Dns, DnsConfig};
use sampan_image::{ImageStore, RegistryClient, RegistryOptions};
use sampan_net::NodeNetwork;
use sampan_node::{Node, NodeConfig, RegistryPuller};
use sampan_scheduler::SchedulerConfig;
use sampan_storage::{Options, RedbStore, Store};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin;
use crate::config::Config;

/// The place of the cluster's DNS in the service range.
const DNS_OFFSET: u32 = 10;

/// How long components have to end after a signal.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT.
pub fn run(config: Config) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("sampan server needs root, for containers and their network; run it with sudo");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(config));
    // Blocking tasks that still run (a watch on a file, a read) must not hold the process back.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(config: Config) -> Result<()> {
    let started = Instant::now();
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot create the data directory {}", config.data_dir.display()))?;
    let mut tasks = Tasks::default();
    let readiness = Readiness::default();
    let network = node_network(&config);
    // The network stands before anything listens on it.
    let links = tokio::task::spawn_blocking({
        let network = network.clone();
        move || sampan_net::ensure_node(&network)
    });
    let (store, images) = tokio::try_join!(open_store(&config), open_images(&config))?;
    let store: Arc<dyn Store> = Arc::new(store);
    links.await?.context("cannot set up the node's network; `sampan doctor` checks what it needs")?;
    let (server, pki) = start_api(&config, &network, store.clone(), &mut tasks, &readiness).await?;
    eprintln!("kubeconfig: {}", pki.admin_kubeconfig().display());
    start_control(&server, &pki, &mut tasks, &readiness);
    let node = start_node(&config, network, &server, images.clone(), &mut tasks, &readiness).await?;
    start_dns(&config, &server, &mut tasks, &readiness).await?;
    let socket = admin::serve(&config.data_dir, images, tasks.shutdown())?;
    tasks.spawn("admin socket", socket);
    tasks.spawn("announcement", {
        let (readiness, shutdown) = (readiness.clone(), tasks.shutdown());
        async move {
            readiness.ready().await;
            tracing::info!(address = %config.listen, elapsed_ms = started.elapsed().as_millis() as u64, "ready");
            shutdown.requested().await;
        }
    });
    let ended = wait_for_end(&mut tasks).await;
    server.sessions.shut_down().await;
    let aborted = tasks.stop(STOP_DEADLINE).await;
    if aborted > 0 {
        tracing::warn!(aborted, "tasks did not end in time");
    }
    drop(server);
    match Arc::into_inner(node) {
        Some(node) => node.shutdown().await,
        None => tracing::warn!("the node is still in use; its containers go on all the same"),
    }
    store.close().await;
    ended
}

/// What this node's network is made of.
fn node_network(config: &Config) -> NodeNetwork {
    let node_cidr = config.node_cidr();
    let mut network = NodeNetwork {
        bridge: "sampan0".to_owned(),
        mtu: 1500,
        pod_cidr: node_cidr,
        cluster_cidr: config.cluster_cidr,
        service_cidr: config.service_range.to_string().parse().expect("a checked range is a CIDR"),
        dns_ip: Some(config.service_range.address(DNS_OFFSET).into()),
        node_ips: Vec::new(),
        node_port_addresses: config.node_port_addresses.clone(),
        cluster_links: Vec::new(),
        forward_from_outside: false,
        table: "sampan".to_owned(),
    };
    network.node_ips.push(node_address(config, &network));
    network
}

/// The node's own address: where it listens, or, when that is loopback, its address among its pods.
fn node_address(config: &Config, network: &NodeNetwork) -> IpAddr {
    let listen = config.listen.ip();
    if listen.is_loopback() || listen.is_unspecified() { network.gateway() } else { listen }
}

async fn open_images(config: &Config) -> Result<ImageStore> {
    let directory = config.data_dir.join("images");
    Ok(tokio::task::spawn_blocking(move || ImageStore::open(&directory)).await??)
}

/// Starts the scheduler and the controllers.
fn start_control(server: &Arc<ApiServer>, pki: &Pki, tasks: &mut Tasks, readiness: &Readiness) {
    let client = |name: &str| server.client(User::component(name, &[MASTERS_GROUP]));
    let (gate, shutdown) = (readiness.gate("scheduler"), tasks.shutdown());
    let scheduler = client("system:kube-scheduler");
    tasks.spawn("scheduler", async move {
        sampan_scheduler::run(scheduler, SchedulerConfig::default(), || gate.open(), shutdown.requested())
            .await;
    });
    let (gate, shutdown) = (readiness.gate("controllers"), tasks.shutdown());
    let controllers = client("system:kube-controller-manager");
    let config = ControllersConfig { ca_pem: pki.ca_pem().to_owned() };
    tasks.spawn("controllers", async move {
        sampan_controllers::run(controllers, config, || gate.open(), shutdown).await;
    });
}

/// Starts this machine's node.
async fn start_node(
    config: &Config,
    network: NodeNetwork,
    server: &Arc<ApiServer>,
    images: ImageStore,
    tasks: &mut Tasks,
    readiness: &Readiness,
) -> Result<Arc<Node>> {
    let gate = readiness.gate("node");
    let user =
        User::component(&format!("system:node:{}", config.node_name), &["system:nodes", MASTERS_GROUP]);
    let node_ip = node_address(config, &network);
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
    node_config.cgroup_root = config.cgroup_root();
    let registry = RegistryClient::new(RegistryOptions::default());
    let puller = Arc::new(RegistryPuller { registry, store: images.clone() });
    let node = Arc::new(Node::start(node_config, server.client(user), images, puller).await?);
    server.set_node(node.clone());
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
async fn start_dns(
    config: &Config,
    server: &Arc<ApiServer>,
    tasks: &mut Tasks,
    readiness: &Readiness,
) -> Result<()> {
    let gate = readiness.gate("dns");
    let address: IpAddr = config.service_range.address(DNS_OFFSET).into();
    let mut dns_config = DnsConfig::new(vec![SocketAddr::new(address, 53)]);
    dns_config.domain = config.cluster_domain.clone();
    dns_config.ranges = vec![config.cluster_cidr, node_network(config).service_cidr];
    let client = server.client(User::component("system:coredns", &[MASTERS_GROUP]));
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

async fn open_store(config: &Config) -> Result<RedbStore> {
    let directory = config.data_dir.join("store");
    std::fs::create_dir_all(&directory)?;
    let path = directory.join("sampan.redb");
    let options = Options::default();
    Ok(tokio::task::spawn_blocking(move || RedbStore::open(&path, options)).await??)
}

/// Starts the API server and answers once it listens.
async fn start_api(
    config: &Config,
    network: &NodeNetwork,
    store: Arc<dyn Store>,
    tasks: &mut Tasks,
    readiness: &Readiness,
) -> Result<(Arc<ApiServer>, Arc<Pki>)> {
    let gate = readiness.gate("api");
    let address = client_address(config.listen);
    let pki = Arc::new(Pki::ensure(
        PkiConfig {
            directory: config.data_dir.join("pki"),
            admin_kubeconfig: config.data_dir.join("admin.kubeconfig"),
            server_url: format!("https://{address}"),
            service_addresses: vec![config.service_range.address(1).into()],
            extra_names: config.tls_san.clone(),
        },
        Timestamp::now(),
    )?);
    let token_config = TokenConfig {
        issuer: format!("https://kubernetes.default.svc.{}", config.cluster_domain),
        api_audiences: Vec::new(),
    };
    let tokens = Arc::new(ServiceAccountTokens::new(token_config, pki.token_key())?);
    let allocators = Allocators::new(config.service_range, config.node_ports.clone());
    let registry = Registry::open(store, Table::builtin(), allocators, tokens.clone()).await?;
    let shutdown = tasks.shutdown();
    tasks.spawn("cache", {
        let registry = registry.clone();
        async move {
            if let Err(error) = registry.follow(shutdown.requested()).await {
                tracing::error!(error = &error as &dyn std::error::Error, "the store cannot be followed");
            }
        }
    });
    let inside = SocketAddr::new(network.gateway(), config.listen.port());
    bootstrap::ensure(&registry, inside).await?;
    let authenticator = Authenticator { tokens, anonymous: true };
    let server = ApiServer::new(registry, authenticator, address.to_string(), readiness.clone());
    tasks.spawn_until_shutdown("roles", server.clone().follow_roles());
    tasks.spawn_until_shutdown("certificates", pki.clone().keep_fresh());
    let tls = Arc::new(pki.server_config()?);
    // Clients of the machine, and pods: the second address is of the bridge and leads nowhere else.
    let both = [config.listen, inside];
    let addresses = if config.listen.ip().is_unspecified() { &both[..1] } else { &both[..] };
    for address in addresses {
        let socket = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}; choose another address with --listen"))?;
        tasks.spawn("listener", listener::serve(server.clone(), socket, tls.clone(), tasks.shutdown()));
    }
    gate.open();
    Ok((server, pki))
}

/// The address at which clients on this machine reach a socket.
fn client_address(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port()),
        _ => listen,
    }
}

/// Waits for a signal, or for a task that ended although it should not.
async fn wait_for_end(tasks: &mut Tasks) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        name = tasks.first_end() => bail!("{} ended", name.unwrap_or("every task")),
    }
    tracing::info!("shutting down");
    Ok(())
}
