//! `cargo xtask`: the one entry for people and CI.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod check;
mod demo;
mod fuzz;
mod run;
mod test;
mod tools;

#[derive(Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build Sampan, start it, deploy the example shop, and order something
    Demo {
        /// End when the order has arrived at delivery, and leave nothing behind
        #[arg(long)]
        once: bool,
        /// Port on this machine's loopback at which the shop's page is shown
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Everything that must hold: checks, unit tests, and end-to-end tests on real clusters
    Test {
        /// Only these parts: check, unit, e2e, demo
        parts: Vec<String>,
    },
    /// Format, lints, dependency graph and licences
    Check,
    /// Measure an optimised build, beside etcd and runc where there is a comparison
    Bench {
        /// Only these: start, idle, pods, api, writes, container, size; and build, which takes long
        parts: Vec<String>,
    },
    /// Look for inputs that break what reads bytes from outside
    Fuzz {
        /// Only these targets, as in fuzz/fuzz_targets
        targets: Vec<String>,
        /// How long each target runs
        #[arg(long, default_value_t = 600)]
        seconds: u64,
        /// How many targets run at once
        #[arg(long, default_value_t = 1)]
        jobs: usize,
    },
    /// Make the table of the API's types anew from the crate k8s-openapi
    GenerateSchemas,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().task {
        Task::Demo { once, port } => demo::demo(once, port),
        Task::Test { parts } => test::test(&parts),
        Task::Check => check::check(),
        Task::Bench { parts } => bench::bench(&parts),
        Task::Fuzz { targets, seconds, jobs } => fuzz::fuzz(&targets, seconds, jobs),
        Task::GenerateSchemas => generate_schemas(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn generate_schemas() -> Result<()> {
    let manifest = "xtask/schema-generator/Cargo.toml";
    run::cargo(&["run", "--manifest-path", manifest, "--", "crates/api/schema"])
}
