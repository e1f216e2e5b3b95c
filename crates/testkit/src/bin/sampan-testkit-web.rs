//! A web server for tests of rollouts: answers every request with its version and its host's name.
//!
//! `sampan-testkit-web PORT VERSION`. At SIGTERM it goes on until no connection came for half a second,
//! answers what it has, and ends with code 0, as a server should that shares its work with others.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static TERMINATED: AtomicBool = AtomicBool::new(false);

/// How long it waits for a last connection.
const QUIET_MS: u16 = 500;

extern "C" fn terminate(_signal: i32) {
    TERMINATED.store(true, Ordering::Relaxed);
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().context("usage: PORT VERSION")?.parse()?;
    let version = arguments.next().unwrap_or_default();
    let action = SigAction::new(SigHandler::Handler(terminate), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only stores to an atomic.
    unsafe { sigaction(Signal::SIGTERM, &action) }?;
    let host = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    listener.set_nonblocking(true)?;
    println!("listening on {port} as {version}");
    while wait(&listener)? {
        if let Ok((stream, _)) = listener.accept() {
            // A client that breaks off is its own problem.
            let _ = answer(stream, &format!("{version} {host}\n"));
        }
    }
    println!("ended");
    Ok(())
}

/// Waits for a connection; false when there will be none.
fn wait(listener: &TcpListener) -> Result<bool> {
    loop {
        let ending = TERMINATED.load(Ordering::Relaxed);
        // Short, since the signal may come between the look above and the wait below.
        let timeout = PollTimeout::from(QUIET_MS);
        match poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if ending => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

fn answer(mut stream: TcpStream, body: &str) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") && request.len() < 64 * 1024 {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&buffer[..count]),
        }
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.shutdown(Shutdown::Write)
}
