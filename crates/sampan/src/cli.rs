//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};
use sampan_client::kubeconfig::Access;

use crate::commands::against_cluster;
use crate::commands::apply::ApplyArgs;
use crate::commands::certificates::CertificatesArgs;
use crate::commands::delete::DeleteArgs;
use crate::commands::doctor::DoctorArgs;
use crate::commands::exec::ExecArgs;
use crate::commands::get::GetArgs;
use crate::commands::image::ImageArgs;
use crate::commands::logs::LogsArgs;
use crate::commands::storage::StorageArgs;
use crate::config::{Config, RawConfig};
use crate::{agent, logging, server};

/// One binary that turns Linux machines into a platform for containerised microservices.
#[derive(Parser, Debug)]
#[command(name = "sampan", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run every role in this process: API, scheduler, controllers, node, DNS
    Server {
        /// Configuration file (YAML); flags win over it
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        flags: RawConfig,
    },
    /// Run the node role only, against a server elsewhere
    Agent {
        /// How to reach the server, and as whom
        #[arg(long, value_name = "FILE")]
        kubeconfig: PathBuf,
        /// Configuration file (YAML); flags win over it
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        flags: RawConfig,
    },
    /// Print objects
    Get(GetArgs),
    /// Make objects as manifests say
    Apply(ApplyArgs),
    /// Delete objects
    Delete(DeleteArgs),
    /// Print what a container wrote
    Logs(LogsArgs),
    /// Run a command in a container
    Exec(ExecArgs),
    /// Check whether this machine can run Sampan
    Doctor(DoctorArgs),
    /// Import, make, list and remove images of a running server
    Image(ImageArgs),
    /// Check and rotate certificates and keys
    Certificates(CertificatesArgs),
    /// Back up, restore, check and look after what a server stores
    Storage(StorageArgs),
    /// Print a completion script for a shell
    Completion { shell: clap_complete::Shell },
}

impl Cli {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Server { config, flags } => server::run(configure(config.as_deref(), flags)?)?,
            Command::Agent { kubeconfig, config, flags } => {
                let access = Access::read(&kubeconfig, None)?;
                agent::run(configure(config.as_deref(), flags)?, access)?;
            }
            Command::Get(arguments) => {
                return against_cluster(async { arguments.run().await.map(|()| ExitCode::SUCCESS) });
            }
            Command::Apply(arguments) => {
                return against_cluster(async { arguments.run().await.map(|()| ExitCode::SUCCESS) });
            }
            Command::Delete(arguments) => {
                return against_cluster(async { arguments.run().await.map(|()| ExitCode::SUCCESS) });
            }
            Command::Logs(arguments) => {
                return against_cluster(async { arguments.run().await.map(|()| ExitCode::SUCCESS) });
            }
            Command::Exec(arguments) => return against_cluster(arguments.run()),
            Command::Doctor(arguments) => return Ok(arguments.run()),
            Command::Image(arguments) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(arguments.run())?;
            }
            Command::Certificates(arguments) => return arguments.run(),
            Command::Storage(arguments) => {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                return runtime.block_on(arguments.run());
            }
            Command::Completion { shell } => {
                clap_complete::generate(shell, &mut Cli::command(), "sampan", &mut std::io::stdout());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The configuration of a role, with logging started as it says.
fn configure(file: Option<&Path>, flags: RawConfig) -> Result<Config> {
    let file = file.map(RawConfig::read).transpose()?.unwrap_or_default();
    let config = flags.or(file).check()?;
    logging::start(&config.log, config.log_format)?;
    Ok(config)
}
