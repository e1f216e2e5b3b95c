//! What every container finds in `/dev`, and the devices that it is given.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

use super::mounts::clone_path;
use super::root::{Make, Root, attach, exists};

const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

#[derive(Debug, thiserror::Error)]
#[error("making {path}")]
pub struct DeviceError {
    path: PathBuf,
    source: Errno,
}

/// One device node.
pub struct Device {
    path: PathBuf,
    kind: SFlag,
    mode: u32,
    number: u64,
    owner: (u32, u32),
    /// The machine's own node, where none may be made.
    node: Option<OwnedFd>,
}

impl Device {
    pub fn node(&self) -> Option<BorrowedFd<'_>> {
        self.node.as_ref().map(OwnedFd::as_fd)
    }
}

/// The devices of a container. In a user namespace, where nodes cannot be made, the machine's own
/// are taken.
pub fn of_spec(spec: &Spec, users_mapped: bool) -> Result<Vec<Device>, DeviceError> {
    let given = spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    let mut all: Vec<Device> = given.iter().map(device).collect();
    for (path, major, minor) in DEFAULTS {
        if !all.iter().any(|device| device.path == Path::new(path)) {
            let number = makedev(major.into(), minor.into());
            let path = path.into();
            all.push(Device { path, kind: SFlag::S_IFCHR, mode: 0o666, number, owner: (0, 0), node: None });
        }
    }
    if users_mapped {
        for device in &mut all {
            let node = clone_path(&device.path, false);
            device.node = Some(node.map_err(|source| DeviceError { path: device.path.clone(), source })?);
        }
    }
    Ok(all)
}

fn device(given: &LinuxDevice) -> Device {
    let kind = match given.typ() {
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::A => SFlag::S_IFCHR,
    };
    let number = |number: i64| u64::try_from(number).unwrap_or(0);
    Device {
        path: given.path().clone(),
        kind,
        mode: given.file_mode().unwrap_or(0o666) & 0o7777,
        number: makedev(number(given.major()), number(given.minor())),
        owner: (given.uid().unwrap_or(0), given.gid().unwrap_or(0)),
        node: None,
    }
}

/// Fills `/dev`, in the container's process.
pub fn make(devices: &[Device], root: &Root) -> Result<(), DeviceError> {
    let dev = root
        .open_or_make(Path::new("/dev"), Make::Directory)
        .map_err(|source| DeviceError { path: "/dev".into(), source })?;
    for device in devices {
        make_node(device, root, dev.as_fd())
            .map_err(|source| DeviceError { path: device.path.clone(), source })?;
    }
    for (name, target) in LINKS {
        link(dev.as_fd(), name, target)?;
    }
    // The machine's own multiplexer would give terminals that the container does not see.
    match unlinkat(&dev, "ptmx", UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => link(dev.as_fd(), "ptmx", "pts/ptmx"),
        Err(source) => Err(DeviceError { path: "/dev/ptmx".into(), source }),
    }
}

fn link(dev: BorrowedFd<'_>, name: &str, target: &str) -> Result<(), DeviceError> {
    match symlinkat(target, dev, name) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(source) => Err(DeviceError { path: Path::new("/dev").join(name), source }),
    }
}

fn make_node(device: &Device, root: &Root, dev: BorrowedFd<'_>) -> Result<(), Errno> {
    if let Some(node) = &device.node {
        let place = root.open_or_make(&device.path, Make::File)?;
        return attach(node.as_fd(), place.as_fd());
    }
    let (Some(parent), Some(name)) = (device.path.parent(), device.path.file_name().and_then(|n| n.to_str()))
    else {
        return Err(Errno::EINVAL);
    };
    let opened;
    let parent = if parent == Path::new("/dev") {
        dev
    } else {
        opened = root.open_or_make(parent, Make::Directory)?;
        opened.as_fd()
    };
    match mknodat(parent, name, device.kind, Mode::from_bits_truncate(device.mode), device.number) {
        // As the image, or the volume at /dev, has it.
        Err(Errno::EEXIST) if exists(parent, name) => return Ok(()),
        other => other?,
    }
    if device.owner != (0, 0) {
        let (uid, gid) = device.owner;
        let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
        fchownat(parent, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags)?;
    }
    Ok(())
}
