//! The node's devices, for privileged containers.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

/// Directories of `/dev` that a container has of its own, or that hold no devices.
const SKIPPED: [&str; 7] = ["pts", "shm", "fd", "mqueue", "console", ".lxc", ".udev"];
/// The most devices that are passed on.
const LIMIT: usize = 4096;
/// Of directories below `/dev`.
const DEPTH: usize = 5;

/// Every device node below `/dev`. Entries that vanish meanwhile are skipped.
pub fn of_node() -> Vec<LinuxDevice> {
    let mut devices = Vec::new();
    collect(Path::new("/dev"), DEPTH, &mut devices);
    devices
}

fn collect(directory: &Path, depth: usize, devices: &mut Vec<LinuxDevice>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if devices.len() >= LIMIT || SKIPPED.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let Ok(metadata) = entry.metadata() else { continue };
        let kind = metadata.file_type();
        let typ = if kind.is_char_device() {
            LinuxDeviceType::C
        } else if kind.is_block_device() {
            LinuxDeviceType::B
        } else {
            if kind.is_dir() && depth > 1 {
                collect(&entry.path(), depth - 1, devices);
            }
            continue;
        };
        let number = metadata.rdev();
        let mut device = LinuxDevice::default();
        device
            .set_path(entry.path())
            .set_typ(typ)
            .set_major(i64::from(libc::major(number)))
            .set_minor(i64::from(libc::minor(number)))
            .set_file_mode(Some(metadata.mode() & 0o7777))
            .set_uid(Some(metadata.uid()))
            .set_gid(Some(metadata.gid()));
        devices.push(device);
    }
}
