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

#[test]
fn every_limit_has_a_file_in_both_versions() {
    let json = serde_json::json!({
        "cpu": { "shares": 2, "quota": -1, "burst": 7, "idle": 1, "cpus": "0-1", "mems": "0" },
        "memory": { "limit": 100, "swap": 150, "reservation": 50, "swappiness": 10, "disableOOMKiller": true },
        "pids": { "limit": -1 },
        "blockIO": { "weight": 500, "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 9 }] },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 }],
    });
    let resources: LinuxResources = serde_json::from_value(json).expect("are resources");
    let flat = |unified: bool| -> String {
        let all = settings(&resources, |_| unified);
        let lines = all.into_iter().map(|Setting { file, value, .. }| format!("{file}={value}"));
        lines.collect::<Vec<_>>().join(";")
    };
    assert_eq!(
        flat(false),
        "cpu.shares=2;cpu.cfs_quota_us=-1;cpu.cfs_burst_us=7;cpu.idle=1;cpuset.cpus=0-1;cpuset.mems=0;\
         memory.limit_in_bytes=100;memory.memsw.limit_in_bytes=150;memory.soft_limit_in_bytes=50;\
         memory.swappiness=10;memory.oom_control=1;pids.max=max;blkio.weight=500;\
         blkio.throttle.read_bps_device=8:0 9;hugetlb.2MB.limit_in_bytes=4"
    );
    assert_eq!(
        flat(true),
        "cpu.weight=1;cpu.max=max 100000;cpu.max.burst=7;cpu.idle=1;cpuset.cpus=0-1;cpuset.mems=0;\
         memory.max=100;memory.swap.max=50;memory.low=50;pids.max=max;io.weight=4950;io.max=8:0 rbps=9;\
         hugetlb.2MB.max=4"
    );
}
