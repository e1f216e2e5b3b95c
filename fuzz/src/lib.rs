//! Fuzz targets: everything in Sampan that reads bytes from outside, each as a function of bytes.
//!
//! A target holds what it decodes against an invariant where there is one (what was written is read
//! again, two ways agree, doing it twice is doing it once), and [`check`] holds every target against a
//! limit of time and memory. `cargo xtask fuzz` lets libFuzzer look for inputs; `tests/replay.rs` runs
//! the committed ones (`corpus/<target>/`: small seeds of ours, and every input that once was a finding)
//! with the ordinary tests.

use nix::time::{ClockId, clock_gettime};

mod allocation;
mod input;
mod session;
pub mod targets;

pub use targets::TARGETS;

/// Runs over bytes, and panics when something does not hold that must.
pub type Target = fn(&[u8]);

/// The most bytes that a target may hold at once for an input of `length` bytes.
fn memory_limit(length: usize) -> usize {
    (64 << 20) + 4096 * length
}

/// The most processor time that one input may take. Code that is not optimised is given more.
const LIMIT_MS: i64 = if cfg!(feature = "libfuzzer") { 1_000 } else { 10_000 };

/// Runs a target within its limits. What is set up once must not count: see [`Target`]s' `OnceLock`s.
pub fn check(target: Target, data: &[u8]) {
    let (started, before) = (processor_ms(), allocation::start());
    target(data);
    let (held, took) = (allocation::peak_since(before), processor_ms() - started);
    let limit = memory_limit(data.len());
    assert!(held <= limit, "{held} bytes were held for {} bytes of input; the limit is {limit}", data.len());
    assert!(took <= LIMIT_MS, "{took} ms were taken by {} bytes of input", data.len());
}

/// The processor time of this thread.
fn processor_ms() -> i64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has a clock");
    time.tv_sec() * 1000 + time.tv_nsec() / 1_000_000
}

/// Runs the target of a name, within its limits.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name).expect("a target in the table").1;
    check(target, data);
}
