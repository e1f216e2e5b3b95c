//! Several servers on one etcd cluster, each in a sandbox of its own, and the network between them.
//!
//! A hub has two switches: on one are the servers and their clients, on the other one the servers and the
//! members of etcd. Every plug can be pulled by itself, so that a server is cut off from one side and not from
//! the other.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::Server;
use crate::command::{DEADLINE, Output};
use crate::daemon::Daemon;
use crate::etcd::{self, Member};
use crate::sandbox::{Sandbox, beside_this_program};

/// A switch of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// Of servers and their clients.
    Clients,
    /// Of servers and etcd.
    Store,
}

impl Net {
    fn name(self) -> &'static str {
        match self {
            Net::Clients => "clients",
            Net::Store => "store",
        }
    }

    /// The address of the hub is 254, those of servers begin at 1, those of members at 101.
    fn address(self, number: usize) -> String {
        match self {
            Net::Clients => format!("10.99.0.{number}"),
            Net::Store => format!("10.98.0.{number}"),
        }
    }
}

/// One server's machine.
#[derive(Debug)]
pub struct Machine {
    // Dropped before the sandbox, whose end is the end of its process.
    server: Option<Server>,
    sandbox: Sandbox,
    number: usize,
}

/// One member's machine.
#[derive(Debug)]
pub struct MemberMachine {
    etcd: Option<Daemon>,
    pub member: Member,
    sandbox: Sandbox,
    number: usize,
}

/// All of it.
#[derive(Debug)]
pub struct Servers {
    machines: Vec<Machine>,
    pub members: Vec<MemberMachine>,
    hub: Sandbox,
    program: PathBuf,
    arguments: Vec<String>,
}

impl Servers {
    /// Starts etcd and the servers, and returns when each server is ready.
    pub fn start(servers: usize, members: usize, arguments: &[&str]) -> Result<Servers> {
        let program = match std::env::var_os("SAMPAN_BIN") {
            Some(path) => path.into(),
            None => beside_this_program("sampan")?,
        };
        let hub = Sandbox::start()?;
        for net in [Net::Clients, Net::Store] {
            ip(&hub, &["link", "add", net.name(), "type", "bridge"])?;
            ip(&hub, &["address", "add", &format!("{}/24", net.address(254)), "dev", net.name()])?;
            ip(&hub, &["link", "set", net.name(), "up"])?;
        }
        let arguments = arguments.iter().map(|text| (*text).to_owned()).collect();
        let mut all = Servers { machines: Vec::new(), members: Vec::new(), hub, program, arguments };
        for number in 101..101 + members {
            let sandbox = Sandbox::start()?;
            all.plug_in(&sandbox, Net::Store, number)?;
            let member = Member {
                name: format!("member-{number}"),
                address: Net::Store.address(number),
                client_port: 2379,
                peer_port: 2380,
                tls: None,
            };
            all.members.push(MemberMachine { etcd: None, member, sandbox, number });
        }
        for index in 0..members {
            all.start_member(index)?;
        }
        for number in 1..=servers {
            let sandbox = Sandbox::start()?;
            all.plug_in(&sandbox, Net::Clients, number)?;
            all.plug_in(&sandbox, Net::Store, number)?;
            std::fs::create_dir(sandbox.directory().join("home"))?;
            all.machines.push(Machine { server: None, sandbox, number });
            if number > 1 {
                all.share_keys(number - 1)?;
            }
            all.start_server(number - 1)?;
        }
        Ok(all)
    }

    /// Puts a cable between a sandbox and the hub.
    fn plug_in(&self, sandbox: &Sandbox, net: Net, number: usize) -> Result<()> {
        let (plug, hub) = (plug(net, number), self.hub.init().to_string());
        let link = ["link", "add", net.name(), "type", "veth", "peer", "name", &plug, "netns", &hub];
        ip(sandbox, &link)?;
        ip(sandbox, &["address", "add", &format!("{}/24", net.address(number)), "dev", net.name()])?;
        ip(sandbox, &["link", "set", net.name(), "up"])?;
        ip(&self.hub, &["link", "set", &plug, "master", net.name(), "up"])
    }

    /// Pulls the plug of a server, or puts it back.
    pub fn cut(&self, index: usize, net: Net) -> Result<()> {
        ip(&self.hub, &["link", "set", &plug(net, self.machines[index].number), "down"])
    }

    pub fn mend(&self, index: usize, net: Net) -> Result<()> {
        ip(&self.hub, &["link", "set", &plug(net, self.machines[index].number), "up"])
    }

    /// Pulls the plug of a member of etcd, or puts it back.
    pub fn cut_member(&self, index: usize) -> Result<()> {
        ip(&self.hub, &["link", "set", &plug(Net::Store, self.members[index].number), "down"])
    }

    pub fn mend_member(&self, index: usize) -> Result<()> {
        ip(&self.hub, &["link", "set", &plug(Net::Store, self.members[index].number), "up"])
    }

    /// What the first server has and all must have, as an administrator copies it.
    pub fn share_keys(&self, index: usize) -> Result<()> {
        let (from, to) = (self.data_dir(0), self.data_dir(index));
        let pki = to.join("pki");
        if pki.exists() {
            std::fs::remove_dir_all(&pki)?;
        }
        std::fs::create_dir_all(pki)?;
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(from.join("pki/.")).arg(to.join("pki"));
        ensure!(copy.status()?.success(), "the keys were not copied");
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(from.join("encryption-keys.json")).arg(&to);
        ensure!(copy.status()?.success(), "the encryption keys were not copied");
        Ok(())
    }

    pub fn start_member(&mut self, index: usize) -> Result<()> {
        let all: Vec<Member> = self.members.iter().map(|machine| machine.member.clone()).collect();
        let machine = &mut self.members[index];
        machine.etcd = Some(etcd::start(&machine.sandbox, &machine.member, &all, &[])?);
        Ok(())
    }

    pub fn kill_member(&mut self, index: usize) -> Result<()> {
        self.members[index].etcd.take().context("the member does not run")?.kill()
    }

    /// Starts a server, and returns when it is ready.
    pub fn start_server(&mut self, index: usize) -> Result<()> {
        let number = self.machines[index].number;
        let members: Vec<String> = self.members.iter().map(|machine| machine.member.client()).collect();
        let pid_file = self.machines[index].sandbox.directory().join("server.pid");
        let pid_path = pid_file.to_str().context("a path of text")?.to_owned();
        let mut command = self.command(index, &["--pid-file", &pid_path], &self.program);
        command.arg("server").arg("--data-dir").arg(self.data_dir(index));
        command.args(["--listen", &self.address(index), "--node-name", &format!("node-{number}")]);
        command.args(["--node-cidr", &format!("10.42.{number}.0/24")]);
        command.args(["--storage", &format!("etcd://{}", members.join(","))]);
        command.args(&self.arguments);
        let log = self.log_path(index);
        self.machines[index].server = Some(Server::start(command, &pid_file, &log)?);
        Ok(())
    }

    /// Sends a server a signal and waits for its end.
    pub fn end_server(&mut self, index: usize, signal: Signal) -> Result<std::process::ExitStatus> {
        self.machines[index].server.take().context("the server does not run")?.end(signal)
    }

    /// Sends a server a signal.
    pub fn signal(&self, index: usize, signal: Signal) -> Result<()> {
        let server = self.machines[index].server.as_ref().context("the server does not run")?;
        Ok(kill(Pid::from_raw(server.pid()), signal)?)
    }

    pub fn count(&self) -> usize {
        self.machines.len()
    }

    /// Where a server's API is.
    pub fn address(&self, index: usize) -> String {
        format!("{}:6443", Net::Clients.address(self.machines[index].number))
    }

    pub fn data_dir(&self, index: usize) -> PathBuf {
        self.machines[index].sandbox.directory().join("data")
    }

    pub fn kubeconfig(&self, index: usize) -> PathBuf {
        self.data_dir(index).join("admin.kubeconfig")
    }

    fn log_path(&self, index: usize) -> PathBuf {
        self.machines[index].sandbox.directory().join("server.log")
    }

    /// What a server wrote so far, over all its runs.
    pub fn log(&self, index: usize) -> String {
        std::fs::read_to_string(self.log_path(index)).unwrap_or_default()
    }

    /// Where clients run: they reach every server, and etcd.
    pub fn hub(&self) -> &Sandbox {
        &self.hub
    }

    fn command(&self, index: usize, options: &[&str], program: impl AsRef<std::ffi::OsStr>) -> Command {
        let sandbox = &self.machines[index].sandbox;
        let mut command = sandbox.enter(options);
        let home = sandbox.directory().join("home");
        command.arg(program).env("KUBECONFIG", self.kubeconfig(index)).env("HOME", &home);
        command.env("KUBECACHEDIR", home.join("cache")).env_remove("KUBERNETES_SERVICE_HOST");
        command.current_dir(sandbox.directory());
        command
    }

    /// kubectl on a server's machine, which asks that server.
    pub fn kubectl(&self, index: usize, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(index, &["--timeout", &DEADLINE.as_secs().to_string()], "kubectl");
        command.args(arguments);
        Output::of(command, format!("kubectl {}", arguments.join(" ")), input.as_bytes())
    }

    /// The same, while others go on.
    pub fn begin_kubectl(&self, index: usize, arguments: &[&str]) -> JoinHandle<Output> {
        let mut command = self.command(index, &["--timeout", &DEADLINE.as_secs().to_string()], "kubectl");
        command.args(arguments);
        let description = format!("kubectl {}", arguments.join(" "));
        std::thread::spawn(move || Output::of(command, description, b""))
    }

    /// `sampan` on a server's machine.
    pub fn sampan(&self, index: usize, arguments: &[&str]) -> Output {
        let mut command = self.command(index, &["--timeout", &DEADLINE.as_secs().to_string()], &self.program);
        command.args(arguments);
        Output::of(command, format!("sampan {}", arguments.join(" ")), b"")
    }

    /// Asks a member of etcd.
    pub fn etcdctl(&self, index: usize, arguments: &[&str]) -> Output {
        let mut command = self.hub.enter(&["--timeout", "10"]);
        command.arg("etcdctl").env("ETCDCTL_API", "3");
        command.args(["--endpoints", &self.members[index].member.client()]).args(arguments);
        Output::of(command, format!("etcdctl {}", arguments.join(" ")), b"")
    }

    /// The index of the member that leads, as etcd says.
    pub fn leading_member(&self) -> Result<usize> {
        let began = Instant::now();
        // The members are asked one by one, and may elect another one meanwhile.
        while began.elapsed() < DEADLINE {
            if let Some(index) = (0..self.members.len()).find(|index| self.leads(*index)) {
                return Ok(index);
            }
        }
        anyhow::bail!("no member leads")
    }

    fn leads(&self, index: usize) -> bool {
        let output = self.etcdctl(index, &["endpoint", "status", "-w", "json"]);
        let status: serde_json::Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        let status = &status[0]["Status"];
        let its_own = status["leader"] == status["header"]["member_id"];
        output.code == Some(0) && its_own && self.members[index].etcd.is_some()
    }

    /// Ends everything; fails when a server fails at its end, or anything stays.
    pub fn stop(mut self) -> Result<()> {
        let mut left = Vec::new();
        for machine in &mut self.machines {
            if let Some(server) = machine.server.take() {
                let status = server.end(Signal::SIGTERM)?;
                ensure!(status.success(), "server {} ended with {status}", machine.number);
            }
        }
        for machine in self.machines {
            left.extend(machine.sandbox.stop()?);
        }
        for mut machine in self.members {
            drop(machine.etcd.take());
            left.extend(machine.sandbox.stop()?);
        }
        left.extend(self.hub.stop()?);
        ensure!(left.is_empty(), "left behind: {left:#?}");
        Ok(())
    }
}

/// The hub's end of a cable.
fn plug(net: Net, number: usize) -> String {
    format!("{}-{number}", net.name())
}

/// Runs `ip` in the network of a sandbox, with the processes of this machine.
fn ip(sandbox: &Sandbox, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::null());
    let output = sandbox.in_network(move || command.output()).join().expect("does not panic")?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "ip {}: {error}", arguments.join(" "));
    Ok(())
}
