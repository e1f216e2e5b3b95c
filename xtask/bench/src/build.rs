//! What building takes, and what comes of it.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::Arguments;
use crate::figure::Figure;

/// The binary's size, and lines of Rust per crate, tests included.
pub fn size(arguments: &Arguments) -> Result<Vec<Figure>> {
    let binary = arguments.root.join("target/release/sampan");
    let bytes = binary.metadata().with_context(|| format!("no {}", binary.display()))?.len();
    let mut figures = vec![Figure::lower("size of the binary", bytes as f64 / 1e6, "MB")];
    let mut crates: Vec<_> =
        std::fs::read_dir(arguments.root.join("crates"))?.collect::<std::io::Result<_>>()?;
    crates.sort_by_key(|entry| entry.file_name());
    let mut total = 0;
    for entry in crates {
        let lines = lines(&entry.path())?;
        total += lines;
        let name = format!("  lines of {}", entry.file_name().display());
        figures.push(Figure::lower(name, lines as f64, "lines"));
    }
    figures.push(Figure::lower("lines of all crates", total as f64, "lines"));
    Ok(figures)
}

fn lines(path: &Path) -> Result<usize> {
    if path.is_dir() {
        let mut sum = 0;
        for entry in std::fs::read_dir(path)? {
            sum += lines(&entry?.path())?;
        }
        return Ok(sum);
    }
    if path.extension().is_none_or(|extension| extension != "rs") {
        return Ok(0);
    }
    Ok(std::fs::read_to_string(path)?.lines().count())
}

/// Clean builds of the whole workspace, debug and release, in a directory of their own.
pub fn times(arguments: &Arguments) -> Result<Vec<Figure>> {
    let directory = arguments.root.join("target/bench/build");
    let result = [("debug", 6.0), ("release", 15.0)].map(|(profile, target)| {
        let minutes = clean_build(arguments, &directory, profile)?;
        Ok(Figure::lower(format!("clean {profile} build"), minutes, "min").target(target))
    });
    remove(&directory)?;
    result.into_iter().collect()
}

fn clean_build(arguments: &Arguments, directory: &Path, profile: &str) -> Result<f64> {
    remove(directory)?;
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--workspace", "--quiet", "--locked", "--target-dir"]).arg(directory);
    if profile == "release" {
        command.arg("--release");
    }
    let before = Instant::now();
    let status = command.current_dir(&arguments.root).status().context("cannot run cargo")?;
    if !status.success() {
        bail!("the {profile} build failed: {status}");
    }
    Ok(before.elapsed().as_secs_f64() / 60.0)
}

fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
