//! `cargo xtask test`: what CI runs.

use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::run::{cargo, cargo_command, require_root, root, run_tests};
use crate::tools::{
    self, BUSYBOX, CURL, ETCD, ETCDCTL, HELM, IP, KUBECTL, NFT, REGISTRY, RUNC, SECCOMP, STATIC_LIBC, VENV,
};
use crate::{check, demo};

const TESTKIT: &str = "sampan-testkit";

type Part = fn() -> Result<()>;

const PARTS: [(&str, Part); 4] =
    [("check", check::check), ("unit", unit), ("e2e", end_to_end), ("demo", demo)];

/// Runs the named parts, or all of them, and says which ran.
pub fn test(wanted: &[String]) -> Result<()> {
    require_root("test")?;
    for name in wanted {
        if PARTS.iter().all(|(known, _)| known != name) {
            bail!("{name:?} is no part of the tests; the parts are check, unit, e2e and demo");
        }
    }
    tools::ensure(&[SECCOMP, STATIC_LIBC, BUSYBOX, CURL, IP, NFT, RUNC, REGISTRY, ETCD, ETCDCTL, VENV])?;
    let mut results = Vec::new();
    for (name, part) in PARTS {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        eprintln!("\n== {name} ==");
        let started = Instant::now();
        let result = part();
        if result.is_err() {
            eprintln!("{name} failed; its faults are told again at the end");
        }
        results.push((name, result, started.elapsed().as_secs()));
    }
    println!();
    for (name, result, seconds) in &results {
        match result {
            Ok(()) => println!("passed {name} ({seconds} s)"),
            Err(error) => println!("FAILED {name} ({seconds} s): {error:#}"),
        }
    }
    let failed = results.iter().filter(|(_, result, _)| result.is_err()).count();
    println!("{} passed, {failed} failed", results.len() - failed);
    if failed > 0 { bail!("{failed} of {} parts failed", results.len()) } else { Ok(()) }
}

/// Every program and test. The parts name the whole workspace, as this does: for other packages cargo
/// selects other features of the libraries that they share, and compiles all that is above those again.
fn build() -> Result<()> {
    cargo(&["build", "--workspace", "--bins", "--tests"])
}

/// Every test that needs no cluster.
fn unit() -> Result<()> {
    build()?;
    let mut command = cargo_command();
    command.args(["test", "--workspace", "--exclude", TESTKIT, "--quiet", "--no-fail-fast"]);
    run_tests(command)
}

/// Every test of the testkit: clusters, stock clients.
fn end_to_end() -> Result<()> {
    build()?;
    let tools = tools::ensure_go(&[KUBECTL, HELM])?;
    let mut command = cargo_command();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    for test in cluster_tests()? {
        command.args(["--test", &test]);
    }
    tools::add_to_path(&mut command, tools)?;
    command.env("SAMPAN_BIN", root().join("target/debug/sampan"));
    run_tests(command)
}

/// The names of the testkit's tests. They are chosen by name in all packages, so no other may bear one.
fn cluster_tests() -> Result<Vec<String>> {
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for package in check::packages()?.iter().filter(|package| package["source"].is_null()) {
        let names = if package["name"] == TESTKIT { &mut ours } else { &mut others };
        for target in package["targets"].as_array().context("a package lists targets")? {
            if target["kind"][0] == "test" {
                names.push(target["name"].as_str().context("a target has a name")?.to_owned());
            }
        }
    }
    match ours.iter().find(|name| others.contains(name)) {
        Some(name) => bail!("two packages have a test named {name:?}; rename the one outside {TESTKIT}"),
        None => Ok(ours),
    }
}

fn demo() -> Result<()> {
    build()?;
    demo::run_shop(true, 8080)
}
