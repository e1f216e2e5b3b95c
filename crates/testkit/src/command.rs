//! Commands: those that end, with what they printed, and those that go on.

use std::fmt;
use std::io::{Read, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use regex::Regex;

/// How long anything may take before a test calls it stuck.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What a command printed, and how it ended.
///
/// The checks panic with all of it, and return it, so that they can be chained.
#[derive(Clone, Debug)]
pub struct Output {
    pub command: String,
    /// None if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "$ {}\n-> {:?}", self.command, self.code)?;
        for (name, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.is_empty() {
                write!(f, "\n--- {name}\n{}", shortened(text))?;
            }
        }
        Ok(())
    }
}

/// A failure must stay readable.
fn shortened(text: &str) -> &str {
    let end = text.char_indices().nth(6_000).map_or(text.len(), |(index, _)| index);
    &text[..end]
}

impl Output {
    /// Runs `command` to its end, with `input` as its standard input.
    pub fn of(mut command: Command, description: String, input: &[u8]) -> Output {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{description}: {error}"));
        let stdout = read_all(child.stdout.take().expect("piped"));
        let stderr = read_all(child.stderr.take().expect("piped"));
        // A command that does not want all of its input closes the pipe.
        let _ = child.stdin.take().expect("piped").write_all(input);
        let status = child.wait().expect("a child can be waited for");
        let text = |thread: JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&thread.join().expect("reading does not panic")).into_owned()
        };
        Output { command: description, code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// It must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "should succeed\n{self}");
        self
    }

    /// It must have ended with an error.
    #[track_caller]
    pub fn fails(self) -> Self {
        assert_ne!(self.code, Some(0), "should fail\n{self}");
        self
    }

    /// Standard output must be this, but for white space at both ends.
    #[track_caller]
    pub fn is(self, expected: &str) -> Self {
        assert_eq!(self.stdout.trim(), expected.trim(), "\n{self}");
        self
    }

    /// Standard output must contain each of these.
    #[track_caller]
    pub fn has(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stdout.contains(part), "{part:?} should be printed\n{self}");
        }
        self
    }

    /// Standard output must contain none of these.
    #[track_caller]
    pub fn lacks(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(!self.stdout.contains(part), "{part:?} should not be printed\n{self}");
        }
        self
    }

    /// Standard error must contain each of these.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{part:?} should be said\n{self}");
        }
        self
    }

    /// Standard output must match (multi-line mode).
    #[track_caller]
    pub fn matches(self, pattern: &str) -> Self {
        let regex = Regex::new(&format!("(?m){pattern}")).expect("a valid pattern");
        assert!(regex.is_match(&self.stdout), "/{pattern}/ should match\n{self}");
        self
    }

    /// Standard output without white space at both ends.
    pub fn text(&self) -> String {
        self.stdout.trim().to_owned()
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("no JSON: {error}\n{self}"))
    }
}

fn read_all(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
}

/// A command that goes on: `get --watch`, `logs -f`, `port-forward`. Killed when dropped.
#[derive(Debug)]
pub struct Running {
    description: String,
    child: Child,
    stdin: Option<ChildStdin>,
    /// Both standard output and standard error, in the order in which they came.
    pieces: Receiver<Vec<u8>>,
    seen: String,
}

impl Running {
    pub fn of(mut command: Command, description: String) -> Running {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{description}: {error}"));
        let (sender, pieces) = channel();
        forward(child.stdout.take().expect("piped"), sender.clone());
        forward(child.stderr.take().expect("piped"), sender);
        let stdin = child.stdin.take();
        Running { description, child, stdin, pieces, seen: String::new() }
    }

    /// Writes to its standard input.
    #[track_caller]
    pub fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        stdin.write_all(text.as_bytes()).unwrap_or_else(|error| panic!("{}: {error}", self.description));
    }

    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Waits until something that matches has been printed, and returns all that was printed so far.
    #[track_caller]
    pub fn until(&mut self, pattern: &str) -> &str {
        let regex = Regex::new(&format!("(?m){pattern}")).expect("a valid pattern");
        let end = Instant::now() + DEADLINE;
        while !regex.is_match(&self.seen) {
            let left = end.saturating_duration_since(Instant::now());
            match self.pieces.recv_timeout(left) {
                Ok(piece) => self.seen.push_str(&String::from_utf8_lossy(&piece)),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("$ {}\n/{pattern}/ was not printed:\n{}", self.description, self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("$ {}\nended without /{pattern}/:\n{}", self.description, self.seen)
                }
            }
        }
        &self.seen
    }

    /// Drops what was printed so far: [`Running::until`] then looks at what comes next.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// Waits for its end by itself; returns the exit code and all that was printed.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, String) {
        self.stdin = None;
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

    /// Ends it now; returns all that was printed.
    pub fn kill(mut self) -> String {
        self.finish();
        while let Ok(piece) = self.pieces.recv_timeout(DEADLINE) {
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
        std::mem::take(&mut self.seen)
    }

    fn finish(&mut self) {
        // What it runs dies with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.finish();
    }
}

fn forward(mut stream: impl Read + Send + 'static, sender: std::sync::mpsc::Sender<Vec<u8>>) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
}
