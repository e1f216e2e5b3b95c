//! The `main` of a test file: one cluster, and named checks that share it.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cluster::Cluster;
use crate::command::DEADLINE;

type Check = Box<dyn FnOnce(&mut Cluster)>;

/// Checks that share one cluster, in the order in which they were added.
///
/// Arguments of the program that are no options choose checks by a part of their names.
#[must_use]
pub struct Suite {
    name: &'static str,
    arguments: Vec<&'static str>,
    test_image: bool,
    checks: Vec<(&'static str, Check)>,
}

impl Suite {
    pub fn new(name: &'static str) -> Suite {
        Suite { name, arguments: Vec::new(), test_image: false, checks: Vec::new() }
    }

    /// A further argument for `sampan server`.
    pub fn argument(mut self, argument: &'static str) -> Suite {
        self.arguments.push(argument);
        self
    }

    /// Imports [`crate::image::TEST_IMAGE`] before the first check.
    pub fn test_image(mut self) -> Suite {
        self.test_image = true;
        self
    }

    pub fn check(mut self, name: &'static str, check: impl FnOnce(&mut Cluster) + 'static) -> Suite {
        self.checks.push((name, Box::new(check)));
        self
    }

    pub fn run(self) -> ExitCode {
        let wanted: Vec<String> = std::env::args().skip(1).filter(|text| !text.starts_with('-')).collect();
        let started = Instant::now();
        match self.run_checks(&wanted) {
            Ok(failed) if failed.is_empty() => ExitCode::SUCCESS,
            Ok(failed) => {
                println!("\n{} failed after {:.1?}: {}", failed.len(), started.elapsed(), failed.join(", "));
                ExitCode::FAILURE
            }
            Err(error) => {
                println!("\nerror: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn run_checks(self, wanted: &[String]) -> Result<Vec<&'static str>> {
        let chosen: Vec<_> = self
            .checks
            .into_iter()
            .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())))
            .collect();
        println!("\n{}: {} checks", self.name, chosen.len());
        if chosen.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let mut cluster = Cluster::start_with(&self.arguments)?;
        if self.test_image {
            cluster.import_test_image()?;
        }
        println!("cluster ready after {:.1?}", started.elapsed());
        let mut failed = Vec::new();
        for (name, check) in chosen {
            let started = Instant::now();
            let result = catch_unwind(AssertUnwindSafe(|| check(&mut cluster)));
            let verdict = if result.is_ok() { "ok" } else { "FAILED" };
            println!("check {}::{name} ... {verdict} ({:.1?})", self.name, started.elapsed());
            if result.is_err() {
                show(&cluster);
                failed.push(name);
            }
        }
        if let Err(error) = finish(cluster, failed.is_empty()) {
            println!("check {}::nothing stays ... FAILED: {error:#}", self.name);
            failed.push("nothing stays");
        } else {
            println!("check {}::nothing stays ... ok", self.name);
        }
        Ok(failed)
    }
}

/// Prints what helps to understand a failure.
fn show(cluster: &Cluster) {
    println!("{}", cluster.kubectl(&["get", "pods", "--all-namespaces", "--output=wide"]));
    let events = cluster.kubectl(&["get", "events", "--all-namespaces"]);
    println!("last events:\n{}", tail(&events.stdout, 25));
    println!("last lines of the server:\n{}\n", tail(&cluster.log(), 40));
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Deletes what the checks made, and asks whether the node forgot all of it.
fn finish(cluster: Cluster, clean: bool) -> Result<()> {
    if clean {
        let namespaces = cluster.kubectl(&["get", "namespaces", "--output=name"]).text();
        let made: Vec<&str> = namespaces
            .lines()
            .filter(|name| !name.ends_with("/default") && !name.contains("/kube-"))
            .collect();
        if !made.is_empty() {
            // Some were told to go before, and may be gone since they were listed.
            cluster.kubectl(&[&["delete", "--ignore-not-found"], made.as_slice()].concat()).ok();
        }
        nothing_runs(&cluster)?;
    }
    cluster.stop()
}

/// With no pod left, the node holds no mount below its data directory, no cgroup and no process but its own.
///
/// Pods without a grace period leave the API before the node has cleared them away, so that this waits.
fn nothing_runs(cluster: &Cluster) -> Result<()> {
    let mounts = File::open(format!("/proc/{}/mountinfo", cluster.sandbox().init()))?;
    let end = Instant::now() + DEADLINE;
    loop {
        let left = leftovers(cluster)?;
        if left.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "the node kept {left:#?}");
        // The kernel tells of changed mounts; processes and cgroups go right before or after.
        poll(&mut [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)], PollTimeout::from(100u8))?;
    }
}

fn leftovers(cluster: &Cluster) -> Result<Vec<String>> {
    let (directory, server) = (cluster.data_dir().display().to_string(), cluster.server_pid());
    let mut left = cluster.sandbox().mounts()?;
    left.retain(|path| path.starts_with(&directory));
    let processes = cluster.sandbox().processes()?.into_iter();
    left.extend(
        processes
            .filter(|(pid, _)| *pid != server && Some(*pid) != cluster.etcd_pid())
            .map(|(pid, line)| format!("process {pid}: {line}")),
    );
    for root in cluster.sandbox().cgroups()? {
        pod_cgroups(&root, &mut left);
    }
    Ok(left)
}

/// Cgroups of pods (`…/pod<uid>`) and what is in them.
fn pod_cgroups(directory: &std::path::Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("pod") {
                found.push(entry.path().display().to_string());
            }
            pod_cgroups(&entry.path(), found);
        }
    }
}
