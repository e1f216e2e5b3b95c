//! Which files get which values, in the terms of version 1 and of version 2.

use std::borrow::Cow;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

/// One value of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The controller of version 1 by its name there, also where version 2 is meant.
    pub controller: &'static str,
    pub file: Cow<'static, str>,
    pub value: String,
}

fn setting(controller: &'static str, file: impl Into<Cow<'static, str>>, value: impl ToString) -> Setting {
    Setting { controller, file: file.into(), value: value.to_string() }
}

/// The limits, in the order of writing. `unified` tells whether a controller is of version 2.
pub fn settings(resources: &LinuxResources, unified: impl Fn(&str) -> bool) -> Vec<Setting> {
    let mut all = Vec::new();
    if let Some(cpu) = resources.cpu() {
        if unified("cpu") {
            cpu_v2(cpu, &mut all)
        } else {
            cpu_v1(cpu, &mut all)
        }
        for (file, value) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            let value = value.as_ref().filter(|value| !value.is_empty());
            all.extend(value.map(|value| setting("cpuset", file, value)));
        }
    }
    if let Some(memory) = resources.memory() {
        if unified("memory") { memory_v2(memory, &mut all) } else { memory_v1(memory, &mut all) }
    }
    if let Some(pids) = resources.pids() {
        let limit = pids.limit();
        let value = if limit > 0 { limit.to_string() } else { "max".to_owned() };
        all.push(setting("pids", "pids.max", value));
    }
    if let Some(io) = resources.block_io() {
        if unified("blkio") { io_v2(io, &mut all) } else { io_v1(io, &mut all) }
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = if unified("hugetlb") { "max" } else { "limit_in_bytes" };
        all.push(setting("hugetlb", format!("hugetlb.{}.{file}", limit.page_size()), limit.limit()));
    }
    all
}

/// What a spec may ask for and nothing here does.
pub fn unsupported(resources: &LinuxResources) -> Option<&'static str> {
    let cpu = resources.cpu().as_ref();
    let realtime = cpu.is_some_and(|cpu| {
        cpu.realtime_runtime().is_some_and(|us| us != 0) || cpu.realtime_period().is_some_and(|us| us != 0)
    });
    let network = resources.network().as_ref().is_some_and(|network| {
        network.class_id().is_some() || network.priorities().as_ref().is_some_and(|all| !all.is_empty())
    });
    let rdma = resources.rdma().as_ref().is_some_and(|rdma| !rdma.is_empty());
    let all = [(realtime, "real-time CPU limits"), (network, "network classes"), (rdma, "RDMA limits")];
    all.into_iter().find(|(asked, _)| *asked).map(|(_, what)| what)
}

fn cpu_v1(cpu: &LinuxCpu, all: &mut Vec<Setting>) {
    all.extend(cpu.shares().filter(|&shares| shares > 0).map(|shares| setting("cpu", "cpu.shares", shares)));
    let period = cpu.period().filter(|&period| period > 0);
    all.extend(period.map(|period| setting("cpu", "cpu.cfs_period_us", period)));
    all.extend(
        cpu.quota().filter(|&quota| quota != 0).map(|quota| setting("cpu", "cpu.cfs_quota_us", quota)),
    );
    all.extend(cpu.burst().map(|burst| setting("cpu", "cpu.cfs_burst_us", burst)));
    all.extend(cpu.idle().map(|idle| setting("cpu", "cpu.idle", idle)));
}

fn cpu_v2(cpu: &LinuxCpu, all: &mut Vec<Setting>) {
    let shares = cpu.shares().filter(|&shares| shares > 0);
    all.extend(shares.map(|shares| setting("cpu", "cpu.weight", cpu_weight(shares))));
    let (quota, period) =
        (cpu.quota().filter(|&quota| quota != 0), cpu.period().filter(|&period| period > 0));
    if quota.is_some() || period.is_some() {
        let quota = quota.filter(|&quota| quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
        all.push(setting("cpu", "cpu.max", format!("{quota} {}", period.unwrap_or(100_000))));
    }
    all.extend(cpu.burst().map(|burst| setting("cpu", "cpu.max.burst", burst)));
    all.extend(cpu.idle().map(|idle| setting("cpu", "cpu.idle", idle)));
}

fn memory_v1(memory: &LinuxMemory, all: &mut Vec<Setting>) {
    let mut add = |file: &'static str, value: Option<i64>| {
        all.extend(value.filter(|&value| value != 0).map(|value| setting("memory", file, value)));
    };
    add("memory.limit_in_bytes", memory.limit());
    add("memory.memsw.limit_in_bytes", memory.swap());
    add("memory.soft_limit_in_bytes", memory.reservation());
    if let Some(swappiness) = memory.swappiness() {
        all.push(setting("memory", "memory.swappiness", swappiness));
    }
    if memory.disable_oom_killer() == Some(true) {
        all.push(setting("memory", "memory.oom_control", 1));
    }
}

fn memory_v2(memory: &LinuxMemory, all: &mut Vec<Setting>) {
    let amount = |bytes: i64| if bytes < 0 { "max".to_owned() } else { bytes.to_string() };
    let given = |value: Option<i64>| value.filter(|&value| value != 0);
    let limit = given(memory.limit());
    if let Some(limit) = limit {
        all.push(setting("memory", "memory.max", amount(limit)));
    }
    if let Some(swap) = given(memory.swap()) {
        // Version 1 and the specification count memory and swap together.
        let alone = if swap < 0 { swap } else { swap.saturating_sub(limit.unwrap_or(0).max(0)).max(0) };
        all.push(setting("memory", "memory.swap.max", amount(alone)));
    }
    if let Some(reservation) = given(memory.reservation()) {
        all.push(setting("memory", "memory.low", amount(reservation)));
    }
}

fn io_v1(io: &LinuxBlockIo, all: &mut Vec<Setting>) {
    all.extend(
        io.weight().filter(|&weight| weight > 0).map(|weight| setting("blkio", "blkio.weight", weight)),
    );
    let mut throttle = |file: &'static str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for device in devices.iter().flatten() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            all.push(setting("blkio", file, value));
        }
    };
    throttle("blkio.throttle.read_bps_device", io.throttle_read_bps_device());
    throttle("blkio.throttle.write_bps_device", io.throttle_write_bps_device());
    throttle("blkio.throttle.read_iops_device", io.throttle_read_iops_device());
    throttle("blkio.throttle.write_iops_device", io.throttle_write_iops_device());
}

fn io_v2(io: &LinuxBlockIo, all: &mut Vec<Setting>) {
    // The range of version 1, 10 to 1000, onto that of version 2, 1 to 10000.
    let weight = io.weight().filter(|&weight| weight > 0).map(u64::from);
    let scaled = weight.map(|weight| 1 + weight.saturating_sub(10) * 9999 / 990);
    all.extend(scaled.map(|weight| setting("blkio", "io.weight", weight)));
    let mut throttle = |key: &str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for device in devices.iter().flatten() {
            let value = format!("{}:{} {key}={}", device.major(), device.minor(), device.rate());
            all.push(setting("blkio", "io.max", value));
        }
    };
    throttle("rbps", io.throttle_read_bps_device());
    throttle("wbps", io.throttle_write_bps_device());
    throttle("riops", io.throttle_read_iops_device());
    throttle("wiops", io.throttle_write_iops_device());
}

/// The scale of version 1, 2 to 262144, onto that of version 2, 1 to 10000 (KEP-2254).
pub fn cpu_weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}
