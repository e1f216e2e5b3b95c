//! What the tasks need beyond Rust and a C compiler, installed where it is missing, aloud.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::run::{root, run};

/// Something that a task needs, how to see that it is there, and Debian's package of it.
#[derive(Clone, Copy)]
pub struct Tool {
    name: &'static str,
    /// One of these files shows that it is there.
    files: &'static [&'static str],
    package: &'static str,
}

/// Filters system calls; linked into the binary.
pub const SECCOMP: Tool =
    Tool { name: "libseccomp's headers", files: &["/usr/include/seccomp.h"], package: "libseccomp-dev" };
/// The C library for static linking, which the example's images need.
pub const STATIC_LIBC: Tool = Tool {
    name: "the static C library",
    files: &[
        "/usr/lib/x86_64-linux-gnu/libc.a",
        "/usr/lib/aarch64-linux-gnu/libc.a",
        "/usr/lib/libc.a",
        "/usr/lib64/libc.a",
    ],
    package: "libc6-dev",
};
pub const BUSYBOX: Tool =
    Tool { name: "a static busybox", files: &["/bin/busybox"], package: "busybox-static" };
pub const IP: Tool =
    Tool { name: "ip", files: &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"], package: "iproute2" };
pub const NFT: Tool = Tool { name: "nft", files: &["/usr/sbin/nft", "/usr/bin/nft"], package: "nftables" };
pub const CURL: Tool = Tool { name: "curl", files: &["/usr/bin/curl"], package: "curl" };
pub const RUNC: Tool = Tool { name: "runc", files: &["/usr/sbin/runc", "/usr/bin/runc"], package: "runc" };
/// Measured beside Sampan's store.
pub const ETCD: Tool = Tool { name: "etcd", files: &["/usr/bin/etcd"], package: "etcd-server" };
pub const REGISTRY: Tool =
    Tool { name: "a container registry", files: &["/usr/bin/docker-registry"], package: "docker-registry" };
pub const VENV: Tool =
    Tool { name: "Python", files: &["/usr/bin/python3", "/usr/local/bin/python3"], package: "python3-venv" };

/// Installs what is missing.
pub fn ensure(tools: &[Tool]) -> Result<()> {
    let missing: Vec<&Tool> =
        tools.iter().filter(|tool| !tool.files.iter().any(|file| Path::new(file).exists())).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|tool| tool.name).collect();
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("{} missing; install what your distribution calls {}", names.join(", "), packages.join(", "));
    }
    eprintln!("installing {} (packages {})", names.join(", "), packages.join(", "));
    let mut update = Command::new("apt-get");
    update.args(["update", "-qq"]);
    run(update)?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(&packages);
    install.env("DEBIAN_FRONTEND", "noninteractive");
    run(install)
}

/// The version of kubectl that is built where none is installed.
const KUBECTL_MODULE: &str = "k8s.io/kubectl@v0.32.4";
const KUBECTL_MAIN: &str = "package main

import (
	\"os\"

	\"k8s.io/component-base/cli\"
	\"k8s.io/kubectl/pkg/cmd\"
)

func main() {
	os.Exit(cli.Run(cmd.NewDefaultKubectlCommand()))
}
";

/// Finds kubectl, or builds it from its Go module into `target/tools`. Answers the directory that
/// must be on the path, if any.
pub fn ensure_kubectl() -> Result<Option<PathBuf>> {
    if on_path("kubectl") {
        return Ok(None);
    }
    let directory = root().join("target/tools");
    if directory.join("kubectl").exists() {
        return Ok(Some(directory));
    }
    if !on_path("go") {
        ensure(&[Tool { name: "Go, to build kubectl", files: &["/usr/bin/go"], package: "golang-go" }])?;
    }
    eprintln!("kubectl is missing: building {KUBECTL_MODULE} into {}", directory.display());
    let source = directory.join("kubectl-source");
    std::fs::create_dir_all(&source)?;
    std::fs::write(source.join("main.go"), KUBECTL_MAIN)?;
    std::fs::write(source.join("go.mod"), "module kubectl\n\ngo 1.23\n")?;
    let go = |arguments: &[&str]| {
        let mut command = Command::new("go");
        command.arg("-C").arg(&source).args(arguments);
        run(command)
    };
    go(&["get", KUBECTL_MODULE])?;
    go(&["mod", "tidy"])?;
    go(&["build", "-o", "../kubectl", "."]).context("kubectl could not be built; install it by hand")?;
    Ok(Some(directory))
}

/// Lets a command find what is in a directory of tools.
pub fn add_to_path(command: &mut Command, tools: Option<PathBuf>) -> Result<()> {
    if let Some(tools) = tools {
        let path = std::env::var_os("PATH").context("PATH is not set")?;
        let paths = std::iter::once(tools).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(paths)?);
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
