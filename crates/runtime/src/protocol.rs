//! What a server and a supervisor say to each other.
//!
//! A stream socket carries [frames](frame) of JSON. The server sends [`Call`]s; the supervisor sends
//! [`Reply`]s: one answer per call, in any order, and the events that the connection subscribed to.
//! File descriptors travel with the frame that names them.

pub mod frame;

use std::path::PathBuf;

use jiff::Timestamp;
use oci_spec::runtime::{LinuxResources, Spec};
use serde::{Deserialize, Serialize};

use crate::sandbox::{PodNamespaces, SandboxConfig};

/// The version of this protocol. A supervisor outlives the server that started it, so a newer server
/// must understand the versions of older supervisors.
pub const VERSION: u32 = 1;

/// A request and the number that its answer will carry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call<S = Spec> {
    pub id: u64,
    pub request: Request<S>,
}

/// What a server can ask for. `S` is the OCI spec: typed for the one who builds it, raw JSON for the
/// supervisor, which only hands it on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request<S = Spec> {
    /// Who are you and what runs? From here on the connection gets [`Event`]s if it wants them;
    /// nothing happens unseen between the answer's states and the first event.
    Hello {
        subscribe: bool,
    },
    Create {
        config: Box<ContainerConfig<S>>,
    },
    Start {
        id: String,
    },
    /// Sends a signal to a container's first process, or to all of its processes.
    Signal {
        id: String,
        signal: i32,
        all: bool,
    },
    /// Deletes a container that exited or was never started; with `force` kills it first.
    Remove {
        id: String,
        force: bool,
    },
    /// Runs a process in a container. Descriptors: see [`ExecConfig`].
    Exec {
        id: String,
        config: ExecConfig,
    },
    /// Sends a signal to a process started by `Exec`.
    SignalExec {
        exec: u64,
        signal: i32,
    },
    /// Sets the size of the terminal of a container that has one.
    Resize {
        id: String,
        rows: u16,
        columns: u16,
    },
    /// Sends a copy of the container's output to the descriptors that come along, in the order
    /// stdin, stdout, stderr, each where its flag says so, and takes its input from there. They are
    /// closed when the container's output ends.
    Attach {
        id: String,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    /// Opens the log file again: somebody else moved it away.
    ReopenLog {
        id: String,
    },
    /// Moves the log file away now and starts a new one.
    RotateLog {
        id: String,
    },
    Stats {
        id: String,
    },
    UpdateResources {
        id: String,
        resources: Box<LinuxResources>,
    },
    /// Ends the supervisor. Refused while a container is left, unless forced: then all are killed
    /// and deleted first.
    Shutdown {
        force: bool,
    },
}

/// A container to create.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerConfig<S = Spec> {
    /// Letters, digits, `_`, `+`, `-`, `.`; at most [`MAX_ID`] bytes.
    pub id: String,
    /// Complete. `root.path` is absolute, `linux.cgroupsPath` too; `process.terminal` is overwritten
    /// by `tty`.
    pub spec: S,
    /// Where the output goes, in CRI's log format. `None`: nowhere.
    pub log_path: Option<PathBuf>,
    pub log_limits: LogLimits,
    pub tty: bool,
    /// Keep a standard input for those who attach; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// Close the standard input when the first who attached to it closes theirs.
    pub stdin_once: bool,
}

/// The longest container id, in bytes.
pub const MAX_ID: usize = 128;

/// When a log file is moved away and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Size at which the file is rotated; 0 is never.
    pub max_bytes: u64,
    /// Files kept, the current one included; at least 2 when rotating.
    pub max_files: u32,
}

impl Default for LogLimits {
    /// The kubelet's `containerLogMaxSize` and `containerLogMaxFiles`.
    fn default() -> LogLimits {
        LogLimits { max_bytes: 10 << 20, max_files: 5 }
    }
}

/// A process to run in a container.
///
/// Without `tty`, descriptors for stdin, stdout and stderr come along where the flags say so and
/// become the process's own; the others are `/dev/null`. With `tty` none comes along, and the answer
/// brings the terminal's master side: closing it hangs up the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecConfig {
    pub argv: Vec<String>,
    /// `NAME=value`, in place of or beyond the container's own environment.
    pub env: Vec<String>,
    /// `None`: the container's.
    pub cwd: Option<PathBuf>,
    /// `None`: the container's.
    pub user: Option<ExecUser>,
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Numeric, since names are resolved in the container's files by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecUser {
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
}

/// What a supervisor sends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    Answer { id: u64, result: Result<Response, Failure> },
    Event(Event),
}

/// Answers, by request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Response {
    Hello(Box<Hello>),
    /// Done; nothing to tell.
    Done,
    /// To `Create` and `Start`.
    Container(Box<ContainerStatus>),
    /// To `Exec`; brings the terminal's master side when one was asked for.
    Exec {
        exec: u64,
        pid: u32,
    },
    Stats(Stats),
}

/// The basis of adoption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub version: u32,
    /// The supervisor's.
    pub pid: u32,
    /// The kernel's `boot_id` when the supervisor started.
    pub boot_id: String,
    pub config: SandboxConfig,
    pub namespaces: PodNamespaces,
    /// All containers that were created and not removed, also those that exited meanwhile.
    pub containers: Vec<ContainerStatus>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
}

/// One container as the supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub id: String,
    pub state: ContainerState,
    /// Of the first process, in the machine's PID namespace. Stale once exited.
    pub pid: u32,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    /// Present exactly in state `Exited`.
    pub exit: Option<ExitStatus>,
    pub log_path: Option<PathBuf>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// As Kubernetes reports it: 128 + signal for a killed process.
    pub exit_code: i32,
    pub signal: Option<i32>,
    /// The kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
    pub finished_at: Timestamp,
}

/// What happened, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    Started {
        id: String,
        pid: u32,
        started_at: Timestamp,
    },
    Exited {
        id: String,
        status: ExitStatus,
    },
    /// Sent only to the connection that asked for the exec.
    ExecExited {
        exec: u64,
        status: ExitStatus,
    },
    /// `to` is where the full file is now.
    LogRotated {
        id: String,
        to: PathBuf,
    },
}

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Nanoseconds of all CPUs since the container was created.
    pub cpu_usage_ns: u64,
    /// Bytes, page cache included.
    pub memory_usage: u64,
    /// Bytes: usage less the page cache that can go at any time (`inactive_file`).
    pub memory_working_set: u64,
    /// Bytes of anonymous memory.
    pub memory_rss: u64,
    /// Bytes; `None` without a limit.
    pub memory_limit: Option<u64>,
    pub page_faults: u64,
    pub major_page_faults: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: FailureKind,
    /// For people, with the chain of causes.
    pub message: String,
}

/// What kind of refusal: the part that code may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The request is malformed or contradicts itself.
    Invalid,
    /// No such container or exec.
    NotFound,
    AlreadyExists,
    /// The container is in a state that does not allow it.
    WrongState,
    /// Too many of something.
    Exhausted,
    /// The OCI runtime or the kernel refused.
    Runtime,
}

impl Failure {
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into() }
    }
}
