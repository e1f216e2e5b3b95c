//! Capabilities: Docker's default set, changed by what a container adds and drops.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Capabilities as Wanted;
use oci_spec::runtime::{Capability, LinuxCapabilities};
use sampan_runtime::CAPABILITIES as ALL;

/// What a container has unless it says otherwise.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A name that is no capability of Linux: `CreateContainerError`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown capability {0:?} to add")]
pub struct UnknownCapability(pub String);

/// The names (without `CAP_`) that a container is bounded by.
pub fn names(wanted: Option<&Wanted>, privileged: bool) -> Result<Vec<&'static str>, UnknownCapability> {
    if privileged {
        return Ok(ALL.to_vec());
    }
    let add: Vec<String> =
        wanted.into_iter().flat_map(|all| all.add.iter().flatten()).map(|name| plain(name)).collect();
    let drop: HashSet<String> =
        wanted.into_iter().flat_map(|all| all.drop.iter().flatten()).map(|name| plain(name)).collect();
    if let Some(unknown) = add.iter().find(|name| *name != "ALL" && !ALL.contains(&name.as_str())) {
        return Err(UnknownCapability(unknown.clone()));
    }
    let add: HashSet<&str> = add.iter().map(String::as_str).collect();
    let drop_all = drop.contains("ALL");
    let add_all = add.contains("ALL");
    // What is named stands against ALL, and among the named, dropping stands against adding.
    let has = |name: &'static str| {
        let start = if add_all { true } else { !drop_all && DEFAULT.contains(&name) };
        (start || add.contains(name)) && !drop.contains(name)
    };
    Ok(ALL.into_iter().filter(|name| has(name)).collect())
}

/// Of `names`, those that this process has itself: nobody can give more, and asking the kernel for more fails.
pub fn possible(names: Vec<&'static str>) -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    // Without an answer the kernel has the last word.
    let held = permitted(&status).unwrap_or(u64::MAX);
    let has =
        |name: &&str| ALL.iter().position(|known| known == name).is_some_and(|bit| held >> bit & 1 == 1);
    names.into_iter().filter(has).collect()
}

/// The permitted set in a `/proc/<pid>/status`.
fn permitted(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapPrm:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

fn plain(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

/// The sets of a container's first process. A process of another user than root starts with none in
/// effect, as `execve` would have it.
pub fn sets(names: &[&str]) -> LinuxCapabilities {
    let set: HashSet<Capability> = names
        .iter()
        .filter_map(|name| serde_json::from_value(serde_json::Value::String(format!("CAP_{name}"))).ok())
        .collect();
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(Some(set.clone()))
        .set_effective(Some(set.clone()))
        .set_permitted(Some(set))
        .set_inheritable(None)
        .set_ambient(None);
    capabilities
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], expected: &[&str]) {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let wanted = Wanted { add: list(add), drop: list(drop) };
        let mut got = names(Some(&wanted), false).expect("known names");
        let mut expected = expected.to_vec();
        got.sort_unstable();
        expected.sort_unstable();
        assert_eq!(got, expected, "add {add:?} drop {drop:?}");
    }

    #[test]
    fn adding_and_dropping() {
        check(&[], &[], &DEFAULT);
        check(&[], &["ALL"], &[]);
        check(&["NET_BIND_SERVICE"], &["ALL"], &["NET_BIND_SERVICE"]);
        check(&["cap_sys_time"], &["all"], &["SYS_TIME"]);
        check(&["ALL"], &[], &ALL);
        let without: Vec<&str> = ALL.into_iter().filter(|name| *name != "SYS_ADMIN").collect();
        check(&["ALL"], &["SYS_ADMIN"], &without);
        let kept: Vec<&str> = DEFAULT.into_iter().filter(|name| *name != "NET_RAW").collect();
        check(&[], &["CAP_NET_RAW"], &kept);
    }

    #[test]
    fn the_kernels_numbers_are_read() {
        assert_eq!(permitted("Name:\tx\nCapPrm:\t000001fffeffffff\nCapEff:\t0\n"), Some(0x1ff_feff_ffff));
        assert_eq!(permitted("CapPrm:\tnone\n"), None);
        assert_eq!(permitted(""), None);
    }

    #[test]
    fn unknown_names_are_refused_and_known_ones_all_map() {
        let wanted = Wanted { add: Some(vec!["FLY".to_owned()]), drop: None };
        assert_eq!(names(Some(&wanted), false), Err(UnknownCapability("FLY".to_owned())));
        assert_eq!(names(None, true).expect("all").len(), ALL.len());
        assert_eq!(sets(&ALL).bounding().as_ref().expect("set").len(), ALL.len());
    }
}
