//! From a layer's blob to its tar stream: decompression, counting, hashing.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use crate::limits::{LimitExceeded, Limits};

/// What has passed so far, and the first limit that was exceeded. Shared by both ends of the
/// decompressor and the unpacker.
pub(super) struct Meter {
    limits: Limits,
    /// Bytes taken from the blob.
    input: Cell<u64>,
    /// Bytes given to the tar reader.
    output: Cell<u64>,
    /// Bytes of files written, holes included.
    written: Cell<u64>,
    /// Bytes that the tar reader may still take before it must show the next entry.
    allowance: Cell<u64>,
    breach: Cell<Option<LimitExceeded>>,
}

impl Meter {
    pub(super) fn new(limits: &Limits) -> Rc<Self> {
        Rc::new(Meter {
            limits: limits.clone(),
            input: Cell::new(0),
            output: Cell::new(0),
            written: Cell::new(0),
            allowance: Cell::new(limits.max_header_bytes),
            breach: Cell::new(None),
        })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn breach(&self) -> Option<LimitExceeded> {
        self.breach.get()
    }

    pub(super) fn written(&self) -> u64 {
        self.written.get()
    }

    /// The tar reader holds names and attributes in memory: it may read the entry that it has just
    /// shown, and this much more, before it shows another.
    pub(super) fn allow_entry(&self, size: u64) {
        self.allowance.set(size.saturating_add(512 + self.limits.max_header_bytes));
    }

    pub(super) fn allow_rest(&self) {
        self.allowance.set(u64::MAX);
    }

    /// Refuses a file whose declared size alone is too much, before anything is written.
    pub(super) fn declare(&self, bytes: u64) -> Result<(), LimitExceeded> {
        let max = self.limits.max_layer_bytes;
        if self.written.get().saturating_add(bytes) > max {
            return Err(LimitExceeded::LayerBytes(max));
        }
        Ok(())
    }

    /// Counts a file's bytes as they are written.
    pub(super) fn write(&self, bytes: u64) -> io::Result<()> {
        self.written.set(self.written.get().saturating_add(bytes));
        self.check(self.written.get(), self.limits.max_layer_bytes)
    }

    fn read(&self, bytes: u64) -> io::Result<()> {
        let Some(left) = self.allowance.get().checked_sub(bytes) else {
            return self.stop(LimitExceeded::HeaderBytes(self.limits.max_header_bytes));
        };
        self.allowance.set(left);
        self.output.set(self.output.get() + bytes);
        // Headers and padding come on top of the files' bytes.
        let headers = self.limits.max_entries.saturating_mul(1024);
        self.check(self.output.get(), self.limits.max_layer_bytes.saturating_add(headers))
    }

    fn check(&self, total: u64, max: u64) -> io::Result<()> {
        if total > max {
            return self.stop(LimitExceeded::LayerBytes(self.limits.max_layer_bytes));
        }
        let plausible = self.input.get().saturating_mul(self.limits.max_ratio);
        if total > plausible.saturating_add(self.limits.ratio_slack_bytes) {
            return self.stop(LimitExceeded::Ratio(self.limits.max_ratio));
        }
        Ok(())
    }

    fn stop(&self, breach: LimitExceeded) -> io::Result<()> {
        self.breach.set(Some(breach));
        Err(io::Error::other(breach))
    }
}

/// Counts what is taken from the blob.
pub(super) struct InputCounter<R> {
    inner: R,
    meter: Rc<Meter>,
}

impl<R> InputCounter<R> {
    pub(super) fn new(inner: R, meter: Rc<Meter>) -> Self {
        InputCounter { inner, meter }
    }
}

impl<R: Read> Read for InputCounter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.meter.input.set(self.meter.input.get() + read as u64);
        Ok(read)
    }
}

/// Stops what comes out of the decompressor at the limits.
pub(super) struct Metered<R> {
    inner: R,
    meter: Rc<Meter>,
}

impl<R> Metered<R> {
    pub(super) fn new(inner: R, meter: Rc<Meter>) -> Self {
        Metered { inner, meter }
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.meter.read(read as u64)?;
        Ok(read)
    }
}

/// Undoes gzip or zstd by their magic numbers; anything else passes as it is.
///
/// zstd windows above 128 MiB are refused by the decoder itself.
pub(crate) fn decompress<'a>(input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut input = BufReader::with_capacity(128 * 1024, input);
    let head = input.fill_buf()?;
    if head.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(input)));
    }
    // A zstd frame, or a skippable frame in front of one.
    let is_zstd = head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || (head.len() > 3 && head[0] & 0xf0 == 0x50 && head[1..4] == [0x2a, 0x4d, 0x18]);
    if is_zstd {
        return Ok(Box::new(zstd::stream::read::Decoder::with_buffer(input)?));
    }
    Ok(Box::new(input))
}
