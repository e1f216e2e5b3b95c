//! What is mounted in a container, in the order of mounting.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

/// One volume (or part of one) in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMountPoint {
    /// On the node; symbolic links are resolved.
    pub source: PathBuf,
    /// In the container.
    pub destination: PathBuf,
    pub read_only: bool,
    pub recursive_read_only: bool,
    /// `None`, `HostToContainer` or `Bidirectional`.
    pub propagation: Propagation,
}

/// `mountPropagation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    None,
    HostToContainer,
    Bidirectional,
}

/// The files on the node that appear at fixed places in a container. Absent ones are not mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFiles {
    pub hosts: Option<PathBuf>,
    pub hostname: Option<PathBuf>,
    pub resolv_conf: Option<PathBuf>,
    /// The pod's shared memory.
    pub shm: Option<PathBuf>,
    /// Source and the path in the container.
    pub termination_log: Option<(PathBuf, PathBuf)>,
}

fn mount(destination: impl Into<PathBuf>, typ: &str, source: impl Into<PathBuf>, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

fn bind(destination: impl Into<PathBuf>, source: &Path, options: &[&str]) -> Mount {
    let mut all = vec!["rbind"];
    all.extend(options);
    mount(destination, "bind", source, &all)
}

/// How a container's kernel file systems are set up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelMounts {
    pub privileged: bool,
    pub host_network: bool,
    pub host_ipc: bool,
    pub host_pid: bool,
}

/// All mounts of a container.
pub fn mounts(kernel: KernelMounts, files: &PodFiles, volumes: &[VolumeMountPoint]) -> Vec<Mount> {
    let mut all = system(kernel);
    if !kernel.host_ipc {
        if let Some(shm) = &files.shm {
            all.push(bind("/dev/shm", shm, &["rprivate", "nosuid", "nodev", "noexec"]));
        }
    } else {
        all.push(bind("/dev/shm", Path::new("/dev/shm"), &["rprivate"]));
    }
    let has = |path: &Path| volumes.iter().any(|volume| volume.destination == path);
    let fixed = [
        ("/etc/hosts", &files.hosts),
        ("/etc/hostname", &files.hostname),
        ("/etc/resolv.conf", &files.resolv_conf),
    ];
    for (destination, source) in fixed {
        if let Some(source) = source.as_ref().filter(|_| !has(Path::new(destination))) {
            all.push(bind(destination, source, &["rprivate", "rw"]));
        }
    }
    // A volume at /a must be mounted before one at /a/b.
    let mut volumes: Vec<&VolumeMountPoint> = volumes.iter().collect();
    volumes.sort_by_key(|volume| volume.destination.components().count());
    all.extend(volumes.into_iter().map(volume));
    if let Some((source, destination)) = &files.termination_log {
        all.push(bind(destination, source, &["rprivate", "rw"]));
    }
    all
}

fn volume(volume: &VolumeMountPoint) -> Mount {
    let propagation = match volume.propagation {
        Propagation::None => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let access = match (volume.read_only, volume.recursive_read_only) {
        (true, true) => "rro",
        (true, false) => "ro",
        (false, _) => "rw",
    };
    bind(&volume.destination, &volume.source, &[propagation, access])
}

fn system(kernel: KernelMounts) -> Vec<Mount> {
    let access = if kernel.privileged { "rw" } else { "ro" };
    let sys = if kernel.host_network {
        // A sysfs can only be mounted by the owner of the network namespace that it shows.
        bind("/sys", Path::new("/sys"), &["rprivate", "nosuid", "noexec", "nodev", access])
    } else {
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access])
    };
    let proc = if kernel.host_pid {
        bind("/proc", Path::new("/proc"), &["rprivate", "nosuid", "noexec", "nodev"])
    } else {
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])
    };
    vec![
        proc,
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", access]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(mount: &Mount) -> String {
        mount.options().clone().unwrap_or_default().join(",")
    }

    #[test]
    fn volumes_are_mounted_from_the_outside_in_and_take_the_place_of_files() {
        let point = |destination: &str, read_only: bool, propagation: Propagation| VolumeMountPoint {
            source: "/v".into(),
            destination: destination.into(),
            read_only,
            recursive_read_only: false,
            propagation,
        };
        let files = PodFiles {
            hosts: Some("/p/hosts".into()),
            resolv_conf: Some("/p/resolv.conf".into()),
            shm: Some("/p/shm".into()),
            ..PodFiles::default()
        };
        let volumes = [
            point("/a/b", true, Propagation::None),
            point("/a", false, Propagation::HostToContainer),
            point("/etc/hosts", false, Propagation::Bidirectional),
        ];
        let all = mounts(KernelMounts::default(), &files, &volumes);
        let places: Vec<String> = all.iter().map(|mount| mount.destination().display().to_string()).collect();
        assert_eq!(places[6..], ["/dev/shm", "/etc/resolv.conf", "/a", "/a/b", "/etc/hosts"]);
        assert_eq!(options(&all[8]), "rbind,rslave,rw");
        assert_eq!(options(&all[9]), "rbind,rprivate,ro");
        assert_eq!(options(&all[10]), "rbind,rshared,rw");
    }

    #[test]
    fn the_kernels_files_are_read_only_unless_privileged() {
        let sys = |kernel: KernelMounts| {
            let all = mounts(kernel, &PodFiles::default(), &[]);
            let sys = all.iter().find(|mount| mount.destination() == Path::new("/sys")).expect("a mount");
            (sys.typ().clone().unwrap_or_default(), options(sys))
        };
        assert_eq!(sys(KernelMounts::default()), ("sysfs".into(), "nosuid,noexec,nodev,ro".into()));
        let host = KernelMounts { host_network: true, privileged: true, ..KernelMounts::default() };
        assert_eq!(sys(host).0, "bind");
        assert!(sys(host).1.ends_with("rw"));
    }
}
