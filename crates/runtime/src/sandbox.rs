//! What a pod's supervisor is configured with, and where in its directory things are.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};

/// Whether the pod's containers share a namespace of the pod or the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NamespaceMode {
    #[default]
    Pod,
    Host,
}

/// Which processes a container sees: `hostPID` and `shareProcessNamespace` of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    /// Its own only.
    #[default]
    Container,
    /// Those of all containers of the pod.
    Pod,
    /// Those of the machine.
    Host,
}

/// What runs the containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuntimeKind {
    /// In the supervisor's binary. Supervisors that were started by earlier versions call theirs by
    /// the other name.
    #[default]
    #[serde(alias = "Libcontainer")]
    Native,
    /// A binary with runc's command line.
    External { binary: PathBuf },
}

/// The configuration of one pod's supervisor. Fixed for its life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxConfig {
    /// Set in the pod's UTS namespace; unused when that is the host's.
    pub hostname: String,
    pub ipc: NamespaceMode,
    /// Kubernetes gives pods in the host's network the host's UTS namespace too.
    pub uts: NamespaceMode,
    pub pid: PidMode,
    pub runtime: RuntimeKind,
    /// The pod's own cgroup, as in `linux.cgroupsPath`: absolute, from the root of each hierarchy.
    /// Removed in every hierarchy, with all below it, when the supervisor shuts down.
    pub cgroup_parent: Option<PathBuf>,
    /// Where compiled system call filters are kept, for the pods of a node together. `None`: in the
    /// supervisor's directory, for this pod.
    pub filters: Option<PathBuf>,
}

/// Where the pod's shared namespaces are. `None`: the host's, or one per container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNamespaces {
    pub ipc: Option<PathBuf>,
    pub uts: Option<PathBuf>,
    pub pid: Option<PathBuf>,
}

impl PodNamespaces {
    /// Puts the pod's IPC, UTS and PID namespaces into `spec` as `config` says. Mount, network, user
    /// and cgroup namespaces stay as the caller set them.
    pub fn join(&self, config: &SandboxConfig, spec: &mut Spec) {
        let mut linux = spec.linux().clone().unwrap_or_default();
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        let ours = [LinuxNamespaceType::Ipc, LinuxNamespaceType::Uts, LinuxNamespaceType::Pid];
        namespaces.retain(|namespace| !ours.contains(&namespace.typ()));
        let shared = [
            (LinuxNamespaceType::Ipc, &self.ipc),
            (LinuxNamespaceType::Uts, &self.uts),
            (LinuxNamespaceType::Pid, &self.pid),
        ];
        for (kind, path) in shared {
            if let Some(path) = path {
                let mut namespace = LinuxNamespace::default();
                namespace.set_typ(kind).set_path(Some(path.clone()));
                namespaces.push(namespace);
            }
        }
        if config.pid == PidMode::Container {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(LinuxNamespaceType::Pid).set_path(None);
            namespaces.push(namespace);
        }
        linux.set_namespaces(Some(namespaces));
        spec.set_linux(Some(linux));
        // The hostname is set once by the supervisor; in a spec that joins a UTS namespace it would
        // rename the pod, or the host.
        spec.set_hostname(None);
    }
}

/// The files of one supervisor.
#[derive(Clone, Debug)]
pub struct SandboxDir(PathBuf);

/// The socket's name in a supervisor's directory.
pub const SOCKET: &str = "supervisor.sock";

impl SandboxDir {
    pub fn new(dir: &Path) -> SandboxDir {
        SandboxDir(dir.to_path_buf())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The [`SandboxConfig`], written before the supervisor starts.
    pub fn config(&self) -> PathBuf {
        self.0.join("sandbox.json")
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }

    /// The process id and start time of the supervisor and of the pod's init, written by it.
    pub fn identity(&self) -> PathBuf {
        self.0.join("supervisor.json")
    }

    /// What the supervisor and the OCI runtime complain about.
    pub fn log(&self) -> PathBuf {
        self.0.join("supervisor.log")
    }

    /// The root of the OCI runtime's own state.
    pub fn runtime_root(&self) -> PathBuf {
        self.0.join("oci")
    }

    /// Compiled system call filters.
    pub fn filters(&self) -> PathBuf {
        self.0.join("seccomp")
    }

    /// Files of one exec while it is being set up.
    pub fn scratch(&self, key: u64) -> PathBuf {
        self.0.join("exec").join(key.to_string())
    }

    pub fn containers(&self) -> PathBuf {
        self.0.join("containers")
    }

    /// The bundle of one container: `config.json`, and `state.json` of this crate.
    pub fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    pub fn container_state(&self, id: &str) -> PathBuf {
        self.container(id).join("state.json")
    }
}
