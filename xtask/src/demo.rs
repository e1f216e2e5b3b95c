//! `cargo xtask demo`: from nothing to a running shop.
//!
//! The cluster runs in namespaces of its own, so that nothing of this machine's network or mounts is
//! touched, and everything is gone when the demo ends. Two ports on this machine's loopback lead
//! into it: the shop's page and the API.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sampan_testkit::Cluster;
use serde_json::Value;

use crate::run::{cargo, cargo_command, require_root, root, run};
use crate::tools::{self, SECCOMP, STATIC_LIBC};

const SERVICES: [&str; 5] = ["catalogue", "inventory", "orders", "delivery", "storefront"];
/// The storefront's node port, in `examples/shop/shop.yaml`.
const SHOP_PORT: u16 = 30080;
const API_PORT: u16 = 6443;
/// How long the order may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn demo(once: bool, port: u16) -> Result<()> {
    require_root("demo")?;
    tools::ensure(&[SECCOMP, STATIC_LIBC])?;
    cargo(&["build", "--package", "sampan", "--package", "sampan-testkit"])?;
    run_shop(once, port)
}

/// Runs the shop on the Sampan that is beside this program.
pub fn run_shop(once: bool, port: u16) -> Result<()> {
    let shop = build_shop()?;
    let started = Instant::now();
    let cluster = Cluster::start().context("the cluster did not start")?;
    println!("cluster ready after {}", seconds(started));
    let result = deploy(&cluster, &shop).and_then(|()| {
        println!("shop deployed after {}", seconds(started));
        let cluster_network = Network::of(&cluster);
        let order = place_order(&cluster_network)?;
        println!("order {order} arrived at delivery after {}", seconds(started));
        if !once { stay(&cluster, &cluster_network, port) } else { Ok(()) }
    });
    if let Err(error) = &result {
        eprintln!("the demo failed: {error:#}\nthe server's log:\n{}", cluster.log());
    }
    let stopped = cluster.stop();
    result.and(stopped.context("the demo left something behind"))?;
    println!("everything is taken down");
    Ok(())
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

/// Builds the shop's services as static programs and answers where they are.
pub fn build_shop() -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = cargo_command();
    command.args([
        "build",
        "--release",
        "--package",
        "shop",
        "--target",
        &target,
        "--target-dir",
        "target/shop",
    ]);
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    // Small services on a fresh machine: built in half the time, and fast enough.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    run(command)?;
    Ok(root().join("target/shop").join(target).join("release"))
}

/// Packs an image per service and applies the shop's manifest with `sampan apply`.
pub fn deploy(cluster: &Cluster, programs: &Path) -> Result<()> {
    let data = cluster.data_dir();
    let data = data.to_str().context("a path of text")?;
    for service in SERVICES {
        let image = cluster.scratch().join("images").join(service);
        std::fs::create_dir_all(&image)?;
        std::fs::copy(programs.join(service), image.join(service))?;
        let directory = image.to_str().context("a path of text")?;
        let (tag, entrypoint) = (format!("shop/{service}:1"), format!("/{service}"));
        cluster
            .sampan(&["image", "pack", "--data-dir", data, directory, &tag, "--entrypoint", &entrypoint])
            .ok();
    }
    let manifest = root().join("examples/shop/shop.yaml");
    cluster.sampan(&["apply", "-f", manifest.to_str().context("a path of text")?]).ok();
    Ok(())
}

/// Connections into the cluster's network.
#[derive(Clone)]
pub struct Network {
    namespace: Arc<std::fs::File>,
}

impl Network {
    pub fn of(cluster: &Cluster) -> Self {
        let path = format!("/proc/{}/ns/net", cluster.sandbox().init());
        Network { namespace: Arc::new(std::fs::File::open(path).expect("the cluster's first process runs")) }
    }

    /// Connects to a port of the loopback inside.
    pub fn connect(&self, port: u16) -> Result<TcpStream> {
        let namespace = self.namespace.clone();
        let connecting = std::thread::spawn(move || {
            nix::sched::setns(&*namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            anyhow::Ok(TcpStream::connect_timeout(&address, Duration::from_secs(5))?)
        });
        connecting.join().map_err(|_| anyhow::anyhow!("the connecting thread panicked"))?
    }
}

/// Orders through the shop's page and waits until delivery has it. Answers the order's number.
pub fn place_order(network: &Network) -> Result<u64> {
    let deadline = Instant::now() + PATIENCE;
    let wanted = r#"{"product":"tea","quantity":2,"address":"Pier 7"}"#;
    let placed = until(deadline, || {
        let answer = http(
            network,
            &format!(
                "POST /api/orders HTTP/1.1\r\nhost: shop\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{wanted}",
                wanted.len()
            ),
        )?;
        answer["id"].as_u64().context("no order number in the answer")
    })?;
    until(deadline, || {
        let path = format!("GET /api/orders/{placed} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
        let order = http(network, &path)?;
        if order["arrivedAtDelivery"] == true {
            Ok(placed)
        } else {
            bail!("order {placed} stands at {}", order["order"]["state"])
        }
    })
}

/// Repeats until it succeeds or time is up: the shop's services come up one by one.
fn until<T>(deadline: Instant, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context("the order did not arrive in time"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// One exchange with the storefront; its JSON answer.
fn http(network: &Network, request: &str) -> Result<Value> {
    let mut stream = network.connect(SHOP_PORT)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 20") {
        bail!("the shop answered {status}: {body}");
    }
    Ok(serde_json::from_str(body)?)
}

/// Leads two loopback ports into the cluster, says where everything is, and waits for Ctrl-C.
fn stay(cluster: &Cluster, network: &Network, port: u16) -> Result<()> {
    forward(network, port, SHOP_PORT)?;
    forward(network, API_PORT, API_PORT)?;
    println!("\n  shop     http://127.0.0.1:{port}/");
    println!("  kubectl  export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("\nPress Ctrl-C to take everything down.");
    // The signal is taken by this call instead of ending the program, so that the cluster is stopped in order.
    let mut signals = nix::sys::signal::SigSet::empty();
    signals.add(nix::sys::signal::Signal::SIGINT);
    signals.add(nix::sys::signal::Signal::SIGTERM);
    signals.wait()?;
    Ok(())
}

fn forward(network: &Network, from: u16, to: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, from))
        .with_context(|| format!("port {from} of 127.0.0.1 is taken; choose another one with --port"))?;
    let network = network.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let network = network.clone();
            std::thread::spawn(move || {
                if let Ok(server) = network.connect(to) {
                    couple(client, server);
                }
            });
        }
    });
    Ok(())
}

/// Carries bytes both ways until both have ended.
fn couple(client: TcpStream, server: TcpStream) {
    let (Ok(mut from_client), Ok(mut to_server)) = (client.try_clone(), server.try_clone()) else { return };
    let upstream = std::thread::spawn(move || {
        // An end in the middle is one all the same.
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    let _ = std::io::copy(&mut from_server, &mut to_client);
    let _ = to_client.shutdown(Shutdown::Write);
    let _ = upstream.join();
}
