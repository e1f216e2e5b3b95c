//! Namespaces of a cluster, and the guardian that outlives the test long enough to clear them away.
//!
//! Two modes of the program `sampan-testkit-sandbox`: [`hold`] is the guardian; [`enter`] runs one command
//! inside what a guardian holds. Both are separate processes, since namespaces of mounts and processes can
//! only be entered by a process with one thread.

mod cgroups;
mod enter;
mod hold;
mod inside;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};

pub use enter::{Options, enter};
pub use hold::hold;

const PROGRAM: &str = "sampan-testkit-sandbox";

/// Namespaces with nothing but a loopback link, and a directory that goes with them.
#[derive(Debug)]
pub struct Sandbox {
    program: PathBuf,
    name: String,
    directory: PathBuf,
    init: i32,
    guardian: Child,
    answers: BufReader<ChildStdout>,
}

impl Sandbox {
    /// Makes one. Needs root.
    pub fn start() -> Result<Sandbox> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let program = beside_this_program(PROGRAM)?;
        let name = format!("sampan-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Short, since paths of sockets below it may have at most 107 bytes.
        let directory = tempfile::Builder::new().prefix("sk-").tempdir_in("/tmp")?.keep();
        let mut guardian = Command::new(&program)
            .arg("hold")
            .arg(&name)
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let mut answers = BufReader::new(guardian.stdout.take().expect("piped"));
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let Some(init) = line.trim().strip_prefix("held by ").and_then(|pid| pid.parse().ok()) else {
            bail!("no namespaces: {:?} (root is needed)", line.trim());
        };
        Ok(Sandbox { program, name, directory, init, guardian, answers })
    }

    /// A directory that is removed with the namespaces.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its first process, as the host numbers it.
    pub fn init(&self) -> i32 {
        self.init
    }

    /// A command inside, that may be given arguments, variables and streams.
    pub fn enter(&self, options: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("enter").arg(self.init.to_string()).args(options).arg("--");
        command
    }

    /// Does something in a thread whose sockets are inside.
    pub fn in_network<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let namespace = File::open(format!("/proc/{}/ns/net", self.init)).expect("the guardian runs");
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a network namespace");
            work()
        })
    }

    /// Directories of its cgroups on the host, one per hierarchy.
    pub fn cgroups(&self) -> Result<Vec<PathBuf>> {
        Ok(cgroups::hierarchies()?.iter().map(|hierarchy| hierarchy.path.join(&self.name)).collect())
    }

    /// Mount points that its first process sees.
    pub fn mounts(&self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.init))?;
        Ok(text.lines().filter_map(|line| line.split(' ').nth(4).map(str::to_owned)).collect())
    }

    /// Processes inside, beyond the first, as (process of the host, command line).
    pub fn processes(&self) -> Result<Vec<(i32, String)>> {
        let namespace = std::fs::read_link(format!("/proc/{}/ns/pid", self.init))?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            // Whatever ends while being looked at is not there.
            if pid != self.init
                && std::fs::read_link(entry.path().join("ns/pid")).ok().as_ref() == Some(&namespace)
            {
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                found.push((pid, String::from_utf8_lossy(&line).replace('\0', " ")));
            }
        }
        Ok(found)
    }

    /// Ends everything inside and says what could not be removed; nothing, if all is well.
    pub fn stop(mut self) -> Result<Vec<String>> {
        self.end()
    }

    fn end(&mut self) -> Result<Vec<String>> {
        drop(self.guardian.stdin.take());
        let mut left: Vec<String> = self.answers.by_ref().lines().collect::<Result<_, _>>()?;
        let status = self.guardian.wait()?;
        if !status.success() {
            left.push(format!("the guardian ended with {status}"));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let directory = self.directory.display().to_string();
        left.extend(
            mounts.lines().filter(|line| line.contains(&directory)).map(|line| format!("mount {line}")),
        );
        if self.directory.exists() {
            left.push(directory);
        }
        left.extend(
            self.cgroups()?.iter().filter(|path| path.exists()).map(|path| path.display().to_string()),
        );
        Ok(left)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if self.guardian.stdin.is_some() {
            match self.end() {
                Ok(left) if left.is_empty() => {}
                Ok(left) => eprintln!("left behind: {left:#?}"),
                Err(error) => eprintln!("a sandbox could not be taken down: {error:#}"),
            }
        }
    }
}

/// A program of this workspace, in the directory of this program or the one above (tests are in `deps`).
pub fn beside_this_program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not beside {}; build it first", own.display()))
}
