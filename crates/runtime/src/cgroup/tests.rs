use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxPids};

use super::hierarchy::parse_hierarchies;
use super::*;

const HYBRID: &str = "\
24 1 0:20 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
25 24 0:21 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
26 24 0:22 / /sys/fs/cgroup/cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpuacct
27 24 0:23 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
28 24 0:21 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
broken line";

#[test]
fn hierarchies_are_found_once_each() {
    let found = parse_hierarchies(HYBRID);
    let mounts: Vec<_> = found.iter().map(|h| (h.mount.to_str().expect("text"), h.unified)).collect();
    let wanted =
        [("/sys/fs/cgroup/cpu", false), ("/sys/fs/cgroup/cpuacct", false), ("/sys/fs/cgroup/unified", true)];
    assert_eq!(mounts, wanted);
    assert!(found[1].controllers.iter().any(|name| name == "cpuacct"));
}

#[test]
fn dangerous_paths_are_refused() {
    for path in ["", "/", "relative", "/../x", "/a/../..", "."] {
        assert!(Cgroup::new(Path::new(path)).is_err(), "{path}");
    }
}

#[test]
fn limits_are_written_in_the_version_s_own_way() {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(Some(1024)).set_quota(Some(50_000)).set_period(Some(100_000));
    let mut memory = LinuxMemory::default();
    memory.set_limit(Some(-1));
    let mut pids = LinuxPids::default();
    pids.set_limit(7);
    let mut resources = LinuxResources::default();
    resources.set_cpu(Some(cpu)).set_memory(Some(memory)).set_pids(Some(pids)).set_devices(None);
    let flat = |unified: bool| -> Vec<String> {
        let all = settings(&resources, |_| unified);
        all.into_iter().map(|Setting { file, value, .. }| format!("{file}={value}")).collect()
    };
    let v1 = [
        "cpu.shares=1024",
        "cpu.cfs_period_us=100000",
        "cpu.cfs_quota_us=50000",
        "memory.limit_in_bytes=-1",
        "pids.max=7",
    ];
    assert_eq!(flat(false), v1);
    assert_eq!(flat(true), ["cpu.weight=39", "cpu.max=50000 100000", "memory.max=max", "pids.max=7"]);
}

#[test]
fn keys_are_matched_whole() {
    let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
    assert_eq!(keyed(text, "oom_kill"), Some(3));
    assert_eq!(keyed(text, "oom"), None);
}
