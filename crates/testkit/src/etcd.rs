//! Debian's etcd inside a sandbox.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::daemon::Daemon;
use crate::sandbox::Sandbox;
use crate::tls::Tls;

pub const PROGRAM: &str = "/usr/bin/etcd";

/// A member of a cluster, by its addresses.
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

impl Member {
    /// The only member, on loopback.
    pub fn alone() -> Member {
        let name = "default".to_owned();
        Member { name, address: "127.0.0.1".to_owned(), client_port: 2379, peer_port: 2380, tls: None }
    }

    /// The same, which speaks TLS with clients that show a certificate: as clusters of Kubernetes have theirs.
    /// The files are made in a directory.
    pub fn with_tls(self, directory: &Path) -> Result<Member> {
        Ok(Member { tls: Some(Tls::make(directory, "etcd", &self.address)?), ..self })
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

/// Starts a member with its data in the sandbox's directory, where it also goes on from.
pub fn start(sandbox: &Sandbox, member: &Member, all: &[Member], flags: &[&str]) -> Result<Daemon> {
    ensure!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing: install Debian's package etcd-server");
    let name = format!("etcd-{}", member.name);
    let cluster: Vec<String> =
        all.iter().map(|member| format!("{}={}", member.name, member.peer_url())).collect();
    let (client, peer) = (member.url(&member.address), member.peer_url());
    let local = format!("{client},{}", member.url("127.0.0.1"));
    let listen = if member.address == "127.0.0.1" { &client } else { &local };
    // It tells of each of its elections, and its faults show in the answers.
    Daemon::start(sandbox, &name, |command| {
        command.arg(PROGRAM).args(["--name", &member.name]);
        command.arg("--data-dir").arg(sandbox.directory().join(&name));
        command.args(["--listen-client-urls", listen, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &cluster.join(","), "--log-level", "error"]).args(flags);
        if let Some(tls) = &member.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(&tls.authority);
            command.arg("--cert-file").arg(&tls.certificate).arg("--key-file").arg(&tls.key);
        }
    })
}
