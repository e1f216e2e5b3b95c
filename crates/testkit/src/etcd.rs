//! Debian's etcd inside a sandbox.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::sandbox::Sandbox;

pub const PROGRAM: &str = "/usr/bin/etcd";

/// One member of a cluster. Killed when dropped, at the latest with its sandbox.
#[derive(Debug)]
pub struct Etcd {
    /// What entered the sandbox, and ends with etcd.
    entered: Child,
    pid_file: PathBuf,
}

/// A member, by its addresses.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    /// Where it serves clients and the other members.
    pub address: String,
    pub client_port: u16,
    pub peer_port: u16,
    /// What it and its clients show each other; none without TLS.
    pub tls: Option<Tls>,
}

/// Files of PEM, for both sides.
#[derive(Clone, Debug)]
pub struct Tls {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Member {
    /// The only member, on loopback.
    pub fn alone() -> Member {
        let name = "default".to_owned();
        Member { name, address: "127.0.0.1".to_owned(), client_port: 2379, peer_port: 2380, tls: None }
    }

    /// The same, which speaks TLS with clients that show a certificate: as clusters of Kubernetes have theirs.
    /// The files are made in a directory.
    pub fn with_tls(self, directory: &Path) -> Result<Member> {
        Ok(Member { tls: Some(Tls::make(directory, &self.address)?), ..self })
    }

    /// Where its clients find it, as in `--storage`.
    pub fn client(&self) -> String {
        format!("{}:{}", self.address, self.client_port)
    }

    fn url(&self, host: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{host}:{}", self.client_port)
    }

    fn peer_url(&self) -> String {
        format!("http://{}:{}", self.address, self.peer_port)
    }
}

impl Etcd {
    /// Starts a member with its data in the sandbox's directory, where it also goes on from.
    pub fn start(sandbox: &Sandbox, member: &Member, all: &[Member]) -> Result<Etcd> {
        Etcd::start_with(sandbox, member, all, &[])
    }

    /// The same with further flags.
    pub fn start_with(sandbox: &Sandbox, member: &Member, all: &[Member], flags: &[&str]) -> Result<Etcd> {
        ensure!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing: install Debian's package etcd-server");
        let pid_file = sandbox.directory().join(format!("etcd-{}.pid", member.name));
        let _ = std::fs::remove_file(&pid_file);
        let mut command = sandbox.enter(&["--pid-file", pid_file.to_str().context("a path of text")?]);
        let cluster: Vec<String> =
            all.iter().map(|member| format!("{}={}", member.name, member.peer_url())).collect();
        let (client, peer) = (member.url(&member.address), member.peer_url());
        let local = format!("{client},{}", member.url("127.0.0.1"));
        let listen = if member.address == "127.0.0.1" { &client } else { &local };
        command.arg(PROGRAM).args(["--name", &member.name]);
        command.arg("--data-dir").arg(sandbox.directory().join(format!("etcd-{}", member.name)));
        command.args(["--listen-client-urls", listen, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &cluster.join(","), "--log-level", "error"]).args(flags);
        if let Some(tls) = &member.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.authority);
            command.arg("--cert-file").arg(&tls.certificate).arg("--key-file").arg(&tls.key);
        }
        // It tells of each of its elections, and its faults show in the answers.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let entered = command.spawn().context("cannot run etcd")?;
        Ok(Etcd { entered, pid_file })
    }

    /// Its process, as the host numbers it.
    pub fn pid(&self) -> Result<i32> {
        let text = std::fs::read_to_string(&self.pid_file)?;
        text.trim().parse().context("no process number")
    }

    /// Ends it without a chance to say so.
    pub fn kill(mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid()?), Signal::SIGKILL)?;
        self.entered.wait()?;
        Ok(())
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if matches!(self.entered.try_wait(), Ok(None)) {
            if let Ok(pid) = self.pid() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = self.entered.kill();
            let _ = self.entered.wait();
        }
    }
}

impl Tls {
    /// An authority in a directory, and one certificate of it for both sides.
    fn make(directory: &Path, address: &str) -> Result<Tls> {
        let authority_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key)?;
        let issuer = Issuer::new(params, authority_key);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![address.to_owned()])?.signed_by(&key, &issuer)?;
        let tls = Tls {
            authority: directory.join("etcd-ca.crt"),
            certificate: directory.join("etcd.crt"),
            key: directory.join("etcd.key"),
        };
        std::fs::write(&tls.authority, authority.pem())?;
        std::fs::write(&tls.certificate, certificate.pem())?;
        std::fs::write(&tls.key, key.serialize_pem())?;
        Ok(tls)
    }
}
