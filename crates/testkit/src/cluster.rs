//! A cluster of one node: `sampan server` in a sandbox, and stock kubectl to talk to it.

mod namespace;
mod server;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use crate::command::{DEADLINE, Output, Running};
use crate::daemon::Daemon;
use crate::etcd::{self, Member};
use crate::sandbox::{Sandbox, beside_this_program};
use crate::terminal::Terminal;

pub use namespace::Namespace;
pub(crate) use server::Server;

/// Where the API listens, inside.
pub const API: &str = "127.0.0.1:6443";

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    // Dropped before the sandbox, whose end is the end of its process.
    server: Option<Server>,
    /// Where the state is kept when that is not the server's own file.
    etcd: Option<Daemon>,
    program: PathBuf,
    arguments: Vec<String>,
    sandbox: Sandbox,
}

impl Cluster {
    /// Starts one and waits until it is ready. `SAMPAN_BIN` names the program to test; otherwise it is the
    /// one beside the test. With `SAMPAN_TEST_STORAGE=etcd`, its state is in an etcd.
    pub fn start() -> Result<Cluster> {
        Cluster::start_with(&[])
    }

    /// As [`Cluster::start`], with further arguments for `sampan server`.
    pub fn start_with(arguments: &[&str]) -> Result<Cluster> {
        let program = match std::env::var_os("SAMPAN_BIN") {
            Some(path) => path.into(),
            None => beside_this_program("sampan")?,
        };
        let sandbox = Sandbox::start()?;
        let mut arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let etcd = if std::env::var("SAMPAN_TEST_STORAGE").is_ok_and(|storage| storage == "etcd") {
            let member = Member::alone();
            arguments.extend(["--storage".to_owned(), format!("etcd://{}", member.client())]);
            Some(etcd::start(&sandbox, &member, std::slice::from_ref(&member), &[])?)
        } else {
            None
        };
        let mut cluster = Cluster { server: None, etcd, program, arguments, sandbox };
        std::fs::create_dir(cluster.sandbox.directory().join("home"))?;
        cluster.start_server()?;
        Ok(cluster)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.sandbox.directory().join("data")
    }

    /// A directory of the test's own, that is removed with the cluster.
    pub fn scratch(&self) -> &Path {
        self.sandbox.directory()
    }

    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
    }

    /// What the server wrote so far, over all its runs.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.sandbox.directory().join("server.log")
    }

    /// A command inside, with kubectl's settings in its environment.
    pub fn command(&self, options: &[&str], program: impl AsRef<OsStr>) -> Command {
        let mut command = self.sandbox.enter(options);
        let home = self.sandbox.directory().join("home");
        command.arg(program).env("KUBECONFIG", self.kubeconfig()).env("HOME", &home);
        command.env("KUBECACHEDIR", home.join("cache")).env_remove("KUBERNETES_SERVICE_HOST");
        command.env("SAMPAN_BIN", &self.program).current_dir(self.sandbox.directory());
        command
    }

    /// Runs a program inside to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.run_with_input(arguments, b"")
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let (program, rest) = arguments.split_first().expect("a program is named");
        let mut command = self.command(&["--timeout", &DEADLINE.as_secs().to_string()], program);
        command.args(rest);
        Output::of(command, arguments.join(" "), input)
    }

    /// Runs `sampan` inside.
    pub fn sampan(&self, arguments: &[&str]) -> Output {
        let program = self.program.to_str().expect("a path of text");
        self.run(&[&[program], arguments].concat())
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.run(&[&["kubectl"], arguments].concat())
    }

    /// kubectl with something on its standard input, such as a manifest for `apply -f -`.
    pub fn kubectl_stdin(&self, arguments: &[&str], input: &str) -> Output {
        self.run_with_input(&[&["kubectl"], arguments].concat(), input.as_bytes())
    }

    /// A program that goes on.
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        let (program, rest) = arguments.split_first().expect("a program is named");
        let mut command = self.command(&[], program);
        command.args(rest);
        Running::of(command, arguments.join(" "))
    }

    /// A program on a terminal.
    pub fn terminal(&self, arguments: &[&str]) -> Terminal {
        let (program, rest) = arguments.split_first().expect("a program is named");
        let mut command = self.command(&["--terminal"], program);
        command.args(rest);
        Terminal::of(command, arguments.join(" "))
    }

    /// A namespace for one check; it is deleted in the background when dropped.
    pub fn namespace(&self, name: &str) -> Namespace<'_> {
        Namespace::create(self, name)
    }

    /// Processes in a container's cgroup, as the host numbers them.
    pub fn container_processes(&self, id: &str) -> Vec<i32> {
        let mut found = Vec::new();
        let mut directories = self.sandbox.cgroups().unwrap_or_default();
        while let Some(directory) = directories.pop() {
            let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
            directories.extend(entries.map(|entry| entry.path()).filter(|path| path.is_dir()));
            if !id.is_empty() && directory.ends_with(id) {
                let text = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
                found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The process of etcd where the state is there, as the host numbers it.
    pub fn etcd_pid(&self) -> Option<i32> {
        self.etcd.as_ref().and_then(|etcd| etcd.pid().ok())
    }

    /// The server's process, as the host numbers it.
    pub fn server_pid(&self) -> i32 {
        self.server.as_ref().expect("the server runs").pid()
    }

    /// Sends the server a signal and waits for its end.
    pub fn kill_server(&mut self, signal: Signal) -> Result<std::process::ExitStatus> {
        self.server.take().context("the server does not run")?.end(signal)
    }

    /// Starts the server, and returns when it is ready.
    pub fn start_server(&mut self) -> Result<()> {
        if self.server.is_some() {
            bail!("the server runs already");
        }
        let pid_file = self.sandbox.directory().join("server.pid");
        let pid_path = pid_file.to_str().context("a path of text")?;
        let mut command = self.command(&["--pid-file", pid_path], &self.program);
        command.arg("server").arg("--data-dir").arg(self.data_dir()).args(["--listen", API]);
        command.args(&self.arguments);
        self.server = Some(Server::start(command, &pid_file, &self.log_path())?);
        Ok(())
    }

    /// Ends the server as an administrator does, and starts it again.
    pub fn restart(&mut self) -> Result<()> {
        let status = self.kill_server(Signal::SIGTERM)?;
        if !status.success() {
            bail!("the server ended with {status}");
        }
        self.start_server()
    }

    /// Ends the server and everything else; fails when the server fails at its end, or anything stays.
    pub fn stop(mut self) -> Result<()> {
        let status = match self.server.take() {
            Some(server) => Some(server.end(Signal::SIGTERM)?),
            None => None,
        };
        drop(self.etcd.take());
        let left = self.sandbox.stop()?;
        if !left.is_empty() {
            bail!("left behind: {left:#?}");
        }
        match status {
            Some(status) if !status.success() => bail!("the server ended with {status}"),
            Some(_) | None => Ok(()),
        }
    }
}
