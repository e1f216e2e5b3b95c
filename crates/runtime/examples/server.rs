//! A server in miniature: launches a supervisor, runs the containers that it reads from its standard
//! input, prints their process ids and waits to be killed. Its containers do not mind.

use std::io::{Read, Write};
use std::path::PathBuf;

use sampan_runtime::{ContainerConfig, SandboxConfig, Supervisor};

#[derive(serde::Deserialize)]
struct Input {
    exe: PathBuf,
    dir: PathBuf,
    sandbox: SandboxConfig,
    containers: Vec<ContainerConfig>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut input = String::new();
    std::io::stdin().read_to_string(&mut input)?;
    let input: Input = serde_json::from_str(&input)?;
    let (supervisor, _events) = Supervisor::launch(&input.exe, &input.dir, &input.sandbox).await?;
    let mut pids = Vec::new();
    for mut config in input.containers {
        supervisor.join_namespaces(&mut config.spec);
        let id = config.id.clone();
        supervisor.create(config).await?;
        pids.push(supervisor.start(&id).await?.pid.to_string());
    }
    println!("{}", pids.join(" "));
    std::io::stdout().flush()?;
    std::future::pending().await
}
