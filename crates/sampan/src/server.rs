//! `sampan server`: every role in one process, wired here and nowhere else.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use jiff::Timestamp;
use sampan_api::table::Table;
use sampan_apiserver::authorization::Authorizers;
use sampan_apiserver::identity::User;
use sampan_apiserver::identity::authentication::ServiceAccountTokens;
use sampan_apiserver::identity::pki::{Pki, PkiConfig};
use sampan_apiserver::leadership::{Elector, Fence, unique_identity};
use sampan_apiserver::peers::Peer;
use sampan_apiserver::registry::Registry;
use sampan_apiserver::strategy::service::Allocators;
use sampan_apiserver::{ApiServer, Surroundings, bootstrap, listener};
use sampan_base::drain::{Shutdown, Tasks};
use sampan_base::readiness::{Gate, Readiness};
use sampan_client::{Client, QueueFamilies};
use sampan_controllers::{Authority, ControllersConfig, Identities};
use sampan_scheduler::{SchedulerConfig, SchedulerMetrics};
use sampan_storage::etcd::EtcdOptions;
use sampan_storage::{EtcdStore, Options, RedbStore, Store};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::StorageRoutes;
use crate::certificates::{self, ClusterAuthority};
use crate::cluster_identity::{self, SharedKeys};
use crate::config::{Audit, Config, Storage};
use crate::encryption::AtRest;
use crate::leading::lead;
use crate::node_role::{self, Clients, NodeRole};

/// How long components have to end after a signal.
pub const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT.
pub fn run(config: Config) -> Result<()> {
    run_as_root("server", serve(config))
}

/// Runs a role of this process to its end.
pub fn run_as_root(role: &str, work: impl Future<Output = Result<()>>) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("sampan {role} needs root, for containers and their network; run it with sudo");
    }
    // Sockets are looked after every so many turns of tasks. Of tokio's 61 turns, each a piece of a long list,
    // short requests of a small machine would wait for milliseconds.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(7).build()?;
    let result = runtime.block_on(work);
    // Blocking tasks that still run (a watch on a file, a read) must not hold the process back.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn serve(config: Config) -> Result<()> {
    let started = Instant::now();
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot create the data directory {}", config.data_dir.display()))?;
    // Listeners end before what answers their requests.
    let (mut listeners, mut tasks) = (Tasks::default(), Tasks::default());
    let readiness = Readiness::default();
    // The network stands before anything listens on it.
    let network = node_role::set_up_network(&config);
    let (store, images) = tokio::try_join!(open_store(&config), node_role::open_images(&config))?;
    let inner: Arc<dyn Store> = store;
    if inner.is_shared() {
        cluster_identity::check_before(&*inner, &config.data_dir).await?;
    }
    let at_rest = AtRest::open(&config, inner.clone()).await?;
    let store: Arc<dyn Store> = at_rest.store.clone();
    network.await?;
    let (server, pki) = start_api(&config, &*inner, &at_rest, &mut listeners, &mut tasks, &readiness).await?;
    // It may finish a rotation of keys, of which other servers are told by now.
    tasks.spawn_until_shutdown("encryption", at_rest.clone().follow());
    eprintln!("kubeconfig: {}", pki.admin_kubeconfig().display());
    let shared = inner.is_shared().then(|| {
        Arc::new(SharedKeys {
            store: inner.clone(),
            registry: server.registry.clone(),
            pki: pki.clone(),
            node_name: config.node_name.clone(),
            data_dir: config.data_dir.clone(),
        })
    });
    let routes = certificates::routes(pki.clone(), server.registry.tokens.clone(), shared.clone());
    let authority = Arc::new(ClusterAuthority { pki, longest: config.cluster_signing_duration });
    let identity = unique_identity(&config.node_name);
    if server.registry.is_shared() {
        let endpoint = SocketAddr::new(advertised(&config), config.listen.port());
        let registry = server.registry.clone();
        let peer = Peer::new(registry, &config.node_name, identity.clone(), endpoint)?;
        tasks.spawn("peers", peer.run(listeners.shutdown()));
    }
    start_control(&server, authority, &mut tasks, &readiness, &identity);
    let clients = Clients {
        node: server.client(User::node(&config.node_name)),
        proxy: server.client(User::component("system:kube-proxy", &[])),
        dns: server.client(User::service_account("kube-system", "coredns", "")),
    };
    let storage = StorageRoutes { inner, at_rest, shared, data_dir: config.data_dir.clone() };
    let routes = routes.merge(storage.router());
    let role = NodeRole::start(&config, clients, images, routes, &mut tasks, &readiness).await?;
    server.set_node(Some(role.node.clone()));
    tasks.spawn("announcement", {
        let (readiness, shutdown) = (readiness.clone(), tasks.shutdown());
        async move {
            readiness.ready().await;
            tracing::info!(address = %config.listen, elapsed_ms = started.elapsed().as_millis() as u64, "ready");
            shutdown.requested().await;
        }
    });
    let ended = tokio::select! {
        ended = wait_for_end(&mut tasks) => ended,
        name = listeners.first_end() => Err(anyhow!("{} ended", name.unwrap_or("every listener"))),
    };
    tokio::join!(listeners.stop(STOP_DEADLINE), server.sessions.shut_down());
    let aborted = tasks.stop(STOP_DEADLINE).await;
    if aborted > 0 {
        tracing::warn!(aborted, "tasks did not end in time");
    }
    server.set_node(None);
    role.shutdown().await;
    store.close().await;
    ended
}

/// The identities of the controllers of this process. They are the API server's word, so that the
/// accounts need not exist.
struct Components {
    server: Arc<ApiServer>,
    /// What their writes depend on, where another server may take their place.
    fence: Option<Fence>,
}

impl Components {
    fn client(&self, user: User) -> Client {
        match &self.fence {
            None => self.server.client(user),
            Some(fence) => self.server.client_of_leader(user, fence.clone()),
        }
    }
}

impl Identities for Components {
    fn manager(&self) -> Client {
        self.client(User::component("system:kube-controller-manager", &[]))
    }

    fn service_account(&self, name: &str) -> Client {
        self.client(User::service_account("kube-system", name, ""))
    }
}

/// Starts the scheduler and the controllers: at once where this server is the only one, and otherwise
/// whenever it leads.
fn start_control(
    server: &Arc<ApiServer>,
    authority: Arc<dyn Authority>,
    tasks: &mut Tasks,
    readiness: &Readiness,
    identity: &str,
) {
    let metrics = server.metrics.registry();
    let metrics_of_scheduler = SchedulerMetrics::new(metrics);
    let of = server.clone();
    let scheduler = move |fence: Option<Fence>, gate: Option<Gate>, shutdown: Shutdown| {
        let components = Components { server: of.clone(), fence };
        let client = components.client(User::component("system:kube-scheduler", &[]));
        let config = SchedulerConfig { metrics: metrics_of_scheduler.clone(), ..SchedulerConfig::default() };
        async move {
            let ready = || gate.map(Gate::open).unwrap_or_default();
            sampan_scheduler::run(client, config, ready, shutdown.requested()).await;
        }
    };
    let queues = QueueFamilies::new(metrics);
    let of = server.clone();
    let controllers = move |fence: Option<Fence>, gate: Option<Gate>, shutdown: Shutdown| {
        let components = Components { server: of.clone(), fence };
        let config = ControllersConfig { authority: authority.clone(), queues: queues.clone() };
        async move {
            let ready = || gate.map(Gate::open).unwrap_or_default();
            sampan_controllers::run(components, config, ready, shutdown).await;
        }
    };
    let (scheduler_gate, controllers_gate) = (readiness.gate("scheduler"), readiness.gate("controllers"));
    if !server.registry.is_shared() {
        tasks.spawn("scheduler", scheduler(None, Some(scheduler_gate), tasks.shutdown()));
        tasks.spawn("controllers", controllers(None, Some(controllers_gate), tasks.shutdown()));
        return;
    }
    let elector = |lease| Elector::new(server.registry.clone(), lease, identity.to_owned());
    let work = move |fence, gate, shutdown| scheduler(Some(fence), gate, shutdown);
    let election = elector("kube-scheduler");
    tasks.spawn("scheduler", lead("scheduler", election, scheduler_gate, tasks.shutdown(), work));
    let work = move |fence, gate, shutdown| controllers(Some(fence), gate, shutdown);
    let election = elector("kube-controller-manager");
    tasks.spawn("controllers", lead("controllers", election, controllers_gate, tasks.shutdown(), work));
}

/// The embedded store of a data directory.
pub fn store_path(data_dir: &Path) -> PathBuf {
    data_dir.join("store").join("sampan.redb")
}

async fn open_store(config: &Config) -> Result<Arc<dyn Store>> {
    let members = match &config.storage {
        Storage::Embedded => return Ok(Arc::new(open_embedded(config).await?)),
        Storage::Etcd(members) => members.clone(),
    };
    let store = EtcdStore::open(members, EtcdOptions::default()).await;
    Ok(Arc::new(store.context("cannot use the etcd cluster that --storage names")?))
}

async fn open_embedded(config: &Config) -> Result<RedbStore> {
    let path = store_path(&config.data_dir);
    std::fs::create_dir_all(path.parent().expect("is below the data directory"))?;
    let options = Options::default();
    Ok(tokio::task::spawn_blocking(move || RedbStore::open(&path, options)).await??)
}

/// Starts the API server and answers once it listens.
async fn start_api(
    config: &Config,
    inner: &dyn Store,
    at_rest: &AtRest,
    listeners: &mut Tasks,
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
            extra_names: serving_names(config),
            lives: config.lives,
        },
        Timestamp::now(),
    )?);
    if inner.is_shared() {
        cluster_identity::claim(inner, &pki, &config.data_dir).await?;
    }
    let token_config = config.authentication.tokens.clone();
    let tokens = Arc::new(pki.with_token_keys(|keys| ServiceAccountTokens::new(token_config, keys))?);
    let allocators = Allocators::new(config.service_range, config.node_ports.clone());
    let registry =
        Registry::open(at_rest.store.clone(), Table::builtin(), allocators, tokens.clone()).await?;
    let shutdown = tasks.shutdown();
    tasks.spawn("cache", {
        let registry = registry.clone();
        async move {
            if let Err(error) = registry.follow(shutdown.requested()).await {
                tracing::error!(error = &error as &dyn std::error::Error, "the store cannot be followed");
            }
        }
    });
    let inside = SocketAddr::new(node_role::network(config).gateway(), config.listen.port());
    tasks.spawn_until_shutdown("idle objects", registry.clone().pack_idle());
    bootstrap::ensure(&registry, inside).await?;
    bootstrap::publish_authorities(&registry, &pki.bundle(), &pki.front_proxy_bundle()).await?;
    let (authenticator, followed) = config.authentication.open(tokens, pki.front_proxy())?;
    let (steps, authorization) = config.authorization.open()?;
    let surroundings = Surroundings {
        health: readiness.clone(),
        metrics: sampan_base::metrics::Registry::default(),
        front_proxy: Some(pki.front_proxy_client()),
        shutdown: Some(listeners.shutdown()),
        limits: config.limits,
        authorizers: Authorizers::new(steps),
        audit: config.audit.as_ref().map(Audit::open).transpose()?,
        encryption: Some(at_rest.encryption.clone()),
    };
    let server = ApiServer::new(registry, authenticator, address.to_string(), surroundings);
    tasks.spawn_until_shutdown("roles", server.clone().follow_roles());
    tasks.spawn_until_shutdown("definitions", server.clone().follow_definitions());
    tasks.spawn_until_shutdown("event expiry", server.clone().follow_events(config.event_ttl));
    tasks.spawn_until_shutdown("policies", server.clone().follow_policies());
    tasks.spawn_until_shutdown("aggregation", server.clone().follow_aggregated());
    tasks.spawn_until_shutdown("priorities", server.clone().follow_priorities());
    if let Some(file) = followed {
        tasks.spawn_until_shutdown("authentication", server.clone().follow_authentication(file));
    }
    if let Some(file) = authorization {
        tasks.spawn_until_shutdown("authorization", server.clone().follow_authorization(file));
    }
    tasks.spawn("audit", server.clone().follow_audit(tasks.shutdown()));
    tasks.spawn_until_shutdown("certificates", pki.clone().keep_fresh());
    tasks.spawn_until_shutdown("authorities", certificates::publish(server.registry.clone(), pki.clone()));
    // Clients of the machine, and pods: the second address is of the bridge and leads nowhere else.
    let both = [config.listen, inside];
    let addresses = if config.listen.ip().is_unspecified() { &both[..1] } else { &both[..] };
    for address in addresses {
        let socket = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}; choose another address with --listen"))?;
        let shutdown = listeners.shutdown();
        listeners.spawn("listener", listener::serve(server.clone(), socket, pki.trust(), shutdown));
    }
    gate.open();
    Ok((server, pki))
}

/// The names that clients may know this server by, beyond those that every server has.
fn serving_names(config: &Config) -> Vec<String> {
    let mut names = config.tls_san.clone();
    names.push(advertised(config).to_string());
    if !config.listen.ip().is_unspecified() {
        names.push(config.listen.ip().to_string());
    }
    names
}

/// The address at which other servers' pods reach this one.
fn advertised(config: &Config) -> IpAddr {
    let listen = config.listen.ip();
    let inside = node_role::network(config).gateway();
    let default = if listen.is_loopback() || listen.is_unspecified() { inside } else { listen };
    config.advertise_address.unwrap_or(default)
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
pub async fn wait_for_end(tasks: &mut Tasks) -> Result<()> {
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
