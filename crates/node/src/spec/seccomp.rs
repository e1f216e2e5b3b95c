//! System call filters.
//!
//! A container that does not ask for anything gets `RuntimeDefault`: a list of what ordinary
//! programs need, kept as data in `seccomp/default.txt`, plus the few calls that are allowed only
//! with some arguments.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, PodSpec, SeccompProfile};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator,
    LinuxSyscall,
};

const DEFAULT: &str = include_str!("seccomp/default.txt");
/// The most that a profile of type `Localhost` may have, bytes.
const PROFILE_LIMIT: u64 = 4 << 20;

/// A filter that cannot be built: `CreateContainerError`.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    #[error("localhostProfile must be set if seccompProfile type is Localhost.")]
    NoProfileName,
    #[error("seccomp profile path {0:?} must be a relative path below the node's seccomp directory")]
    Path(String),
    #[error("cannot load seccomp profile {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("seccomp profile {path:?} is larger than {PROFILE_LIMIT} bytes")]
    TooLarge { path: PathBuf },
    #[error("cannot decode seccomp profile {path:?}")]
    Decode {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

/// What a container asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Profile {
    RuntimeDefault,
    Unconfined,
    /// Relative to the node's directory of profiles.
    Localhost(PathBuf),
}

/// The profile of a container: its own, the pod's, or the default.
pub fn profile(spec: &PodSpec, container: &Container, privileged: bool) -> Result<Profile, SeccompError> {
    if privileged {
        return Ok(Profile::Unconfined);
    }
    let own = container.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
    let pods = spec.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
    match own.or(pods) {
        None => Ok(Profile::RuntimeDefault),
        Some(SeccompProfile { type_, localhost_profile }) => match type_.as_str() {
            "Unconfined" => Ok(Profile::Unconfined),
            "Localhost" => {
                let name = localhost_profile.as_deref().ok_or(SeccompError::NoProfileName)?;
                let path = Path::new(name);
                let inside =
                    path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
                if name.is_empty() || !inside {
                    return Err(SeccompError::Path(name.to_owned()));
                }
                Ok(Profile::Localhost(path.to_owned()))
            }
            _ => Ok(Profile::RuntimeDefault),
        },
    }
}

/// The filter of a profile; `None` is no filter. Reads a file for `Localhost`.
pub fn filter(
    profile: &Profile,
    capabilities: &[&str],
    directory: &Path,
) -> Result<Option<LinuxSeccomp>, SeccompError> {
    match profile {
        Profile::Unconfined => Ok(None),
        Profile::RuntimeDefault => Ok(Some(default_filter(capabilities))),
        Profile::Localhost(name) => {
            let path = directory.join(name);
            let read = |source| SeccompError::Read { path: path.clone(), source };
            if std::fs::metadata(&path).map_err(read)?.len() > PROFILE_LIMIT {
                return Err(SeccompError::TooLarge { path });
            }
            let text = std::fs::read(&path).map_err(read)?;
            let filter =
                serde_json::from_slice(&text).map_err(|source| SeccompError::Decode { path, source })?;
            Ok(Some(filter))
        }
    }
}

/// The calls in the list that a set of capabilities may make.
fn allowed(capabilities: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    let mut included = true;
    for line in DEFAULT.lines() {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        if let Some(capability) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            included = capabilities.contains(&capability);
        } else if included {
            names.extend(line.split_whitespace().map(str::to_owned));
        }
    }
    names.sort();
    names.dedup();
    names
}

/// Flags of `clone` that make namespaces.
const CLONE_NAMESPACES: u64 = 0x7E02_0000;
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;
/// An address family whose peers are outside of the machine's network namespaces.
const AF_VSOCK: u64 = 40;
/// The execution domains that 32-bit and legacy programs ask for; all ones is a query.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

fn default_filter(capabilities: &[&str]) -> LinuxSeccomp {
    let allow = LinuxSeccompAction::ScmpActAllow;
    let mut calls = vec![call(allowed(capabilities), allow, None, None)];
    if !capabilities.contains(&"SYS_ADMIN") {
        let masked = argument(0, CLONE_NAMESPACES, Some(0), LinuxSeccompOperator::ScmpCmpMaskedEq);
        calls.push(call(vec!["clone".into()], allow, None, Some(vec![masked])));
        // The flags of clone3 are behind a pointer that a filter cannot follow: programs fall back
        // to clone when the kernel does not seem to have it.
        calls.push(call(vec!["clone3".into()], LinuxSeccompAction::ScmpActErrno, Some(ENOSYS), None));
    }
    let family = argument(0, AF_VSOCK, None, LinuxSeccompOperator::ScmpCmpNe);
    calls.push(call(vec!["socket".into()], allow, None, Some(vec![family])));
    for value in PERSONALITIES {
        let domain = argument(0, value, None, LinuxSeccompOperator::ScmpCmpEq);
        calls.push(call(vec!["personality".into()], allow, None, Some(vec![domain])));
    }
    let mut filter = LinuxSeccomp::default();
    filter
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(Some(architectures()))
        .set_flags(None)
        .set_syscalls(Some(calls));
    filter
}

fn architectures() -> Vec<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "aarch64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        _ => vec![Arch::ScmpArchNative],
    }
}

fn call(
    names: Vec<String>,
    action: LinuxSeccompAction,
    errno: Option<u32>,
    arguments: Option<Vec<LinuxSeccompArg>>,
) -> LinuxSyscall {
    let mut call = LinuxSyscall::default();
    call.set_names(names).set_action(action).set_errno_ret(errno).set_args(arguments);
    call
}

fn argument(index: usize, value: u64, second: Option<u64>, op: LinuxSeccompOperator) -> LinuxSeccompArg {
    let mut builder = LinuxSeccompArgBuilder::default().index(index).value(value).op(op);
    if let Some(second) = second {
        builder = builder.value_two(second);
    }
    builder.build().expect("every required field is set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_open_calls() {
        let check = |capabilities: &[&str], name: &str, expected: bool| {
            assert_eq!(
                allowed(capabilities).iter().any(|call| call == name),
                expected,
                "{capabilities:?} {name}"
            );
        };
        check(&[], "openat", true);
        check(&[], "mount", false);
        check(&["SYS_ADMIN"], "mount", true);
        check(&[], "unshare", false);
        check(&[], "bpf", false);
        check(&["BPF"], "bpf", true);
        check(&[], "kexec_load", false);
        check(&[], "keyctl", false);
        check(&[], "io_uring_setup", false);
        check(&["SYS_CHROOT"], "chroot", true);
        check(&["SYS_MODULE"], "init_module", true);
    }

    #[test]
    fn the_profile_is_the_containers_then_the_pods() {
        let check = |pod: serde_json::Value, own: serde_json::Value, expected: Result<Profile, ()>| {
            let spec = serde_json::from_value(serde_json::json!({"containers": [],
                "securityContext": {"seccompProfile": pod}}))
            .expect("a spec");
            let container = serde_json::from_value(
                serde_json::json!({"name": "c", "securityContext": {"seccompProfile": own}}),
            )
            .expect("a container");
            assert_eq!(profile(&spec, &container, false).map_err(|_| ()), expected, "{pod} {own}");
        };
        use serde_json::json;
        let local = |name: &str| json!({"type": "Localhost", "localhostProfile": name});
        check(json!(null), json!(null), Ok(Profile::RuntimeDefault));
        check(json!({"type": "Unconfined"}), json!(null), Ok(Profile::Unconfined));
        check(json!({"type": "Unconfined"}), json!({"type": "RuntimeDefault"}), Ok(Profile::RuntimeDefault));
        check(json!(null), local("a/b.json"), Ok(Profile::Localhost("a/b.json".into())));
        check(json!(null), local("../b.json"), Err(()));
        check(json!(null), local("/etc/b.json"), Err(()));
        check(json!(null), json!({"type": "Localhost"}), Err(()));
    }

    #[test]
    fn making_namespaces_needs_a_capability() {
        let names = |capabilities: &[&str]| -> Vec<String> {
            let filter = default_filter(capabilities);
            let calls = filter.syscalls().clone().expect("calls");
            calls.iter().skip(1).flat_map(|call| call.names().clone()).collect()
        };
        assert!(names(&[]).contains(&"clone3".to_owned()));
        assert!(!names(&["SYS_ADMIN"]).contains(&"clone3".to_owned()));
    }
}
