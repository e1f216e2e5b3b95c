//! `sampan agent`: the node role of this machine, against a server elsewhere.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use sampan_base::drain::Tasks;
use sampan_base::readiness::Readiness;
use sampan_client::Client;
use sampan_client::kubeconfig::Access;

use crate::config::Config;
use crate::node_certificate::NodeCertificate;
use crate::node_role::{self, Clients, NodeRole};
use crate::server::{STOP_DEADLINE, run_as_root, wait_for_end};

/// Runs until SIGTERM or SIGINT.
pub fn run(config: Config, access: Access) -> Result<()> {
    run_as_root("agent", serve(config, access))
}

async fn serve(config: Config, access: Access) -> Result<()> {
    std::fs::create_dir_all(&config.data_dir)
        .with_context(|| format!("cannot create the data directory {}", config.data_dir.display()))?;
    let mut tasks = Tasks::default();
    let readiness = Readiness::default();
    let network = node_role::set_up_network(&config);
    let images = node_role::open_images(&config).await?;
    network.await?;
    let mut certificate = NodeCertificate::open(config.data_dir.join("pki"), &config.node_name, access)?;
    certificate.ready().await;
    let client = Client::new(Arc::new(certificate.remote()));
    tasks.spawn_until_shutdown("node certificate", certificate.keep_fresh());
    let clients = Clients { node: client.clone(), proxy: client.clone(), dns: client };
    let role = NodeRole::start(&config, clients, images, axum::Router::new(), &mut tasks, &readiness).await?;
    tasks.spawn_until_shutdown("announcement", async move {
        readiness.ready().await;
        tracing::info!("ready");
        std::future::pending().await
    });
    let ended = wait_for_end(&mut tasks).await;
    tasks.stop(STOP_DEADLINE).await;
    role.shutdown().await;
    ended
}
