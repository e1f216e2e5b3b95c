//! What the whole machine uses, from `/proc`.

use std::path::Path;

use jiff::Timestamp;
use sampan_client::node_usage::{FileSystem, Machine, MachineMemory};

/// The kernel's unit of CPU times: `USER_HZ`, which is the same everywhere.
const TICK_NS: u64 = 10_000_000;

/// The machine, with the file system of `data_dir`, and when it was started.
pub fn read(data_dir: &Path) -> (Machine, Timestamp) {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = text("/proc/stat");
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let machine = Machine {
        cores: u32::try_from(cores).unwrap_or(u32::MAX),
        cpu_ns: busy_ns(&stat),
        memory: memory(&text("/proc/meminfo"), &text("/proc/vmstat")),
        file_system: file_system(data_dir),
    };
    (machine, booted_at(&stat))
}

/// The first line of `/proc/stat`: user, nice, system, idle, waiting, interrupts twice, and what other
/// machines took. Guests are part of user.
fn busy_ns(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at));
    busy.sum::<u64>().saturating_mul(TICK_NS)
}

fn booted_at(stat: &str) -> Timestamp {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    let seconds = line.and_then(|text| text.trim().parse().ok());
    seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn memory(meminfo: &str, vmstat: &str) -> MachineMemory {
    let kilobytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok());
        number.unwrap_or(0).saturating_mul(1024)
    };
    let count = |name: &str| {
        let line = vmstat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    let total = kilobytes("MemTotal");
    let usage = total.saturating_sub(kilobytes("MemFree"));
    let swap_total = kilobytes("SwapTotal");
    MachineMemory {
        total,
        usage,
        working_set: usage.saturating_sub(kilobytes("Inactive(file)")),
        rss: kilobytes("AnonPages"),
        page_faults: count("pgfault"),
        major_page_faults: count("pgmajfault"),
        swap_total,
        swap_usage: swap_total.saturating_sub(kilobytes("SwapFree")),
    }
}

fn file_system(path: &Path) -> FileSystem {
    let Ok(found) = nix::sys::statvfs::statvfs(path) else { return FileSystem::default() };
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    FileSystem {
        capacity: bytes(found.blocks()),
        available: bytes(found.blocks_available()),
        used: bytes(found.blocks().saturating_sub(found.blocks_free())),
        inodes: found.files(),
        inodes_free: found.files_free(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        let stat = "cpu  100 20 30 9999 400 5 6 7 50 0\ncpu0 1 2 3\nbtime 1700000000\n";
        assert_eq!(busy_ns(stat), 161 * TICK_NS);
        assert_eq!(booted_at(stat).as_second(), 1_700_000_000);
        assert_eq!((busy_ns(""), booted_at("")), (0, Timestamp::UNIX_EPOCH));
        let meminfo = "MemTotal:  1000 kB\nMemFree:  300 kB\nInactive:  500 kB\nInactive(file):  200 kB\n\
                       AnonPages:  50 kB\nSwapTotal: 10 kB\nSwapFree: 4 kB\n";
        let expected = MachineMemory {
            total: 1000 << 10,
            usage: 700 << 10,
            working_set: 500 << 10,
            rss: 50 << 10,
            page_faults: 12,
            major_page_faults: 3,
            swap_total: 10 << 10,
            swap_usage: 6 << 10,
        };
        assert_eq!(memory(meminfo, "pgfault 12\npgmajfault 3\n"), expected);
        assert_eq!(memory("", ""), MachineMemory::default());
    }
}
