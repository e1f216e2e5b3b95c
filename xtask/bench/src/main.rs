//! Measures Sampan: the program behind `cargo xtask bench`, which builds it optimised and runs it.
//!
//! Every figure is a median over several runs, and stands beside its target, and beside a peer that
//! was measured in the same run where there is one: machines are shared and noisy, ratios hold.
//! Clusters run in namespaces of their own, which take everything with them, also on failure.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

mod api;
mod build;
mod client;
mod container;
mod etcd;
mod figure;
mod idle;
mod pods;
mod shop;
mod start;
mod storage;
mod writes;

use figure::Figure;

#[derive(Parser)]
#[command(name = "sampan-bench")]
pub struct Arguments {
    /// What to measure; everything but `build` where nothing is named
    parts: Vec<String>,
    /// The directory of the shop's programs
    #[arg(long)]
    shop: PathBuf,
    /// The root of the workspace
    #[arg(long)]
    root: PathBuf,
}

#[derive(Clone, Copy)]
enum Part {
    Whole(fn(&Arguments) -> Result<Vec<Figure>>),
    /// Takes minutes: what was measured before something failed is kept.
    Pieces(fn(&Arguments, &mut Vec<Figure>) -> Result<()>),
}

impl Part {
    fn measure(self, arguments: &Arguments, figures: &mut Vec<Figure>) -> Result<()> {
        match self {
            Part::Whole(measure) => figures.extend(measure(arguments)?),
            Part::Pieces(measure) => measure(arguments, figures)?,
        }
        Ok(())
    }
}

/// In the order in which they run.
const PARTS: [(&str, Part); 9] = [
    ("start", Part::Whole(start::measure)),
    ("idle", Part::Whole(idle::measure)),
    ("pods", Part::Whole(pods::measure)),
    ("api", Part::Pieces(api::measure)),
    ("writes", Part::Whole(writes::measure)),
    ("storage", Part::Pieces(storage::measure)),
    ("container", Part::Whole(container::measure)),
    ("size", Part::Whole(build::size)),
    ("build", Part::Whole(build::times)),
];
/// Takes half an hour, and is measured when it is named.
const SLOW: &str = "build";

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A part that fails does not keep the others from being measured.
fn run(arguments: &Arguments) -> Result<()> {
    let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = arguments.parts.iter().find(|part| !names.contains(&part.as_str())) {
        bail!("{unknown:?} is nothing that is measured; there are {}", names.join(", "));
    }
    let wanted = |name: &str| match arguments.parts.as_slice() {
        [] => name != SLOW,
        parts => parts.iter().any(|part| part == name),
    };
    let (mut figures, mut failed) = (Vec::new(), Vec::new());
    for (name, part) in PARTS.into_iter().filter(|(name, _)| wanted(name)) {
        eprintln!("measuring {name}");
        if let Err(error) = part.measure(arguments, &mut figures) {
            eprintln!("{name} failed: {error:#}");
            failed.push(name);
        }
    }
    figure::print(&figures);
    let path = arguments.root.join("target/bench/latest.json");
    figure::write(&figures, &path)?;
    println!("\n{} figures in {}", figures.len(), path.display());
    if failed.is_empty() { Ok(()) } else { bail!("not measured: {}", failed.join(", ")) }
}
