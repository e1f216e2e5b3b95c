//! A command on a terminal of its own, as a person uses it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use nix::pty::{Winsize, openpty};
use regex::Regex;

use crate::command::DEADLINE;

/// A running command with a pseudo-terminal. Killed when dropped.
#[derive(Debug)]
pub struct Terminal {
    description: String,
    child: Child,
    keyboard: File,
    pieces: Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Rows and columns of every terminal here.
    pub const SIZE: (u16, u16) = (33, 111);

    /// `command` must make its standard input its controlling terminal.
    pub fn of(mut command: Command, description: String) -> Terminal {
        let (rows, columns) = Terminal::SIZE;
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).expect("a terminal can be made");
        let copy = |fd: &OwnedFd| fd.try_clone().expect("a descriptor can be copied");
        command.stdin(Stdio::from(copy(&pair.slave))).stdout(Stdio::from(copy(&pair.slave)));
        command.stderr(Stdio::from(pair.slave)).env("TERM", "xterm");
        let child = command.spawn().unwrap_or_else(|error| panic!("{description}: {error}"));
        // The command keeps the other side open, and its end must be seen on this one.
        drop(command);
        let mut screen = File::from(copy(&pair.master));
        let (sender, pieces) = channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 16 * 1024];
            // Reading fails once nobody has the terminal.
            while let Ok(count @ 1..) = std::io::Read::read(&mut screen, &mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { description, child, keyboard: pair.master.into(), pieces, seen: String::new() }
    }

    #[track_caller]
    pub fn types(&mut self, text: &str) {
        use std::io::Write as _;
        self.keyboard
            .write_all(text.as_bytes())
            .unwrap_or_else(|error| panic!("{}: {error}", self.description));
    }

    /// Waits until something that matches is on the screen.
    #[track_caller]
    pub fn until(&mut self, pattern: &str) -> &str {
        let regex = Regex::new(&format!("(?m){pattern}")).expect("a valid pattern");
        let end = Instant::now() + DEADLINE;
        while !regex.is_match(&self.seen) {
            match self.pieces.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.seen.push_str(&String::from_utf8_lossy(&piece)),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("$ {}\n/{pattern}/ is not on the screen:\n{}", self.description, self.seen)
                }
            }
        }
        &self.seen
    }

    /// Waits for the end of the command; returns its exit code and the whole screen.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, String) {
        let end = Instant::now() + DEADLINE;
        loop {
            match self.pieces.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(piece) => self.seen.push_str(&String::from_utf8_lossy(&piece)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("$ {}\ndoes not end:\n{}", self.description, self.seen)
                }
            }
        }
        let status = self.child.wait().expect("a child can be waited for");
        (status.code(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
