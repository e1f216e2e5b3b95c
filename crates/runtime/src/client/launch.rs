//! Starting a supervisor process.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::Stdio;

use nix::fcntl::OFlag;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::LaunchError;
use crate::oci::native::read_only_copy;
use crate::sandbox::{SandboxConfig, SandboxDir};

/// What a supervisor writes to its standard output when it serves.
pub const READY: &str = "ready\n";
/// The longest reason that is read, in bytes.
const REASON_MAX: u64 = 16 << 10;

/// Returns when the supervisor serves. It is then nobody's child but init's.
pub async fn launch(exe: &Path, dir: &Path, config: &SandboxConfig) -> Result<(), LaunchError> {
    let log =
        prepare(dir, config).map_err(|source| LaunchError::Prepare { dir: dir.to_path_buf(), source })?;
    let spawn = |source| LaunchError::Spawn { exe: exe.to_path_buf(), source };
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| spawn(e.into()))?;
    let sealed = read_only_copy(exe).map_err(spawn)?;
    let path = format!("/proc/self/fd/{}", sealed.as_raw_fd());
    let mut command = tokio::process::Command::new(path);
    command.arg0(exe).arg("supervisor").arg("--dir").arg(dir);
    // It reads no environment, and must not keep a mount busy.
    command.env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::from(writer)).stderr(Stdio::from(log));
    let mut child = command.spawn().map_err(spawn)?;
    // The command holds the write end: the pipe would never end.
    drop(command);
    let said = read_all(reader).await.map_err(spawn)?;
    // The process that was spawned ends as soon as it has forked the supervisor proper.
    let status = child.wait().await.map_err(spawn)?;
    if said == READY {
        return Ok(());
    }
    let reason = match said.trim_end() {
        "" => format!("it ended without a word ({status}); see {}", SandboxDir::new(dir).log().display()),
        said => said.to_owned(),
    };
    Err(LaunchError::NotReady { reason })
}

fn prepare(dir: &Path, config: &SandboxConfig) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let files = SandboxDir::new(dir);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(files.config())?.write_all(&serde_json::to_vec(config)?)?;
    OpenOptions::new().append(true).create(true).mode(0o600).open(files.log())
}

async fn read_all(reader: OwnedFd) -> io::Result<String> {
    let mut said = Vec::new();
    pipe::Receiver::from_owned_fd(reader)?.take(REASON_MAX).read_to_end(&mut said).await?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}
