//! What a cgroup uses, in every version's own files.

use std::io;
use std::path::Path;

use super::{Cgroup, keyed, read_keyed, read_number};

/// What the processes of a cgroup and below it use. What the kernel does not count is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu: CpuUsage,
    pub memory: MemoryUsage,
    /// Processes and threads.
    pub pids: u64,
}

/// Times are nanoseconds of all CPUs since the cgroup was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuUsage {
    pub total_ns: u64,
    pub user_ns: u64,
    pub system_ns: u64,
    /// Periods in which there was something to do, those in which time ran out, and how long it did.
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_ns: u64,
    /// Time in each period, and the period, microseconds; `None` without a limit.
    pub quota_us: Option<(u64, u64)>,
}

/// Bytes, where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Page cache included.
    pub usage: u64,
    /// Usage less the page cache that can go at any time (`inactive_file`).
    pub working_set: u64,
    /// Anonymous memory.
    pub rss: u64,
    pub cache: u64,
    pub swap: u64,
    /// `None` without a limit.
    pub limit: Option<u64>,
    pub page_faults: u64,
    pub major_page_faults: u64,
    /// How often the limit was met.
    pub failures: u64,
}

/// What the cgroup at a path (as in `linux.cgroupsPath`) uses. Fails with `NotFound` where there is none.
pub fn usage(path: &Path) -> io::Result<Usage> {
    let cgroup = Cgroup::new(path)?;
    if !cgroup.exists() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no cgroup {}", path.display())));
    }
    Ok(cgroup.usage())
}

/// The kernel's unit of times that it does not count exactly: `USER_HZ`, which is the same everywhere.
const TICK_NS: u64 = 10_000_000;
/// The kernel writes "no limit" of version 1 as the largest number of whole pages.
const UNLIMITED: u64 = 1 << 62;

struct MemoryNames {
    usage: &'static str,
    limit: &'static str,
    inactive_file: &'static str,
    rss: &'static str,
    cache: &'static str,
    page_faults: &'static str,
    major_page_faults: &'static str,
}

const MEMORY_V1: MemoryNames = MemoryNames {
    usage: "memory.usage_in_bytes",
    limit: "memory.limit_in_bytes",
    inactive_file: "total_inactive_file",
    rss: "total_rss",
    cache: "total_cache",
    page_faults: "total_pgfault",
    major_page_faults: "total_pgmajfault",
};

const MEMORY_V2: MemoryNames = MemoryNames {
    usage: "memory.current",
    limit: "memory.max",
    inactive_file: "inactive_file",
    rss: "anon",
    cache: "file",
    page_faults: "pgfault",
    major_page_faults: "pgmajfault",
};

impl Cgroup {
    fn exists(&self) -> bool {
        self.controller("memory").or(self.controller("cpuacct")).is_some_and(|(dir, _)| dir.exists())
    }

    /// What is used now.
    pub fn usage(&self) -> Usage {
        let pids = self.controller("pids").and_then(|(dir, _)| read_number(&dir.join("pids.current")));
        Usage { cpu: self.cpu(), memory: self.memory(), pids: pids.unwrap_or(0) }
    }

    fn cpu(&self) -> CpuUsage {
        let mut usage = CpuUsage::default();
        let text = |controller: &str, file: &str| {
            let dir = self.controller(controller).map(|(dir, _)| dir.join(file));
            dir.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
        };
        let stat = text("cpu", "cpu.stat");
        let of = |key: &str| keyed(&stat, key).unwrap_or(0);
        (usage.periods, usage.throttled_periods) = (of("nr_periods"), of("nr_throttled"));
        match self.controller("cpuacct") {
            Some((_, true)) => {
                let ns = |key: &str| of(key).saturating_mul(1000);
                (usage.total_ns, usage.user_ns) = (ns("usage_usec"), ns("user_usec"));
                (usage.system_ns, usage.throttled_ns) = (ns("system_usec"), ns("throttled_usec"));
                let limit = text("cpu", "cpu.max");
                let mut words = limit.split_ascii_whitespace().map(|word| word.parse().ok());
                usage.quota_us = words.next().flatten().zip(words.next().flatten());
            }
            Some((dir, false)) => {
                let ticks = |key: &str| {
                    read_keyed(&dir.join("cpuacct.stat"), key).unwrap_or(0).saturating_mul(TICK_NS)
                };
                usage.total_ns = read_number(&dir.join("cpuacct.usage")).unwrap_or(0);
                (usage.user_ns, usage.system_ns) = (ticks("user"), ticks("system"));
                usage.throttled_ns = of("throttled_time");
                let number = |file: &str| text("cpu", file).trim().parse().ok();
                // Without a limit it is -1, which is no such number.
                usage.quota_us = number("cpu.cfs_quota_us").zip(number("cpu.cfs_period_us"));
            }
            None => {}
        }
        usage
    }

    fn memory(&self) -> MemoryUsage {
        let Some((dir, unified)) = self.controller("memory") else { return MemoryUsage::default() };
        let names = if unified { &MEMORY_V2 } else { &MEMORY_V1 };
        let number = |file: &str| read_number(&dir.join(file));
        let text = std::fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
        let of = |key: &str| keyed(&text, key).unwrap_or(0);
        let usage = number(names.usage).unwrap_or(0);
        let (swap, failures) = match unified {
            true => (number("memory.swap.current"), read_keyed(&dir.join("memory.events"), "max")),
            false => (keyed(&text, "total_swap"), number("memory.failcnt")),
        };
        MemoryUsage {
            usage,
            working_set: usage.saturating_sub(of(names.inactive_file)),
            rss: of(names.rss),
            cache: of(names.cache),
            swap: swap.unwrap_or(0),
            limit: number(names.limit).filter(|&limit| limit < UNLIMITED),
            page_faults: of(names.page_faults),
            major_page_faults: of(names.major_page_faults),
            failures: failures.unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hierarchy::Hierarchy;
    use super::*;

    /// A cgroup of fake files.
    fn cgroup(root: &Path, hierarchies: &[(&[&str], bool)], files: &[(&str, &str)]) -> Cgroup {
        let hierarchies: Vec<Hierarchy> = hierarchies
            .iter()
            .map(|(controllers, unified)| Hierarchy {
                mount: root.join(controllers.first().unwrap_or(&"unified")),
                controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
                unified: *unified,
            })
            .collect();
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        Cgroup::below(&hierarchies, Path::new("pod"))
    }

    #[test]
    fn both_versions_say_the_same() {
        let expected = Usage {
            cpu: CpuUsage {
                total_ns: 5_000_000,
                user_ns: 3_000_000_000,
                system_ns: 2_000_000_000,
                periods: 10,
                throttled_periods: 2,
                throttled_ns: 7000,
                quota_us: Some((50_000, 100_000)),
            },
            memory: MemoryUsage {
                usage: 9000,
                working_set: 8000,
                rss: 4000,
                cache: 3000,
                swap: 2000,
                limit: Some(1 << 20),
                page_faults: 6,
                major_page_faults: 1,
                failures: 8,
            },
            pids: 3,
        };
        let one = tempfile::tempdir().expect("a directory");
        let files = [
            ("cpu/pod/cpu.stat", "nr_periods 10\nnr_throttled 2\nthrottled_time 7000\n"),
            ("cpu/pod/cpu.cfs_quota_us", "50000\n"),
            ("cpu/pod/cpu.cfs_period_us", "100000\n"),
            ("cpu/pod/cpuacct.usage", "5000000\n"),
            ("cpu/pod/cpuacct.stat", "user 300\nsystem 200\n"),
            ("memory/pod/memory.usage_in_bytes", "9000\n"),
            ("memory/pod/memory.limit_in_bytes", "1048576\n"),
            ("memory/pod/memory.failcnt", "8\n"),
            (
                "memory/pod/memory.stat",
                "cache 1\nrss 1\ntotal_cache 3000\ntotal_rss 4000\ntotal_swap 2000\ntotal_inactive_file 1000\n\
                 total_pgfault 6\ntotal_pgmajfault 1\n",
            ),
            ("pids/pod/pids.current", "3\n"),
        ];
        let hierarchies: [(&[&str], bool); 3] =
            [(&["cpu", "cpuacct"], false), (&["memory"], false), (&["pids"], false)];
        assert_eq!(cgroup(one.path(), &hierarchies, &files).usage(), expected);
        let two = tempfile::tempdir().expect("a directory");
        let files = [
            (
                "unified/pod/cpu.stat",
                "usage_usec 5000\nuser_usec 3000000\nsystem_usec 2000000\nnr_periods 10\nnr_throttled 2\n\
                 throttled_usec 7\n",
            ),
            ("unified/pod/cpu.max", "50000 100000\n"),
            ("unified/pod/memory.current", "9000\n"),
            ("unified/pod/memory.max", "1048576\n"),
            ("unified/pod/memory.swap.current", "2000\n"),
            ("unified/pod/memory.events", "low 0\nhigh 0\nmax 8\noom 0\n"),
            (
                "unified/pod/memory.stat",
                "anon 4000\nfile 3000\ninactive_file 1000\npgfault 6\npgmajfault 1\n",
            ),
            ("unified/pod/pids.current", "3\n"),
        ];
        assert_eq!(cgroup(two.path(), &[(&[], true)], &files).usage(), expected);
    }

    #[test]
    fn without_limits_there_are_none() {
        let one = tempfile::tempdir().expect("a directory");
        let files = [
            ("cpu/pod/cpu.cfs_quota_us", "-1\n"),
            ("cpu/pod/cpu.cfs_period_us", "100000\n"),
            ("memory/pod/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        let hierarchies: [(&[&str], bool); 2] = [(&["cpu", "cpuacct"], false), (&["memory"], false)];
        let usage = cgroup(one.path(), &hierarchies, &files).usage();
        assert_eq!((usage.cpu.quota_us, usage.memory.limit), (None, None));
        let two = tempfile::tempdir().expect("a directory");
        let files = [("unified/pod/cpu.max", "max 100000\n"), ("unified/pod/memory.max", "max\n")];
        let usage = cgroup(two.path(), &[(&[], true)], &files).usage();
        assert_eq!((usage.cpu.quota_us, usage.memory.limit), (None, None));
    }
}
