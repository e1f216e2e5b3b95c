//! A web server for tests of rollouts: answers every request with its version and its host's name.
//!
//! `sampan-testkit-web PORT VERSION`, by TCP (HTTP) and by datagrams. `sampan-testkit-web ask ADDRESS:PORT` sends
//! a datagram, again each second until there is an answer, and prints that. At SIGTERM the server it goes on until no connection came for half a second,
//! answers what it has, and ends with code 0, as a server should that shares its work with others.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
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
    let first = arguments.next().context("usage: PORT VERSION | ask ADDRESS:PORT")?;
    if first == "ask" {
        return ask(&arguments.next().context("usage: ask ADDRESS:PORT")?);
    }
    let port: u16 = first.parse()?;
    let version = arguments.next().unwrap_or_default();
    let action = SigAction::new(SigHandler::Handler(terminate), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only stores to an atomic.
    unsafe { sigaction(Signal::SIGTERM, &action) }?;
    let host = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    listener.set_nonblocking(true)?;
    let datagrams = UdpSocket::bind(("0.0.0.0", port))?;
    let reply = format!("{version} {host}\n");
    std::thread::spawn(move || {
        // A datagram that was refused is told of by an error that concerns only its sender.
        while let Ok((_, sender)) = datagrams.recv_from(&mut [0; 64]) {
            let _ = datagrams.send_to(reply.as_bytes(), sender);
        }
    });
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

/// Sends datagrams until one is answered. A refusal is an error at once.
fn ask(address: &str) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.connect(address)?;
    let mut buffer = [0; 1024];
    for _ in 0..10 {
        socket.send(b"?")?;
        match socket.recv(&mut buffer) {
            Ok(count) => {
                print!("{}", String::from_utf8_lossy(&buffer[..count]));
                return Ok(());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("no answer from {address}")
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
