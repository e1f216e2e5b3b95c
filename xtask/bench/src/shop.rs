//! The example shop in a cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sampan_testkit::{Cluster, Output, load};

use crate::Arguments;

const SERVICES: [&str; 5] = ["catalogue", "inventory", "orders", "delivery", "storefront"];
/// The storefront's node port, in `examples/shop/shop.yaml`.
const PORT: u16 = 30080;
const PATIENCE: Duration = Duration::from_secs(60);

/// Packs an image per service.
pub fn pack(cluster: &Cluster, arguments: &Arguments) -> Result<()> {
    let data = cluster.data_dir();
    let data = data.to_str().context("a path of text")?;
    for service in SERVICES {
        let image = cluster.scratch().join("images").join(service);
        std::fs::create_dir_all(&image)?;
        std::fs::copy(arguments.shop.join(service), image.join(service))?;
        let directory = image.to_str().context("a path of text")?;
        let (tag, entrypoint) = (format!("shop/{service}:1"), format!("/{service}"));
        succeeded(cluster.sampan(&[
            "image",
            "pack",
            "--data-dir",
            data,
            directory,
            &tag,
            "--entrypoint",
            &entrypoint,
        ]))?;
    }
    Ok(())
}

/// Applies the shop's manifest and waits until its page answers.
pub fn deploy(cluster: &Cluster, arguments: &Arguments) -> Result<()> {
    let manifest = arguments.root.join("examples/shop/shop.yaml");
    succeeded(cluster.sampan(&["apply", "-f", manifest.to_str().context("a path of text")?]))?;
    wait_for_page(cluster)
}

/// Returns when the storefront's page is answered.
pub fn wait_for_page(cluster: &Cluster) -> Result<()> {
    let waiting = cluster.sandbox().in_network(|| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match load::get(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)), "/") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => bail!("the shop does not answer: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    });
    waiting.join().map_err(|_| anyhow::anyhow!("the waiting thread panicked"))?
}

/// Returns when all five services are ready.
pub fn wait_for_all(cluster: &Cluster) -> Result<()> {
    let arguments =
        ["wait", "--for=condition=Available", "--timeout=60s", "deployment", "--all", "--namespace", "shop"];
    succeeded(cluster.kubectl(&arguments)).map(drop)
}

/// The output of a command that must have succeeded.
pub fn succeeded(output: Output) -> Result<Output> {
    if output.code == Some(0) { Ok(output) } else { bail!("{output}") }
}
