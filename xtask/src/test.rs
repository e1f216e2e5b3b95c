//! `cargo xtask test`: what CI runs.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::run::{cargo, cargo_command, require_root, root, run};
use crate::tools::{
    self, BUSYBOX, CURL, ETCD, ETCDCTL, HELM, IP, KUBECTL, NFT, REGISTRY, RUNC, SECCOMP, STATIC_LIBC, VENV,
};
use crate::{check, demo};

type Part = fn() -> Result<()>;

const PARTS: [(&str, Part); 4] =
    [("check", check::check), ("unit", unit), ("e2e", end_to_end), ("demo", || demo::demo(true, 8080))];

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
        if let Err(error) = &result {
            eprintln!("{name} failed: {error:#}");
        }
        results.push((name, result.is_ok(), started.elapsed().as_secs()));
    }
    println!();
    for (name, passed, seconds) in &results {
        println!("{} {name} ({seconds} s)", if *passed { "passed" } else { "FAILED" });
    }
    let failed = results.iter().filter(|(_, passed, _)| !passed).count();
    println!("{} passed, {failed} failed", results.len() - failed);
    if failed > 0 { bail!("{failed} of {} parts failed", results.len()) } else { Ok(()) }
}

/// Every test that needs no cluster.
fn unit() -> Result<()> {
    cargo(&["test", "--workspace", "--exclude", "sampan-testkit", "--quiet"])
}

/// Every test of the testkit: clusters, stock clients.
fn end_to_end() -> Result<()> {
    demo::build()?;
    let tools = tools::ensure_go(&[KUBECTL, HELM])?;
    let mut command = cargo_command();
    command.args(["test", "--package", "sampan-testkit"]);
    tools::add_to_path(&mut command, tools)?;
    command.env("SAMPAN_BIN", root().join("target/debug/sampan"));
    run(command)
}
