//! Hostile input: each gets a clear error, the server's memory stays bounded, and others are served.

#[path = "hostile/archives.rs"]
mod archives;
#[path = "hostile/connections.rs"]
mod connections;
#[path = "hostile/manifests.rs"]
mod manifests;

use std::process::ExitCode;

use sampan_testkit::{Cluster, Suite};

fn main() -> ExitCode {
    Suite::new("hostile")
        .check("a manifest of 100 MB", manifests::large)
        .check("manifests of depth 10,000", manifests::deep)
        .check("wrong types and broken text", manifests::mistyped)
        .check("slow clients", connections::slow)
        .check("10,000 idle connections", connections::idle)
        .check("what is no HTTP and no TLS", connections::garbage)
        .check("archives that climb out", archives::escapes)
        .check("archives that explode", archives::bombs)
        .run()
}

/// Runs `work`, after which the server must use at most `mib` MiB more than before, and answer.
fn bounded(cluster: &Cluster, mib: u64, work: impl FnOnce()) {
    let before = resident_kib(cluster);
    work();
    let after = resident_kib(cluster);
    assert!(after < before + mib * 1024, "the server grew from {before} to {after} KiB");
    cluster.kubectl(&["get", "--raw", "/readyz"]).ok().is("ok");
}

/// The most memory that the server ever used, in KiB.
fn resident_kib(cluster: &Cluster) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.server_pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("every process has one");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}
