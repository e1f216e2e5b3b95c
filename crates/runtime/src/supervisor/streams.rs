//! A container's standard streams: to its log, to those attached, and from them.
//!
//! A chunk is read from the container only when everybody took the one before: whoever is slow, a
//! full disk too, slows the container by its pipe filling up, and nothing is lost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use jiff::Timestamp;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;

use super::complain;
use super::connection::is_transient;
use crate::log::{Line, LogFile, Stream};

#[derive(Clone, Copy, Debug)]
pub enum StreamSource {
    /// What the container writes.
    Output(Stream),
    /// What it reads.
    Input,
    AttachedInput(u64),
    AttachedOutput(u64, Stream),
}

struct Output {
    file: File,
    line: Line,
}

/// Something written to when it is ready.
struct Sink {
    file: File,
    waiting: Vec<u8>,
}

impl Sink {
    fn new(fd: OwnedFd) -> io::Result<Sink> {
        set_nonblocking(fd.as_fd())?;
        Ok(Sink { file: File::from(fd), waiting: Vec::new() })
    }

    /// Writes what it can; `false` when nobody will ever read.
    fn write(&mut self, bytes: &[u8]) -> bool {
        self.waiting.extend_from_slice(bytes);
        let mut written = 0;
        while written < self.waiting.len() {
            match self.file.write(&self.waiting[written..]) {
                Ok(0) => return false,
                Ok(count) => written += count,
                Err(error) if is_transient(&error) => break,
                Err(_) => return false,
            }
        }
        self.waiting.drain(..written);
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        true
    }
}

/// Somebody who looks on and types.
#[derive(Default)]
struct Attachment {
    stdin: Option<File>,
    stdout: Option<Sink>,
    stderr: Option<Sink>,
    /// Wants nothing but what waits already.
    leaves: bool,
}

impl Attachment {
    fn sink(&mut self, stream: Stream) -> &mut Option<Sink> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn sinks(&self) -> impl Iterator<Item = (Stream, &Sink)> {
        let all = [(Stream::Stdout, &self.stdout), (Stream::Stderr, &self.stderr)];
        all.into_iter().filter_map(|(stream, sink)| Some((stream, sink.as_ref()?)))
    }

    fn is_over(&self) -> bool {
        self.stdin.is_none() && self.stdout.is_none() && self.stderr.is_none()
    }
}

#[derive(Default)]
pub struct Streams {
    stdout: Option<Output>,
    stderr: Option<Output>,
    input: Option<Sink>,
    /// The input is to be closed when what waits for it is written.
    input_ends: bool,
    stdin_once: bool,
    terminal: Option<OwnedFd>,
    log: Option<LogFile>,
    /// The log failed and that was said.
    complained: bool,
    attachments: BTreeMap<u64, Attachment>,
    next_attachment: u64,
}

impl Streams {
    pub fn new(log: Option<LogFile>, stdin_once: bool) -> Streams {
        Streams { log, stdin_once, ..Streams::default() }
    }

    /// Our ends of a container's pipes.
    pub fn set_pipes(&mut self, stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd) -> io::Result<()> {
        self.input = stdin.map(Sink::new).transpose()?;
        self.stdout = Some(output(stdout)?);
        self.stderr = Some(output(stderr)?);
        Ok(())
    }

    /// The master side of a container's terminal; `stdin` says whether anybody may type.
    pub fn set_terminal(&mut self, terminal: OwnedFd, stdin: bool) -> io::Result<()> {
        self.input = if stdin { Some(Sink::new(terminal.try_clone()?)?) } else { None };
        self.stdout = Some(output(terminal.try_clone()?)?);
        self.terminal = Some(terminal);
        Ok(())
    }

    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    pub fn log(&mut self) -> Option<&mut LogFile> {
        self.log.as_mut()
    }

    pub fn is_log_flushed(&self) -> bool {
        self.log.as_ref().is_none_or(LogFile::is_flushed)
    }

    /// Adds somebody. What the container does not have is closed at once.
    pub fn attach(
        &mut self,
        stdin: Option<OwnedFd>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) -> io::Result<()> {
        let sink = |wanted: bool, fd: Option<OwnedFd>| fd.filter(|_| wanted).map(Sink::new).transpose();
        let stdin = stdin.filter(|_| self.input.is_some());
        if let Some(stdin) = &stdin {
            set_nonblocking(stdin.as_fd())?;
        }
        let attachment = Attachment {
            stdin: stdin.map(File::from),
            stdout: sink(self.stdout.is_some(), stdout)?,
            stderr: sink(self.stderr.is_some(), stderr)?,
            leaves: false,
        };
        if !attachment.is_over() {
            self.next_attachment += 1;
            self.attachments.insert(self.next_attachment, attachment);
        }
        Ok(())
    }

    pub fn interests<'a>(&'a self, add: &mut impl FnMut(StreamSource, BorrowedFd<'a>, PollFlags)) {
        for (stream, output) in [(Stream::Stdout, &self.stdout), (Stream::Stderr, &self.stderr)] {
            // Left out while blocked: its hang-up would wake us for nothing.
            if let Some(output) = output.as_ref().filter(|_| !self.is_blocked(stream)) {
                add(StreamSource::Output(stream), output.file.as_fd(), PollFlags::POLLIN);
            }
        }
        let takes_input = self.input.as_ref().is_some_and(|input| input.waiting.is_empty());
        if let Some(input) = self.input.as_ref().filter(|_| !takes_input) {
            add(StreamSource::Input, input.file.as_fd(), PollFlags::POLLOUT);
        }
        for (&key, attachment) in &self.attachments {
            if let Some(stdin) = attachment.stdin.as_ref().filter(|_| takes_input) {
                add(StreamSource::AttachedInput(key), stdin.as_fd(), PollFlags::POLLIN);
            }
            for (stream, sink) in attachment.sinks() {
                // Without a wish, poll still tells when the reader is gone.
                let wish = if sink.waiting.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
                add(StreamSource::AttachedOutput(key, stream), sink.file.as_fd(), wish);
            }
        }
    }

    /// Moves one chunk. Says where the log went when that rotated it.
    pub fn ready(&mut self, source: StreamSource, flags: PollFlags, buffer: &mut [u8]) -> Option<PathBuf> {
        let mut rotated = None;
        match source {
            StreamSource::Output(stream) => rotated = self.read_output(stream, buffer).1,
            StreamSource::Input => self.write_input(&[]),
            StreamSource::AttachedInput(key) => self.read_attached(key, buffer),
            StreamSource::AttachedOutput(key, stream) => {
                let gone = flags.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL);
                if let Some(attachment) = self.attachments.get_mut(&key) {
                    let sink = attachment.sink(stream);
                    if gone || !sink.as_mut().is_some_and(|sink| sink.write(&[])) {
                        *sink = None;
                    }
                }
            }
        }
        self.settle();
        rotated
    }

    /// The container's processes are gone: takes what is left in the pipes, and no more input.
    pub fn finish(&mut self, buffer: &mut [u8]) -> Vec<PathBuf> {
        self.input = None;
        for attachment in self.attachments.values_mut() {
            attachment.stdin = None;
        }
        let mut rotated = Vec::new();
        for stream in [Stream::Stdout, Stream::Stderr] {
            loop {
                let (progress, to) = self.read_output(stream, buffer);
                rotated.extend(to);
                if !progress {
                    break;
                }
            }
        }
        self.settle();
        rotated
    }

    /// Tries to write the log; a failure is said once.
    pub fn flush_log(&mut self) -> Option<PathBuf> {
        let log = self.log.as_mut()?;
        match log.flush() {
            Ok(rotated) => {
                self.complained = false;
                rotated
            }
            Err(error) => {
                if !self.complained {
                    complain("writing a container's log, which waits", &error);
                    self.complained = true;
                }
                None
            }
        }
    }

    fn output(&mut self, stream: Stream) -> &mut Option<Output> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn is_blocked(&self, stream: Stream) -> bool {
        let waits = |attachment: &Attachment| {
            attachment.sinks().any(|(of, sink)| of == stream && !sink.waiting.is_empty())
        };
        !self.is_log_flushed() || self.attachments.values().any(waits)
    }

    /// Whether there may be more to read at once, and where the log went.
    fn read_output(&mut self, stream: Stream, buffer: &mut [u8]) -> (bool, Option<PathBuf>) {
        if self.is_blocked(stream) {
            return (false, None);
        }
        let Some(output) = self.output(stream) else { return (false, None) };
        let count = match output.file.read(buffer) {
            Ok(count) => count,
            Err(error) if is_transient(&error) => return (false, None),
            // A terminal that the last process closed answers EIO.
            Err(_) => 0,
        };
        let chunk = &buffer[..count];
        for attachment in self.attachments.values_mut().filter(|attachment| !attachment.leaves) {
            let sink = attachment.sink(stream);
            if sink.as_mut().is_some_and(|sink| !sink.write(chunk)) {
                *sink = None;
            }
        }
        let ended = (count == 0).then(|| self.output(stream).take()).flatten();
        let rotated = self.write_log(stream, chunk, ended);
        (count > 0, rotated)
    }

    fn write_log(&mut self, stream: Stream, chunk: &[u8], ended: Option<Output>) -> Option<PathBuf> {
        let now = Timestamp::now();
        let output = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let log = self.log.as_mut()?;
        match (ended, output) {
            (Some(mut ended), _) => ended.line.finish(stream, now, log.pending()),
            (None, Some(output)) => output.line.split(stream, now, chunk, log.pending()),
            (None, None) => {}
        }
        self.flush_log()
    }

    fn write_input(&mut self, bytes: &[u8]) {
        let Some(input) = &mut self.input else { return };
        let lives = input.write(bytes);
        if !lives || (self.input_ends && input.waiting.is_empty()) {
            self.input = None;
        }
    }

    fn read_attached(&mut self, key: u64, buffer: &mut [u8]) {
        let Some(attachment) = self.attachments.get_mut(&key) else { return };
        let Some(stdin) = &mut attachment.stdin else { return };
        match stdin.read(buffer) {
            Err(error) if is_transient(&error) => {}
            Ok(0) | Err(_) => {
                attachment.stdin = None;
                // A terminal is closed by typing end-of-file, not by leaving. Who typed to what goes on reading
                // leaves it with the input, as with containerd.
                if self.stdin_once && self.terminal.is_none() {
                    self.input_ends = true;
                    self.write_input(&[]);
                } else {
                    attachment.leaves = true;
                }
            }
            Ok(count) => self.write_input(&buffer[..count]),
        }
    }

    /// Lets go of those for whom nothing will come any more.
    fn settle(&mut self) {
        let ended = [self.stdout.is_none(), self.stderr.is_none()];
        let no_input = self.input.is_none();
        self.attachments.retain(|_, attachment| {
            for (stream, ended) in [Stream::Stdout, Stream::Stderr].into_iter().zip(ended) {
                let ended = ended || attachment.leaves;
                let sink = attachment.sink(stream);
                if ended && sink.as_ref().is_some_and(|sink| sink.waiting.is_empty()) {
                    *sink = None;
                }
            }
            if no_input {
                attachment.stdin = None;
            }
            !attachment.is_over()
        });
    }
}

fn output(fd: OwnedFd) -> io::Result<Output> {
    set_nonblocking(fd.as_fd())?;
    Ok(Output { file: File::from(fd), line: Line::default() })
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
