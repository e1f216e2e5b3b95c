//! Cgroups: where pods and containers are, and which limits they have.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use oci_spec::runtime::{
    LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxPids, LinuxResources,
};

use crate::amounts::{Amounts, QosClass};

/// The kernel's scheduling period, microseconds.
const PERIOD_US: u64 = 100_000;
/// The smallest weight that cgroup v1 takes, and what a container without a request gets.
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

/// CPU weight (cgroup v1 shares) of a request.
pub fn shares(millis: i64) -> u64 {
    let millis = u64::try_from(millis).unwrap_or(0);
    (millis * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES)
}

/// CPU time per period, microseconds; the kernel takes no less than a millisecond.
pub fn quota(millis: i64) -> i64 {
    (millis * PERIOD_US as i64 / 1000).max(1000)
}

/// `/sampan/kubepods/<class>/pod<uid>`; a guaranteed pod is directly below `kubepods`.
pub fn pod_path(root: &Path, pod: &Pod) -> PathBuf {
    let kubepods = root.join("kubepods");
    let parent = match QosClass::of(crate::pod::spec(pod)) {
        QosClass::Guaranteed => kubepods,
        QosClass::Burstable => kubepods.join("burstable"),
        QosClass::BestEffort => kubepods.join("besteffort"),
    };
    parent.join(format!("pod{}", crate::pod::uid(pod)))
}

/// The limits of the whole pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodLimits {
    /// cgroup v1 shares.
    pub cpu_shares: u64,
    /// Microseconds per [`PodLimits::cpu_period_us`].
    pub cpu_quota_us: Option<i64>,
    pub cpu_period_us: u64,
    pub memory_bytes: Option<i64>,
    pub pids: Option<i64>,
}

impl PodLimits {
    /// `pids` of 0 is no limit.
    pub fn of(pod: &Pod, pids: i64) -> Self {
        let amounts = Amounts::of_pod(crate::pod::spec(pod));
        PodLimits {
            cpu_shares: shares(amounts.cpu_request_millis.unwrap_or(0)),
            cpu_quota_us: amounts.cpu_limit_millis.filter(|millis| *millis > 0).map(quota),
            cpu_period_us: PERIOD_US,
            memory_bytes: amounts.memory_limit.filter(|bytes| *bytes > 0),
            pids: (pids > 0).then_some(pids),
        }
    }

    /// The greater of each; no limit is more than any.
    pub fn max(self, other: PodLimits) -> PodLimits {
        let greater = |a: Option<i64>, b: Option<i64>| a.zip(b).map(|(a, b)| a.max(b));
        PodLimits {
            cpu_shares: self.cpu_shares.max(other.cpu_shares),
            cpu_quota_us: greater(self.cpu_quota_us, other.cpu_quota_us),
            cpu_period_us: self.cpu_period_us,
            memory_bytes: greater(self.memory_bytes, other.memory_bytes),
            pids: greater(self.pids, other.pids),
        }
    }

    /// The files to write, as (controller of cgroup v1, file, value).
    pub fn files_v1(&self) -> Vec<(&'static str, &'static str, String)> {
        let mut files = vec![("cpu", "cpu.shares", self.cpu_shares.to_string())];
        if let Some(quota) = self.cpu_quota_us {
            files.push(("cpu", "cpu.cfs_period_us", self.cpu_period_us.to_string()));
            files.push(("cpu", "cpu.cfs_quota_us", quota.to_string()));
        }
        if let Some(bytes) = self.memory_bytes {
            files.push(("memory", "memory.limit_in_bytes", bytes.to_string()));
        }
        if let Some(pids) = self.pids {
            files.push(("pids", "pids.max", pids.to_string()));
        }
        files
    }

    /// The files to write, as (file, value).
    pub fn files_v2(&self) -> Vec<(&'static str, String)> {
        // The kernel's own mapping of the two ranges, as the OCI runtimes have it.
        let weight = 1 + (self.cpu_shares - MIN_SHARES) * 9999 / (MAX_SHARES - MIN_SHARES);
        let mut files = vec![("cpu.weight", weight.to_string())];
        if let Some(quota) = self.cpu_quota_us {
            files.push(("cpu.max", format!("{quota} {}", self.cpu_period_us)));
        }
        if let Some(bytes) = self.memory_bytes {
            files.push(("memory.max", bytes.to_string()));
        }
        if let Some(pids) = self.pids {
            files.push(("pids.max", pids.to_string()));
        }
        files
    }
}

/// `oom_score_adj` of a container's processes: the more a container exceeds its request, the
/// earlier the kernel takes it.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: i64) -> i32 {
    let critical = crate::pod::spec(pod).priority.unwrap_or(0) >= 2_000_000_000;
    match QosClass::of(crate::pod::spec(pod)) {
        _ if critical => -997,
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = Amounts::of(container.resources.as_ref()).memory_request.unwrap_or(0);
            let used = i128::from(request) * 1000 / i128::from(memory_capacity.max(1));
            let score = i32::try_from(1000 - used).unwrap_or(0);
            // Between the guaranteed and the best-effort pods.
            score.clamp(3, 999)
        }
    }
}

/// The limits of one container.
pub fn resources(container: &Container, privileged: bool) -> LinuxResources {
    let mut resources = compute(container);
    resources.set_devices(Some(devices(privileged)));
    resources
}

/// CPU and memory of one container: what can change while it runs.
pub fn compute(container: &Container) -> LinuxResources {
    let amounts = Amounts::of(container.resources.as_ref());
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(Some(shares(amounts.cpu_request_millis.unwrap_or(0))));
    if let Some(millis) = amounts.cpu_limit_millis.filter(|millis| *millis > 0) {
        cpu.set_quota(Some(quota(millis))).set_period(Some(PERIOD_US));
    }
    let mut resources = LinuxResources::default();
    resources.set_cpu(Some(cpu));
    if let Some(bytes) = amounts.memory_limit.filter(|bytes| *bytes > 0) {
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(bytes));
        resources.set_memory(Some(memory));
    }
    resources
}

/// The limits of one container, with a bound on the number of its processes.
pub fn with_pids(mut resources: LinuxResources, limit: i64) -> LinuxResources {
    if limit > 0 {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    resources
}

/// Which devices may be opened. Making device nodes is always allowed, since it gives no access.
fn devices(privileged: bool) -> Vec<LinuxDeviceCgroup> {
    let rule = |allow: bool, typ: LinuxDeviceType, major: Option<i64>, minor: Option<i64>, access: &str| {
        let mut device = LinuxDeviceCgroup::default();
        device
            .set_allow(allow)
            .set_typ(Some(typ))
            .set_major(major)
            .set_minor(minor)
            .set_access(Some(access.to_owned()));
        device
    };
    if privileged {
        return vec![rule(true, LinuxDeviceType::A, None, None, "rwm")];
    }
    let mut rules = vec![
        rule(false, LinuxDeviceType::A, None, None, "rwm"),
        rule(true, LinuxDeviceType::C, None, None, "m"),
        rule(true, LinuxDeviceType::B, None, None, "m"),
    ];
    // null, zero, full, random, urandom, tty, console, ptmx, pseudo-terminals
    let nodes = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    rules.extend(nodes.map(|(major, minor)| rule(true, LinuxDeviceType::C, Some(major), Some(minor), "rwm")));
    rules.push(rule(true, LinuxDeviceType::C, Some(136), None, "rwm"));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"uid": "u"}, "spec": json})).expect("a pod")
    }

    #[test]
    fn requests_become_weights_and_limits_quotas() {
        for (millis, expected) in
            [(0, 2), (1, 2), (100, 102), (1000, 1024), (2500, 2560), (1_000_000, 262_144)]
        {
            assert_eq!(shares(millis), expected, "{millis}");
        }
        for (millis, expected) in [(1, 1000), (10, 1000), (500, 50_000), (2000, 200_000)] {
            assert_eq!(quota(millis), expected, "{millis}");
        }
    }

    #[test]
    fn a_pods_limits_are_files() {
        let container =
            serde_json::json!({"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Mi"}}});
        let pod = pod(serde_json::json!({"containers": [container]}));
        assert_eq!(pod_path(Path::new("/sampan"), &pod), Path::new("/sampan/kubepods/podu"));
        let limits = PodLimits::of(&pod, 100);
        let v1: Vec<String> =
            limits.files_v1().iter().map(|(_, file, value)| format!("{file}={value}")).collect();
        assert_eq!(
            v1,
            [
                "cpu.shares=1024",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=100000",
                "memory.limit_in_bytes=1048576",
                "pids.max=100"
            ]
        );
        let v2: Vec<String> =
            limits.files_v2().iter().map(|(file, value)| format!("{file}={value}")).collect();
        assert_eq!(v2, ["cpu.weight=39", "cpu.max=100000 100000", "memory.max=1048576", "pids.max=100"]);
    }

    #[test]
    fn who_is_killed_first() {
        let check = |resources: serde_json::Value, expected: i32| {
            let container = serde_json::json!({"name": "c", "resources": resources});
            let pod = pod(serde_json::json!({"containers": [container]}));
            let container = &pod.spec.as_ref().expect("a spec").containers[0];
            assert_eq!(oom_score_adj(&pod, container, 1 << 30), expected, "{resources}");
        };
        check(serde_json::json!({}), 1000);
        check(serde_json::json!({"limits": {"cpu": "1", "memory": "1Gi"}}), -997);
        check(serde_json::json!({"requests": {"memory": "512Mi"}}), 500);
        check(serde_json::json!({"requests": {"memory": "2Gi"}}), 3);
        check(serde_json::json!({"requests": {"cpu": "1"}}), 999);
    }
}
