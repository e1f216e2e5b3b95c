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

/// What libFuzzer is compiled with.
pub const CPLUSPLUS: Tool =
    Tool { name: "a C++ compiler", files: &["/usr/bin/c++", "/usr/local/bin/c++"], package: "g++" };
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
/// Measured beside the API.
pub const NGINX: Tool = Tool { name: "nginx", files: &["/usr/sbin/nginx"], package: "nginx-light" };
/// A backend of the store, and measured beside the embedded one.
pub const ETCD: Tool = Tool { name: "etcd", files: &["/usr/bin/etcd"], package: "etcd-server" };
/// Asks an etcd who leads.
pub const ETCDCTL: Tool = Tool { name: "etcdctl", files: &["/usr/bin/etcdctl"], package: "etcd-client" };
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
    let mut install = Command::new(root().join("xtask/install.sh"));
    install.args(&packages).env("DEBIAN_FRONTEND", "noninteractive");
    run(install)
}

/// A program that Debian does not package, built from its Go modules where it is missing.
#[derive(Clone, Copy)]
pub struct GoTool {
    name: &'static str,
    /// What is fetched, with versions.
    modules: &'static [&'static str],
    source: GoSource,
    /// What the linker is told.
    linker: &'static str,
}

/// What a program is built from.
#[derive(Clone, Copy)]
enum GoSource {
    /// The modules hold the program: its package.
    Package(&'static str),
    /// They are its libraries: the text of its `main.go`.
    Main(&'static str),
}

pub const KUBECTL: GoTool = GoTool {
    name: "kubectl",
    modules: &["k8s.io/kubectl@v0.35.10", "k8s.io/component-base@v0.35.10"],
    source: GoSource::Main(KUBECTL_MAIN),
    // Without its version, `kubectl version` fails beside a server's.
    linker: "-X k8s.io/component-base/version.gitVersion=v1.35.10",
};
pub const HELM: GoTool = GoTool {
    name: "helm",
    modules: &["helm.sh/helm/v3/cmd/helm@v3.19.5"],
    source: GoSource::Package("helm.sh/helm/v3/cmd/helm"),
    linker: "",
};

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

/// Finds each of these, or builds it into `target/tools`. Answers the directory that must be on the path, if any.
pub fn ensure_go(tools: &[GoTool]) -> Result<Option<PathBuf>> {
    let directory = root().join("target/tools");
    let mut needed = None;
    for tool in tools.iter().filter(|tool| !on_path(tool.name)) {
        if !directory.join(tool.name).exists() {
            tool.build(&directory)
                .with_context(|| format!("{} could not be built; install it by hand", tool.name))?;
        }
        needed = Some(directory.clone());
    }
    Ok(needed)
}

impl GoTool {
    fn build(&self, directory: &Path) -> Result<()> {
        if !on_path("go") {
            let purpose = "Go, to build what clusters are tested with";
            ensure(&[Tool { name: purpose, files: &["/usr/bin/go"], package: "golang-go" }])?;
        }
        eprintln!("{} is missing: building it into {}", self.name, directory.display());
        // A module of its own, which is begun anew: an interrupted attempt must not decide about versions.
        let source = directory.join(format!("{}-source", self.name));
        if source.exists() {
            std::fs::remove_dir_all(&source)?;
        }
        std::fs::create_dir_all(&source)?;
        std::fs::write(source.join("go.mod"), format!("module {}\n\ngo 1.23\n", self.name))?;
        let go = |arguments: &[&str]| {
            let mut command = Command::new("go");
            command.arg("-C").arg(&source).args(arguments);
            run(command)
        };
        go(&[&["get"], self.modules].concat())?;
        let package = match self.source {
            GoSource::Package(package) => package,
            GoSource::Main(text) => {
                std::fs::write(source.join("main.go"), text)?;
                go(&["mod", "tidy"])?;
                "."
            }
        };
        // Named at the end only, so that it is there whole or not at all.
        let made = source.join("made");
        go(&["build", "-ldflags", self.linker, "-o", "made", package])?;
        Ok(std::fs::rename(made, directory.join(self.name))?)
    }
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
