//! The whole of a container's OCI specification.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, LinuxSeccomp, Process, Root, Spec, User};
use sampan_image::ImageConfig;

use super::capabilities::{self, UnknownCapability};
use super::expand::expand;
use super::mounts::{self, KernelMounts, PodFiles, VolumeMountPoint};
use super::seccomp::{self, SeccompError};
use super::user::Identity;
use super::{cgroup, devices};

/// Where the search for a program starts when neither image nor pod says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the kernel shows of the machine and a container must not see.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const MASKED_TOO: [&str; 1] = ["/sys/devices/virtual/powercap"];
/// What a container must not write.
const READ_ONLY: [&str; 6] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys/kernel/debug"];

/// Everything that a container's specification is made of.
pub struct Inputs<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub image: &'a ImageConfig,
    pub id: &'a str,
    pub rootfs: &'a Path,
    pub identity: &'a Identity,
    /// Without the image's own.
    pub environment: &'a [(String, String)],
    pub volumes: &'a [VolumeMountPoint],
    pub files: &'a PodFiles,
    /// Kept at this path; `None` is the node's own.
    pub network_namespace: Option<&'a Path>,
    /// The pod's cgroup.
    pub cgroup_parent: &'a Path,
    /// What the processes see as the host's name.
    pub hostname: &'a str,
    pub memory_capacity: i64,
    pub pids_limit: i64,
    pub seccomp_dir: &'a Path,
}

/// Why no container can be made from a pod: `CreateContainerError`.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("no command specified")]
    NoCommand,
    #[error(transparent)]
    Capability(#[from] UnknownCapability),
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    #[error("working directory {0:?} is not absolute")]
    WorkingDirectory(String),
}

/// Builds the specification. The pod's shared namespaces (IPC, UTS, PID) are added by its
/// supervisor. Reads the file of a `Localhost` seccomp profile and, for a privileged container, the
/// node's devices.
pub fn build(inputs: &Inputs<'_>) -> Result<Spec, SpecError> {
    let security = inputs.container.security_context.as_ref();
    let privileged = security.and_then(|security| security.privileged).unwrap_or(false);
    let wanted = security.and_then(|security| security.capabilities.as_ref());
    let names = capabilities::possible(capabilities::names(wanted, privileged)?);
    let profile = seccomp::profile(crate::pod::spec(inputs.pod), inputs.container, privileged)?;
    let filter = seccomp::filter(&profile, &names, inputs.seccomp_dir)?;
    let mut root = Root::default();
    root.set_path(inputs.rootfs.to_owned());
    root.set_readonly(Some(
        security.and_then(|security| security.read_only_root_filesystem).unwrap_or(false),
    ));
    let pod_spec = crate::pod::spec(inputs.pod);
    let kernel = KernelMounts {
        privileged,
        host_network: crate::pod::host_network(pod_spec),
        host_ipc: pod_spec.host_ipc.unwrap_or(false),
        host_pid: pod_spec.host_pid.unwrap_or(false),
    };
    let mut spec = Spec::default();
    spec.set_version("1.1.0".to_owned())
        .set_root(Some(root))
        .set_process(Some(process(inputs, &names, privileged)?))
        .set_mounts(Some(mounts::mounts(kernel, inputs.files, inputs.volumes)))
        .set_hostname(Some(inputs.hostname.to_owned()))
        .set_annotations(Some(annotations(inputs)))
        .set_linux(Some(linux(inputs, privileged, filter)));
    Ok(spec)
}

/// Gives a container the PID namespace of a process of the machine in place of a new one. One that it
/// shares with the pod, or the machine's, it keeps: the process is in there too.
pub fn join_processes(spec: &mut Spec, pid: u32) {
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    for namespace in &mut namespaces {
        if namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none() {
            namespace.set_path(Some(PathBuf::from(format!("/proc/{pid}/ns/pid"))));
        }
    }
    linux.set_namespaces(Some(namespaces));
    spec.set_linux(Some(linux));
}

fn annotations(inputs: &Inputs<'_>) -> HashMap<String, String> {
    HashMap::from([
        ("io.kubernetes.pod.name".to_owned(), crate::pod::name(inputs.pod).to_owned()),
        ("io.kubernetes.pod.namespace".to_owned(), crate::pod::namespace(inputs.pod).to_owned()),
        ("io.kubernetes.pod.uid".to_owned(), crate::pod::uid(inputs.pod).to_owned()),
        ("io.kubernetes.container.name".to_owned(), inputs.container.name.clone()),
    ])
}

fn process(inputs: &Inputs<'_>, capabilities: &[&str], privileged: bool) -> Result<Process, SpecError> {
    let security = inputs.container.security_context.as_ref();
    let mut user = User::default();
    user.set_uid(inputs.identity.uid)
        .set_gid(inputs.identity.gid)
        .set_additional_gids(Some(inputs.identity.groups.clone()));
    let directory = inputs.container.working_dir.as_deref().filter(|directory| !directory.is_empty());
    let directory = directory.unwrap_or(&inputs.image.working_dir);
    let directory = if directory.is_empty() { "/" } else { directory };
    if !directory.starts_with('/') {
        return Err(SpecError::WorkingDirectory(directory.to_owned()));
    }
    let escalation = security.and_then(|security| security.allow_privilege_escalation).unwrap_or(true);
    let mut sets = capabilities::sets(capabilities);
    if inputs.identity.uid != 0 {
        // Another user than root starts without capabilities in effect; the bounding set is kept.
        sets.set_effective(None).set_permitted(None);
    }
    let mut process = Process::default();
    process
        .set_terminal(Some(inputs.container.tty.unwrap_or(false)))
        .set_user(user)
        .set_args(Some(arguments(inputs.container, inputs.image, inputs.environment)?))
        .set_env(Some(environment(inputs)))
        .set_cwd(PathBuf::from(directory))
        .set_capabilities(Some(sets))
        .set_rlimits(None)
        .set_no_new_privileges(Some(!escalation && !privileged))
        .set_oom_score_adj(Some(cgroup::oom_score_adj(inputs.pod, inputs.container, inputs.memory_capacity)));
    Ok(process)
}

/// `command` stands for the image's entrypoint, `args` for its command; a `command` alone drops both
/// of the image's.
pub fn arguments(
    container: &Container,
    image: &ImageConfig,
    environment: &[(String, String)],
) -> Result<Vec<String>, SpecError> {
    let lookup = |name: &str| {
        environment.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let expanded = |list: &[String]| list.iter().map(|text| expand(text, lookup)).collect::<Vec<_>>();
    let command = container.command.as_deref().unwrap_or_default();
    let args = container.args.as_deref().unwrap_or_default();
    let mut all = if command.is_empty() { image.entrypoint.clone() } else { expanded(command) };
    match (command.is_empty(), args.is_empty()) {
        (_, false) => all.extend(expanded(args)),
        (true, true) => all.extend(image.cmd.iter().cloned()),
        (false, true) => {}
    }
    if all.is_empty() { Err(SpecError::NoCommand) } else { Ok(all) }
}

/// The image's variables, changed and followed by the pod's.
fn environment(inputs: &Inputs<'_>) -> Vec<String> {
    let mut all: Vec<(String, String)> = vec![("PATH".to_owned(), PATH.to_owned())];
    let mut set = |name: &str, value: &str| match all.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => all.push((name.to_owned(), value.to_owned())),
    };
    set("HOSTNAME", inputs.hostname);
    if inputs.container.tty == Some(true) {
        set("TERM", "xterm");
    }
    for variable in &inputs.image.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        set(name, value);
    }
    for (name, value) in inputs.environment {
        set(name, value);
    }
    if !all.iter().any(|(name, _)| name == "HOME") {
        all.push(("HOME".to_owned(), inputs.identity.home.clone()));
    }
    // The kernel takes no NUL in a variable, and the API admits one in a config map.
    all.retain(|(name, value)| !name.contains('\0') && !value.contains('\0'));
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn linux(inputs: &Inputs<'_>, privileged: bool, filter: Option<LinuxSeccomp>) -> Linux {
    let security = inputs.container.security_context.as_ref();
    let unmasked = privileged
        || security
            .and_then(|security| security.proc_mount.as_deref())
            .is_some_and(|mode| mode == "Unmasked");
    let mut namespaces = vec![namespace(LinuxNamespaceType::Mount, None)];
    if let Some(path) = inputs.network_namespace {
        namespaces.push(namespace(LinuxNamespaceType::Network, Some(path)));
    }
    if !privileged && Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        // On cgroup v1 the runtime shows a container its own part by bind mounts instead.
        namespaces.push(namespace(LinuxNamespaceType::Cgroup, None));
    }
    let resources = cgroup::with_pids(cgroup::resources(inputs.container, privileged), inputs.pids_limit);
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces))
        .set_cgroups_path(Some(inputs.cgroup_parent.join(inputs.id)))
        .set_resources(Some(resources))
        .set_devices(privileged.then(devices::of_node))
        .set_seccomp(filter)
        .set_sysctl(sysctls(inputs.pod))
        .set_rootfs_propagation(propagation(inputs.volumes));
    if unmasked {
        linux.set_masked_paths(None).set_readonly_paths(None);
    } else {
        let list = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        let mut masked = list(&MASKED);
        masked.extend(list(&MASKED_TOO));
        linux.set_masked_paths(Some(masked)).set_readonly_paths(Some(list(&READ_ONLY)));
    }
    linux
}

/// A mount can only be received or sent on where the root takes part.
fn propagation(volumes: &[VolumeMountPoint]) -> Option<String> {
    let any = |wanted| volumes.iter().any(|volume| volume.propagation == wanted);
    if any(mounts::Propagation::Bidirectional) {
        return Some("rshared".to_owned());
    }
    any(mounts::Propagation::HostToContainer).then(|| "rslave".to_owned())
}

fn sysctls(pod: &Pod) -> Option<HashMap<String, String>> {
    let sysctls = crate::pod::spec(pod).security_context.as_ref()?.sysctls.as_ref()?;
    let all: HashMap<String, String> =
        sysctls.iter().map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone())).collect();
    (!all.is_empty()).then_some(all)
}

fn namespace(typ: LinuxNamespaceType, path: Option<&Path>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(typ).set_path(path.map(Path::to_owned));
    namespace
}

#[cfg(test)]
mod tests;
