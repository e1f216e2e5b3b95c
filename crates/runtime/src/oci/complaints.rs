//! Why libcontainer failed.
//!
//! The error it returns from the depths of a container's set-up is only "failed to prepare rootfs"
//! and the like; the cause is in what it logs, in processes that it forked. A file in memory, shared
//! by all of them, collects that.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// What is told of the log, in bytes.
const MAX: usize = 4 << 10;

/// Collects errors that are logged in this process and those it forks from now on.
pub struct Complaints {
    file: File,
}

impl Complaints {
    /// To be called once in a process that ends when the work is done.
    pub fn collect() -> io::Result<Complaints> {
        let file = File::from(memfd_create(c"complaints", MFdFlags::MFD_CLOEXEC)?);
        let recorder = Recorder { file: file.try_clone()? };
        tracing::subscriber::set_global_default(recorder).map_err(io::Error::other)?;
        Ok(Complaints { file })
    }

    /// The first, which is the innermost: callers log after those whom they called.
    pub fn first(&self) -> Option<String> {
        let mut bytes = [0; MAX];
        let count = self.file.read_at(&mut bytes, 0).ok()?;
        let text = String::from_utf8_lossy(&bytes[..count]);
        text.lines().next().map(str::to_owned)
    }
}

struct Recorder {
    file: File,
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR && metadata.is_event()
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}\n", line.message, line.fields);
        // One write, since several processes share the file. There is nowhere else to tell.
        let _lost = (&self.file).write_all(text.as_bytes());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}").replace('\n', " ");
        if field.name() == "message" {
            self.message = value;
        } else {
            write!(self.fields, ", {}: {value}", field.name()).expect("writing to a string does not fail");
        }
    }
}
