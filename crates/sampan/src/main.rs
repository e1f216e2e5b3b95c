//! `sampan`: the command line and the one place where components are wired together.

use std::process::ExitCode;

use clap::Parser as _;

mod admin;
mod agent;
mod certificates;
mod cli;
mod cluster_identity;
mod commands;
mod config;
mod encryption;
mod leading;
mod logging;
mod node_certificate;
mod node_role;
mod server;

/// Allocates for everything but supervisors, which are small and many.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A pod's supervisor must stay single-threaded and small: it leaves before anything else starts.
    if let Some(directory) = supervisor_directory() {
        return sampan_runtime::supervisor::main(&directory);
    }
    let command = cli::Cli::parse();
    match command.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The directory of `sampan supervisor --dir DIR`, the hidden command by which the node starts the
/// supervisor of a pod.
fn supervisor_directory() -> Option<std::path::PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    let wanted = arguments.next()? == "supervisor" && arguments.next()? == "--dir";
    wanted.then(|| arguments.next().map(Into::into))?
}
