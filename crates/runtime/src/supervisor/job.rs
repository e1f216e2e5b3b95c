//! Work that blocks or changes the process, done in a fork.
//!
//! The supervisor has one thread, so a fork is a whole copy and may do anything. The copy keeps only
//! the descriptors it needs, tells its result over a socket, and ends.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{ForkResult, fork};
use serde::{Deserialize, Serialize};

use super::Caller;
use super::connection::is_transient;
use crate::descriptors::close_all_but;
use crate::protocol::frame::{self, FrameDecoder};
use crate::socket;

/// What the result is for.
#[derive(Debug)]
pub enum Purpose {
    Create { container: u64, caller: Caller },
    Start { container: u64, caller: Caller },
    Delete { container: u64, caller: Option<Caller> },
    Exec { caller: Caller },
}

/// What a job made.
#[derive(Debug, Default)]
pub struct Made {
    pub pid: Option<i32>,
    pub terminal: Option<OwnedFd>,
    /// How a container is started, where that needs no job.
    pub start: Option<OwnedFd>,
}

#[derive(Serialize, Deserialize)]
struct Message {
    result: Result<Told, String>,
}

/// Of what was [`Made`]: the descriptors come along in this order.
#[derive(Serialize, Deserialize)]
struct Told {
    pid: Option<i32>,
    terminal: bool,
    start: bool,
}

/// A job in flight.
pub struct Job {
    pub purpose: Purpose,
    socket: UnixStream,
    decoder: FrameDecoder,
}

impl AsFd for Job {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Job {
    /// Forks. `keep` are the descriptors that `work` uses, beyond the standard ones.
    pub fn spawn(
        purpose: Purpose,
        oom_score_adj: Option<&str>,
        keep: &[RawFd],
        work: impl FnOnce() -> Result<Made, String>,
    ) -> io::Result<Job> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        // SAFETY: the process has one thread, so the child may use all that the parent may.
        match unsafe { fork() }? {
            ForkResult::Parent { .. } => Ok(Job { purpose, socket: ours, decoder: FrameDecoder::default() }),
            ForkResult::Child => {
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    let mut keep = keep.to_vec();
                    keep.push(theirs.as_raw_fd());
                    become_ordinary(oom_score_adj, &keep)?;
                    work()
                }));
                let result = outcome.unwrap_or_else(|_| Err("the OCI runtime panicked".to_owned()));
                report(&theirs, result);
                // SAFETY: ends the process; destructors belong to the parent.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// The result, once it is there.
    pub fn result(&mut self, buffer: &mut [u8]) -> Option<Result<Made, String>> {
        let ended = match socket::receive(self.socket.as_fd(), buffer) {
            Ok((0, _)) => Some("the OCI runtime ended without a result".to_owned()),
            Ok((count, fds)) => self.decoder.push(&buffer[..count], fds).err().map(|error| error.to_string()),
            Err(error) if is_transient(&error) => None,
            Err(error) => Some(error.to_string()),
        };
        match self.decoder.next_frame() {
            Ok(Some(frame)) => Some(match frame.decode::<Message>() {
                Ok(message) => message.result.map(|Told { pid, terminal, start }| {
                    let mut fds = frame.fds.into_iter();
                    let mut next = |told: bool| if told { fds.next() } else { None };
                    Made { pid, terminal: next(terminal), start: next(start) }
                }),
                Err(error) => Err(error.to_string()),
            }),
            Ok(None) => ended.map(Err),
            Err(error) => Some(Err(error.to_string())),
        }
    }
}

/// Undoes what the supervisor set up for itself and a container must not inherit.
fn become_ordinary(oom_score_adj: Option<&str>, keep: &[RawFd]) -> Result<(), String> {
    close_all_but(keep).map_err(|error| format!("closing descriptors: {error}"))?;
    default_signals();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(|error| error.to_string())?;
    if let Some(score) = oom_score_adj {
        std::fs::write("/proc/self/oom_score_adj", score).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Rust ignores `SIGPIPE`, and whoever started the server may have had others ignored; containers
/// would inherit that.
fn default_signals() {
    /// The kernel's `struct sigaction`, of which zeroes are the default.
    #[repr(C)]
    struct Action {
        words: [u64; 4],
    }
    let action = Action { words: [0; 4] };
    let (none, mask_bytes) = (std::ptr::null_mut::<Action>(), 8usize);
    for number in 1..=crate::cgroup::LAST_SIGNAL {
        // SAFETY: the kernel reads a live structure that is no smaller than its own; the default
        // action runs no code of ours. Those that cannot be changed are refused, and are as wanted.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, &raw const action, none, mask_bytes) };
    }
}

fn report(to: &UnixStream, result: Result<Made, String>) {
    let (result, fds) = match result {
        Ok(Made { pid, terminal, start }) => {
            let told = Told { pid, terminal: terminal.is_some(), start: start.is_some() };
            (Ok(told), [terminal, start])
        }
        Err(error) => (Err(error), [None, None]),
    };
    let owned: Vec<OwnedFd> = fds.into_iter().flatten().collect();
    let fds: Vec<RawFd> = owned.iter().map(AsRawFd::as_raw_fd).collect();
    let Ok(bytes) = frame::encode(&Message { result }, fds.len()) else { return };
    let mut sent = 0;
    while sent < bytes.len() {
        let with: &[RawFd] = if sent == 0 { &fds } else { &[] };
        match socket::send(to.as_fd(), &bytes[sent..], with) {
            Ok(count) => sent += count,
            // The supervisor is gone; nobody is left to tell.
            Err(_) => return,
        }
    }
}
