//! The process itself, from `/proc/self`: under the names of every Prometheus client.

use std::fs;

use sampan_base::metrics::{Exposition, Kind};

/// Clock ticks per second in `/proc`: fixed by the kernel's interface to user space on Linux.
const TICKS: f64 = 100.0;

pub fn collect(out: &mut Exposition) {
    let stat = stat();
    write_start(out, stat.as_ref());
    let mut write = |name, help, kind, value| write(out, name, help, kind, value);
    let (counter, gauge) = (Kind::Counter, Kind::Gauge);
    let cpu = stat.as_ref().map(|stat| stat.cpu_seconds);
    write("process_cpu_seconds_total", "Processor time that was used, in seconds.", counter, cpu);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = kilobytes(&status, "VmRSS:");
    write("process_resident_memory_bytes", "Resident memory, in bytes.", gauge, resident);
    let virtual_bytes = kilobytes(&status, "VmSize:");
    write("process_virtual_memory_bytes", "Virtual memory, in bytes.", gauge, virtual_bytes);
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    write("process_open_fds", "Open file descriptors.", gauge, open);
    let limits = fs::read_to_string("/proc/self/limits").ok();
    write("process_max_fds", "The most file descriptors.", gauge, limits.and_then(|text| max_files(&text)));
    let threads = fs::read_dir("/proc/self/task").ok().map(|entries| entries.count() as f64);
    write("process_threads", "Threads of the process.", gauge, threads);
}

/// Only when the process began, which tells a scrape that its counters are new.
pub fn collect_start(out: &mut Exposition) {
    write_start(out, stat().as_ref());
}

fn write_start(out: &mut Exposition, stat: Option<&Stat>) {
    let started = stat.and_then(|stat| Some(boot_time()? + stat.started_seconds));
    let help = "When the process began, in seconds since 1970.";
    write(out, "process_start_time_seconds", help, Kind::Gauge, started);
}

fn write(out: &mut Exposition, name: &str, help: &str, kind: Kind, value: Option<f64>) {
    if let Some(value) = value {
        out.family(name, help, kind);
        out.sample(&[], value);
    }
}

struct Stat {
    cpu_seconds: f64,
    /// Since boot.
    started_seconds: f64,
}

impl Stat {
    /// Reads `/proc/<pid>/stat`. The second field is the program's name in parentheses, and may hold
    /// anything; numbering is that of proc(5).
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Stat { cpu_seconds: (field(14)? + field(15)?) / TICKS, started_seconds: field(22)? / TICKS })
    }
}

fn stat() -> Option<Stat> {
    fs::read_to_string("/proc/self/stat").ok().and_then(|text| Stat::parse(&text))
}

/// A line of `/proc/<pid>/status` that is in kilobytes, in bytes.
fn kilobytes(status: &str, name: &str) -> Option<f64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}

fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn max_files(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_may_hold_anything() {
        let rest = " S 1 1 1 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 12345 8192 3 18446744073709551615";
        let stat = Stat::parse(&format!("7 (a) b (c){rest}")).expect("parses");
        assert_eq!((stat.cpu_seconds, stat.started_seconds), (3.0, 123.45));
        assert_eq!(kilobytes("VmSize:\t  8 kB\nVmRSS:\t 3 kB\n", "VmRSS:"), Some(3072.0));
        assert!(Stat::parse("7 (a").is_none());
    }

    #[test]
    fn limits_are_read_by_name() {
        let text = "Limit   Soft Limit  Hard Limit  Units\nMax open files  1024  4096  files\n";
        assert_eq!(max_files(text), Some(1024.0));
    }
}
