//! Short commands in a container, for probes and hooks: run, collect the output, bound the time.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::Duration;

use sampan_runtime::{ExecConfig, RequestError, Streams, Supervisor};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// What is kept of a command's output, bytes.
const OUTPUT_LIMIT: u64 = 10 << 10;
/// How long inheritors of the output may keep it open after the command ended.
const LINGER: Duration = Duration::from_millis(100);
const SIGKILL: i32 = 9;

/// How a command came out.
#[derive(Debug)]
pub struct Captured {
    pub exit_code: i32,
    /// Standard output and error, in the order of writing.
    pub output: String,
}

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("command {command:?} timed out after {seconds}s")]
    TimedOut { command: String, seconds: u64 },
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("cannot make a pipe: {0}")]
    Pipe(#[from] std::io::Error),
}

/// Runs a command in a container. One that outlives the time is killed.
pub async fn run(
    supervisor: &Supervisor,
    id: &str,
    command: &[String],
    timeout: Duration,
) -> Result<Captured, CaptureError> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(std::io::Error::from)?;
    let both = writer.try_clone()?;
    let streams = Streams { stdin: None, stdout: Some(writer), stderr: Some(both) };
    let config = ExecConfig { argv: command.to_vec(), ..ExecConfig::default() };
    let mut exec = supervisor.exec(id, config, streams).await?;
    let reading = read(reader);
    tokio::pin!(reading);
    let mut output = None;
    let ended = async {
        let status = tokio::select! {
            status = exec.wait() => status?,
            text = &mut reading => {
                output = Some(text);
                exec.wait().await?
            }
        };
        Ok::<_, RequestError>(status)
    };
    match tokio::time::timeout(timeout, ended).await {
        Ok(status) => {
            let status = status?;
            let output = match output {
                Some(text) => text,
                None => tokio::time::timeout(LINGER, reading).await.unwrap_or_default(),
            };
            Ok(Captured { exit_code: status.exit_code, output })
        }
        Err(_) => {
            if let Err(error) = supervisor.signal_exec(exec.exec, SIGKILL).await {
                tracing::debug!(%error, "a command that timed out ended by itself");
            }
            Err(CaptureError::TimedOut { command: command.join(" "), seconds: timeout.as_secs() })
        }
    }
}

async fn read(reader: OwnedFd) -> String {
    let Ok(receiver) = pipe::Receiver::from_owned_fd(reader) else { return String::new() };
    let mut kept = Vec::new();
    let mut receiver = receiver;
    // What goes beyond the limit is read too, so that the command is not held up.
    let mut limited = (&mut receiver).take(OUTPUT_LIMIT);
    if limited.read_to_end(&mut kept).await.is_ok() {
        let mut rest = [0; 4096];
        while receiver.read(&mut rest).await.is_ok_and(|count| count > 0) {}
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// The container's termination message: what it wrote to its file, or the end of its log.
pub fn termination_message(file: &std::path::Path, log: Option<&std::path::Path>) -> Option<String> {
    const LIMIT: u64 = 4096;
    let mut text = Vec::new();
    if let Ok(opened) = File::open(file) {
        // The container may have put anything there; what cannot be read is no message.
        let _ = opened.take(LIMIT).read_to_end(&mut text);
    }
    if !text.is_empty() {
        return Some(String::from_utf8_lossy(&text).into_owned());
    }
    let tail = crate::logs::tail_text(log?, 80, 2048);
    (!tail.is_empty()).then_some(tail)
}
