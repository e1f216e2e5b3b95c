//! libcontainer, in this process.
//!
//! What has to be known of its version 0.7:
//! - It sets `oom_score_adj` and clears the dumpable flag of the calling process, which is why it
//!   runs in a fork.
//! - `noNewPrivileges: false`, spelt out, makes it load the seccomp filter after it gave up the
//!   privilege to do so, and creation fails. Leaving the field out means the same and works.
//! - A process executed in a container gets no seccomp filter at all: see [`super::executor`].
//! - Every exec leaves a socket in the container's state directory: we give each a state directory
//!   of its own, with a link to the container's state.
//! - Signalling a container marks it as stopped whatever the signal: signals do not go through it.
//! - It removes only the cgroups that it joined, and sleeps while they are busy: the supervisor calls
//!   `delete` after every process is reaped and removes what is left, parents included, itself.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ::libcontainer::container::Container;
use ::libcontainer::container::builder::ContainerBuilder;
use ::libcontainer::syscall::syscall::SyscallType;
use oci_spec::runtime::Process;

use super::complaints::Complaints;
use super::executor::SampanExecutor;
use super::{ConsoleSocket, OciError, OciRuntime, Spawned, Stdio, adapt_spec, gaps, load_spec};

pub struct LibcontainerRuntime {
    /// State of all containers, one directory each.
    pub root: PathBuf,
}

impl LibcontainerRuntime {
    fn builder(
        &self,
        root: &Path,
        id: &str,
        executor: SampanExecutor,
        streams: Option<[OwnedFd; 3]>,
    ) -> Result<ContainerBuilder, OciError> {
        let mut builder = ContainerBuilder::new(id.to_owned(), SyscallType::default())
            .validate_id()?
            .with_root_path(root)?
            .with_executor(executor);
        if let Some([stdin, stdout, stderr]) = streams {
            builder = builder.with_stdin(stdin).with_stdout(stdout).with_stderr(stderr);
        }
        Ok(builder)
    }

    fn load(&self, id: &str) -> Result<Container, OciError> {
        Ok(Container::load(self.root.join(id))?)
    }
}

fn own_streams(streams: Option<&[OwnedFd; 3]>, process: &Process) -> Result<(), OciError> {
    let streams = streams.map_or(&[][..], |streams| &streams[..]);
    gaps::own_streams(streams, process.user().uid()).map_err(OciError::io("giving streams to the user"))
}

/// Runs one of libcontainer's operations, and adds the cause to its error.
fn explained<T>(
    work: impl FnOnce() -> Result<T, ::libcontainer::error::LibcontainerError>,
) -> Result<T, OciError> {
    let complaints = Complaints::collect().map_err(OciError::io("collecting errors"))?;
    work().map_err(|source| {
        let said = source.to_string();
        // The innermost part of what it said; a line that has it comes from further out.
        let innermost = said.rsplit(" : ").next().unwrap_or(&said);
        match complaints.first() {
            Some(cause) if !cause.contains(innermost) => OciError::Cause { cause, source },
            Some(_) | None => OciError::Libcontainer(source),
        }
    })
}

fn split(stdio: Stdio, dir: &Path) -> Result<(Option<[OwnedFd; 3]>, Option<ConsoleSocket>), OciError> {
    match stdio {
        Stdio::Streams { stdin, stdout, stderr } => Ok((Some([stdin, stdout, stderr]), None)),
        Stdio::Terminal => Ok((None, Some(ConsoleSocket::bind(dir)?))),
    }
}

impl OciRuntime for LibcontainerRuntime {
    fn create(&self, id: &str, bundle: &Path, stdio: Stdio) -> Result<Spawned, OciError> {
        adapt_spec(bundle)?;
        let spec = load_spec(bundle)?;
        gaps::make_cwd(&spec).map_err(OciError::io("making the working directory"))?;
        let (streams, console) = split(stdio, bundle)?;
        own_streams(streams.as_ref(), spec.process().as_ref().ok_or(OciError::NoProcess)?)?;
        let builder = self
            .builder(&self.root, id, SampanExecutor::default(), streams)?
            .with_console_socket(console.as_ref().map(|socket| &socket.path))
            .as_init(bundle)
            .with_systemd(false)
            .with_detach(true);
        let container = explained(|| builder.build())?;
        let pid = container.pid().ok_or(OciError::NoProcess)?.as_raw();
        let terminal = console.map(|socket| socket.receive()).transpose()?;
        Ok(Spawned { pid, terminal })
    }

    fn start(&self, id: &str) -> Result<(), OciError> {
        Ok(self.load(id)?.start()?)
    }

    fn delete(&self, id: &str) -> Result<(), OciError> {
        if !self.root.join(id).exists() {
            return Ok(());
        }
        Ok(self.load(id)?.delete(true)?)
    }

    fn exec(
        &self,
        id: &str,
        bundle: &Path,
        process: &Process,
        scratch: &Path,
        stdio: Stdio,
    ) -> Result<Spawned, OciError> {
        let failed = "preparing an exec";
        let state = scratch.join(id);
        fs::create_dir(&state).map_err(OciError::io(failed))?;
        std::os::unix::fs::symlink(self.root.join(id).join("state.json"), state.join("state.json"))
            .map_err(OciError::io(failed))?;
        let (process, executor) = SampanExecutor::for_exec(process, load_spec(bundle)?);
        let file = scratch.join("process.json");
        let json = serde_json::to_vec(&process).map_err(OciError::Process)?;
        fs::write(&file, json).map_err(OciError::io(failed))?;
        let (streams, console) = split(stdio, scratch)?;
        own_streams(streams.as_ref(), &process)?;
        let builder = self
            .builder(scratch, id, executor, streams)?
            .with_console_socket(console.as_ref().map(|socket| &socket.path))
            .as_tenant()
            .with_process(Some(&file))
            .with_detach(true);
        let pid = explained(|| builder.build())?;
        let terminal = console.map(|socket| socket.receive()).transpose()?;
        Ok(Spawned { pid: pid.as_raw(), terminal })
    }
}
