//! What a machine must be like. Pure: from a snapshot to findings.

use super::snapshot::{Cgroup, FEATURES, NAMESPACES, Snapshot};

/// The controllers that limits need.
pub const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// Below these, a node with its usual 110 pods runs out.
const INOTIFY_INSTANCES: u64 = 512;
const INOTIFY_WATCHES: u64 = 65_536;
const OPEN_FILES: u64 = 65_536;
const DISK_WARN: u64 = 5 << 30;
const DISK_FAIL: u64 = 512 << 20;
const INODES: u64 = 50_000;
const MEMORY: u64 = 256 << 20;
/// 2024-01-01: before it, certificates are not valid yet.
const CLOCK: u64 = 1_704_067_200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    Warn,
    Fail,
}

#[derive(Clone, Debug)]
pub struct Finding {
    pub name: &'static str,
    pub verdict: Verdict,
    pub found: String,
    /// The command that mends it.
    pub fix: Option<String>,
}

fn finding(name: &'static str, verdict: Verdict, found: impl Into<String>, fix: &str) -> Finding {
    let fix = (verdict != Verdict::Ok).then(|| fix.to_owned());
    Finding { name, verdict, found: found.into(), fix }
}

/// Every check, in the order in which a person would mend things.
pub fn all(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = vec![root(snapshot), namespaces(snapshot)];
    findings.extend(FEATURES.iter().map(|(name, module)| feature(snapshot, name, module)));
    findings.extend([
        seccomp(snapshot),
        ip_forward(snapshot),
        cgroups(snapshot),
        limit(
            "inotify instances",
            snapshot.inotify_instances,
            INOTIFY_INSTANCES,
            "fs.inotify.max_user_instances",
        ),
        limit("inotify watches", snapshot.inotify_watches, INOTIFY_WATCHES, "fs.inotify.max_user_watches"),
        open_files(snapshot),
        api_port(snapshot),
        dns_port(snapshot),
        disk(snapshot),
        memory(snapshot),
        clock(snapshot),
    ]);
    findings
}

fn root(snapshot: &Snapshot) -> Finding {
    let (verdict, found) =
        if snapshot.root { (Verdict::Ok, "running as root") } else { (Verdict::Fail, "not running as root") };
    finding("root", verdict, found, "sudo sampan doctor (the server needs root as well)")
}

fn namespaces(snapshot: &Snapshot) -> Finding {
    let missing: Vec<&str> = NAMESPACES
        .into_iter()
        .filter(|name| !snapshot.namespaces.iter().any(|present| present == name))
        .collect();
    if missing.is_empty() {
        return finding("namespaces", Verdict::Ok, format!("kernel {}", snapshot.kernel), "");
    }
    let found = format!("kernel {} lacks: {}", snapshot.kernel, missing.join(", "));
    finding("namespaces", Verdict::Fail, found, "boot a kernel with CONFIG_NAMESPACES and its parts")
}

fn feature(snapshot: &Snapshot, name: &'static str, module: &str) -> Finding {
    let present = snapshot.modules.iter().any(|present| present == module);
    let (verdict, found) =
        if present { (Verdict::Ok, "present") } else { (Verdict::Fail, "the kernel has none") };
    finding(name, verdict, found, &format!("modprobe {module}"))
}

fn seccomp(snapshot: &Snapshot) -> Finding {
    let actions = snapshot.seccomp.as_deref().unwrap_or_default();
    if actions.split(' ').any(|action| action == "errno") {
        finding("seccomp", Verdict::Ok, "filters are available", "")
    } else {
        finding(
            "seccomp",
            Verdict::Fail,
            "the kernel has no filters",
            "boot a kernel with CONFIG_SECCOMP_FILTER",
        )
    }
}

fn ip_forward(snapshot: &Snapshot) -> Finding {
    let fix = "sysctl -w net.ipv4.ip_forward=1";
    match snapshot.ip_forward.as_deref() {
        Some("1") => finding("ip forwarding", Verdict::Ok, "on", ""),
        Some(_) => finding("ip forwarding", Verdict::Warn, "off; the server turns it on", fix),
        None => finding("ip forwarding", Verdict::Fail, "net.ipv4.ip_forward cannot be read", fix),
    }
}

fn cgroups(snapshot: &Snapshot) -> Finding {
    let (layout, present) = match &snapshot.cgroup {
        Cgroup::None => {
            let fix = "mount -t cgroup2 none /sys/fs/cgroup";
            return finding("cgroups", Verdict::Fail, "none is mounted", fix);
        }
        Cgroup::V1 { controllers, hybrid: false } => ("v1", controllers),
        Cgroup::V1 { controllers, hybrid: true } => ("v1 (hybrid)", controllers),
        Cgroup::V2 { controllers } => ("v2", controllers),
    };
    let missing: Vec<&str> =
        CONTROLLERS.into_iter().filter(|name| !present.iter().any(|present| present == name)).collect();
    if missing.is_empty() {
        return finding("cgroups", Verdict::Ok, layout, "");
    }
    let found = format!("{layout} without {}", missing.join(", "));
    finding(
        "cgroups",
        Verdict::Fail,
        found,
        "boot with cgroup_enable=memory, or with systemd.unified_cgroup_hierarchy=1",
    )
}

fn limit(name: &'static str, value: Option<u64>, least: u64, key: &str) -> Finding {
    let fix = format!("sysctl -w {key}={least}");
    match value {
        Some(value) if value >= least => finding(name, Verdict::Ok, value.to_string(), ""),
        Some(value) => {
            let found = format!("{value}; programs fail with \"too many open files\" below {least}");
            finding(name, Verdict::Warn, found, &fix)
        }
        None => finding(
            name,
            Verdict::Fail,
            format!("{key} cannot be read"),
            "boot a kernel with CONFIG_INOTIFY_USER",
        ),
    }
}

fn open_files(snapshot: &Snapshot) -> Finding {
    let fix = format!("ulimit -n {OPEN_FILES}, or LimitNOFILE={OPEN_FILES} in the service's unit");
    match snapshot.open_files {
        Some((_, hard)) if hard >= OPEN_FILES => {
            finding("open files", Verdict::Ok, format!("up to {hard}"), "")
        }
        Some((_, hard)) => finding(
            "open files",
            Verdict::Warn,
            format!("up to {hard}, of {OPEN_FILES} that a full node needs"),
            &fix,
        ),
        None => finding("open files", Verdict::Warn, "the limit cannot be read", &fix),
    }
}

fn api_port(snapshot: &Snapshot) -> Finding {
    let (port, free) = snapshot.api_port;
    if free {
        return finding("api port", Verdict::Ok, format!("{port} is free"), "");
    }
    let found = format!("{port} is in use, by a server that runs already or by something else");
    finding(
        "api port",
        Verdict::Warn,
        found,
        &format!("ss -ltnp 'sport = :{port}' names the process; or sampan server --listen"),
    )
}

fn dns_port(snapshot: &Snapshot) -> Finding {
    if !snapshot.dns_taken {
        return finding("dns port", Verdict::Ok, "53 is free on the cluster's address", "");
    }
    let found = "something serves port 53 on every address, also on the cluster's";
    finding(
        "dns port",
        Verdict::Fail,
        found,
        "ss -lnup 'sport = :53' names it; let it listen on its own addresses only",
    )
}

fn disk(snapshot: &Snapshot) -> Finding {
    let fix = "sampan image prune, or sampan server --data-dir on a larger disk";
    let Some((bytes, inodes)) = snapshot.disk else {
        return finding("disk", Verdict::Warn, "free space cannot be read", fix);
    };
    let found = format!("{} MiB and {inodes} inodes are free", bytes >> 20);
    let verdict = match bytes {
        ..DISK_FAIL => Verdict::Fail,
        DISK_FAIL..DISK_WARN => Verdict::Warn,
        // File systems without inodes of their own tell none.
        _ if inodes > 0 && inodes < INODES => Verdict::Warn,
        _ => Verdict::Ok,
    };
    finding("disk", verdict, found, fix)
}

fn memory(snapshot: &Snapshot) -> Finding {
    let fix = "end other programs, or add memory";
    match snapshot.memory {
        Some(bytes) => {
            let verdict = if bytes < MEMORY { Verdict::Warn } else { Verdict::Ok };
            finding("memory", verdict, format!("{} MiB are available", bytes >> 20), fix)
        }
        None => finding("memory", Verdict::Warn, "available memory cannot be read", fix),
    }
}

fn clock(snapshot: &Snapshot) -> Finding {
    if snapshot.clock >= CLOCK {
        finding("clock", Verdict::Ok, "plausible", "")
    } else {
        finding(
            "clock",
            Verdict::Fail,
            "it is in the past; no certificate would be valid",
            "timedatectl set-ntp true",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{cgroup, serves_everywhere};
    use super::*;

    fn good() -> Snapshot {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Snapshot {
            root: true,
            kernel: "6.12".into(),
            namespaces: texts(&NAMESPACES),
            modules: FEATURES.iter().map(|(_, module)| (*module).to_owned()).collect(),
            seccomp: Some("kill_process errno allow".into()),
            ip_forward: Some("1".into()),
            cgroup: Cgroup::V2 { controllers: texts(&CONTROLLERS) },
            inotify_instances: Some(8192),
            inotify_watches: Some(1 << 20),
            open_files: Some((1024, 1 << 20)),
            api_port: (6443, true),
            dns_taken: false,
            disk: Some((100 << 30, 1 << 20)),
            memory: Some(8 << 30),
            clock: CLOCK + 1,
        }
    }

    #[test]
    fn each_fault_is_found_and_has_a_fix() {
        let check = |spoil: fn(&mut Snapshot), name: &str, verdict: Verdict, fix: &str| {
            let mut snapshot = good();
            spoil(&mut snapshot);
            let findings = all(&snapshot);
            let faults: Vec<_> = findings.iter().filter(|one| one.verdict != Verdict::Ok).collect();
            let [fault] = faults[..] else { panic!("{name}: {faults:?}") };
            assert_eq!((fault.name, fault.verdict), (name, verdict));
            assert!(fault.fix.as_deref().is_some_and(|text| text.contains(fix)), "{fault:?}");
        };
        use Verdict::{Fail, Warn};
        assert!(all(&good()).iter().all(|finding| finding.verdict == Verdict::Ok && finding.fix.is_none()));
        check(|s| s.root = false, "root", Fail, "sudo");
        check(|s| drop(s.namespaces.remove(0)), "namespaces", Fail, "CONFIG_NAMESPACES");
        check(|s| s.modules.retain(|one| one != "veth"), "veth", Fail, "modprobe veth");
        check(|s| s.seccomp = None, "seccomp", Fail, "CONFIG_SECCOMP_FILTER");
        check(|s| s.ip_forward = Some("0".into()), "ip forwarding", Warn, "sysctl -w net.ipv4.ip_forward=1");
        check(|s| s.cgroup = Cgroup::None, "cgroups", Fail, "mount");
        check(|s| s.cgroup = Cgroup::V2 { controllers: vec!["cpu".into()] }, "cgroups", Fail, "boot with");
        check(|s| s.inotify_instances = Some(128), "inotify instances", Warn, "max_user_instances=512");
        check(|s| s.inotify_watches = None, "inotify watches", Fail, "CONFIG_INOTIFY_USER");
        check(|s| s.open_files = Some((1024, 4096)), "open files", Warn, "ulimit -n 65536");
        check(|s| s.api_port.1 = false, "api port", Warn, "6443");
        check(|s| s.dns_taken = true, "dns port", Fail, "ss -lnup");
        check(|s| s.disk = Some((1 << 30, 1 << 20)), "disk", Warn, "prune");
        check(|s| s.disk = Some((1 << 20, 1 << 20)), "disk", Fail, "prune");
        check(|s| s.disk = Some((100 << 30, 10)), "disk", Warn, "prune");
        check(|s| s.memory = Some(1), "memory", Warn, "memory");
        check(|s| s.clock = 0, "clock", Fail, "timedatectl");
    }

    #[test]
    fn sockets_on_every_address_are_found() {
        let check = |local: &str, expected| {
            let table = format!("  sl  local_address rem_address st\n 1: {local} 00000000:0000 0A");
            assert_eq!(serves_everywhere(&table, 53), expected, "{local}");
        };
        check("00000000:0035", true);
        check("00000000000000000000000000000000:0035", true);
        check("3500007F:0035", false);
        check("00000000:0036", false);
    }

    #[test]
    fn layouts_of_cgroups_are_told_apart() {
        let check = |mounts: &str, expected: Cgroup| {
            let read = |path: &str| {
                assert_eq!(path, "/sys/fs/cgroup/cgroup.controllers");
                Some("cpu memory pids".to_owned())
            };
            assert_eq!(cgroup(mounts, read), expected, "{mounts}");
        };
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        check("", Cgroup::None);
        check("proc /proc proc rw 0 0", Cgroup::None);
        let v1 = "c /c/cpu cgroup rw,cpu,cpuacct 0 0\nc /c/memory cgroup rw,memory 0 0\nc /c/pids cgroup rw,pids 0 0";
        check(v1, Cgroup::V1 { controllers: texts(&CONTROLLERS), hybrid: false });
        let hybrid = format!("{v1}\nc /c/unified cgroup2 rw 0 0");
        check(&hybrid, Cgroup::V1 { controllers: texts(&CONTROLLERS), hybrid: true });
        let v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0";
        check(v2, Cgroup::V2 { controllers: texts(&CONTROLLERS) });
        check(
            &format!("c /c/systemd cgroup rw,name=systemd 0 0\n{v2}"),
            Cgroup::V2 { controllers: texts(&CONTROLLERS) },
        );
    }
}
