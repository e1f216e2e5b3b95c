//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::commands::image::ImageArgs;
use crate::config::RawConfig;
use crate::{logging, server};

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
    /// Import, make, list and remove images of a running server
    Image(ImageArgs),
    /// Print a completion script for a shell
    Completion { shell: clap_complete::Shell },
}

impl Cli {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            Command::Server { config, flags } => {
                let file = config.as_deref().map(RawConfig::read).transpose()?.unwrap_or_default();
                let config = flags.or(file).check()?;
                logging::start(&config.log, config.log_format)?;
                server::run(config)?;
            }
            Command::Image(arguments) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(arguments.run())?;
            }
            Command::Completion { shell } => {
                clap_complete::generate(shell, &mut Cli::command(), "sampan", &mut std::io::stdout());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
