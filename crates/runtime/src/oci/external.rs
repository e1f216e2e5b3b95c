//! A runtime binary with runc's command line.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as ProcessStdio};

use oci_spec::runtime::Process;

use super::{CONSOLE_SOCKET, ConsoleSocket, OciError, OciRuntime, Spawned, Stdio, Target, adapt_spec};

/// The most that is read of what a runtime complains, in bytes.
const COMPLAINT_MAX: u64 = 16 << 10;

/// A console socket in a directory of its own, which goes with it.
struct Console {
    socket: ConsoleSocket,
    dir: PathBuf,
}

impl Drop for Console {
    fn drop(&mut self) {
        // An empty directory that cannot be removed harms nobody.
        let _left = std::fs::remove_dir_all(&self.dir);
    }
}

pub struct ExternalRuntime {
    pub binary: PathBuf,
    /// `--root`.
    pub root: PathBuf,
}

impl ExternalRuntime {
    /// Runs a command to its end. `dir` is where it keeps its log, whose errors become ours: its
    /// stderr is the container's.
    fn run(&self, name: &'static str, dir: &Path, fill: impl FnOnce(&mut Command)) -> Result<(), OciError> {
        let log = dir.join(format!("runtime-{}.log", std::process::id()));
        let mut command = Command::new(&self.binary);
        // It is given all it needs by arguments; runc would look for directories of a user session.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        command.arg("--root").arg(&self.root).arg("--log").arg(&log).args(["--log-format", "json"]);
        command.arg(name);
        fill(&mut command);
        let status = command.status().map_err(OciError::io("running an OCI runtime"))?;
        let complaints = read_complaints(&log);
        // A log left over would be blamed on the next command.
        let _gone = std::fs::remove_file(&log);
        if status.success() {
            return Ok(());
        }
        let message = if complaints.is_empty() { status.to_string() } else { complaints };
        Err(OciError::External { binary: self.binary.clone(), command: name, message })
    }

    /// Runs `create` or `exec`, which make a process and say its id in a file.
    fn spawn(
        &self,
        name: &'static str,
        dir: &Path,
        stdio: Stdio,
        fill: impl FnOnce(&mut Command),
    ) -> Result<Spawned, OciError> {
        let pid_file = dir.join("pid");
        let mut console = None;
        let streams = match stdio {
            Stdio::Streams { stdin, stdout, stderr } => Some([stdin, stdout, stderr]),
            Stdio::Terminal => {
                // runc resolves links before it connects, so the path itself must fit in an address.
                let short = nix::unistd::mkdtemp("/run/sampan-console-XXXXXX");
                let short = short.map_err(|error| OciError::io("making a directory")(error.into()))?;
                console = Some(Console { socket: ConsoleSocket::bind(&short)?, dir: short });
                None
            }
        };
        self.run(name, dir, |command| {
            command.arg("--pid-file").arg(&pid_file);
            if let Some(console) = &console {
                command.arg("--console-socket").arg(console.dir.join(CONSOLE_SOCKET));
            }
            if let Some([stdin, stdout, stderr]) = streams {
                command.stdin(stdin).stdout(stdout).stderr(stderr);
            } else {
                command.stdin(ProcessStdio::null()).stdout(ProcessStdio::null()).stderr(ProcessStdio::null());
            }
            fill(command);
        })?;
        let pid = std::fs::read_to_string(&pid_file).map_err(OciError::io("reading the process id"))?;
        let pid = pid.trim().parse().map_err(|_| OciError::NoProcess)?;
        let terminal = console.map(|console| console.socket.receive()).transpose()?;
        Ok(Spawned { pid, terminal, start: None })
    }
}

#[derive(serde::Deserialize)]
struct Complaint {
    level: String,
    msg: String,
}

fn read_complaints(log: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(file) = std::fs::File::open(log) {
        // What was read before an error is better than nothing.
        let _partial = file.take(COMPLAINT_MAX).read_to_end(&mut text);
    }
    let lines = text.split(|&byte| byte == b'\n');
    let complaints = lines.filter_map(|line| serde_json::from_slice::<Complaint>(line).ok());
    let errors: Vec<String> =
        complaints.filter(|entry| entry.level == "error").map(|entry| entry.msg).collect();
    errors.join("; ")
}

impl OciRuntime for ExternalRuntime {
    fn create(&self, id: &str, bundle: &Path, stdio: Stdio) -> Result<Spawned, OciError> {
        adapt_spec(bundle)?;
        self.spawn("create", bundle, stdio, |command| {
            command.arg("--bundle").arg(bundle).arg(id);
        })
    }

    fn start(&self, id: &str) -> Result<(), OciError> {
        self.run("start", &self.root, |command| {
            command.arg(id);
        })
    }

    fn delete(&self, id: &str) -> Result<(), OciError> {
        self.run("delete", &self.root, |command| {
            command.arg("--force").arg(id);
        })
    }

    fn exec(
        &self,
        target: Target<'_>,
        process: &Process,
        scratch: &Path,
        stdio: Stdio,
    ) -> Result<Spawned, OciError> {
        let file = scratch.join("process.json");
        let json = serde_json::to_vec(process).map_err(OciError::Process)?;
        std::fs::write(&file, json).map_err(OciError::io("preparing an exec"))?;
        self.spawn("exec", scratch, stdio, |command| {
            command.arg("--detach").arg("--process").arg(&file).arg(target.id);
        })
    }
}
