//! Volumes: what a pod's containers find mounted. One file per kind.
//!
//! A [`keeper`] per pod makes the volumes, waits where an object is missing, and rewrites the files
//! of those that are made of API objects whenever an object changes.

pub mod atomic_writer;
pub mod empty_dir;
pub mod host_path;
pub mod inside;
pub mod keeper;
pub mod payload;
pub mod persistent;
pub mod projected;
pub mod sub_path;
pub mod token;

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

/// A volume that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// On the node.
    pub path: PathBuf,
    /// Whether containers may only read it.
    pub read_only: bool,
}

/// Where a pod's volume of some plugin is.
pub fn directory(pod_dir: &Path, plugin: &str, name: &str) -> PathBuf {
    pod_dir.join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

/// Whether something is mounted at `path` itself. The table of mounts, which is long on a full node, is read
/// only where the kernel (before 5.8) cannot tell of one path.
pub fn is_mount_point(path: &Path) -> bool {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match statx(CWD, path, flags, StatxFlags::empty()) {
        Ok(found) if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
        }
        Err(rustix::io::Errno::NOENT) => false,
        Ok(_) | Err(_) => mount_points().is_ok_and(|all| all.iter().any(|point| point == path)),
    }
}

/// Unmounts everything below `dir`, the innermost first. What is busy goes when its last user does.
pub fn unmount_below(dir: &Path) -> io::Result<()> {
    let mut points: Vec<PathBuf> =
        mount_points()?.into_iter().filter(|point| point.starts_with(dir)).collect();
    while let Some(point) = points.pop() {
        match umount2(&point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// In the order of mounting.
fn mount_points() -> io::Result<Vec<PathBuf>> {
    let text = std::fs::read("/proc/self/mountinfo")?;
    Ok(parse_mount_points(&String::from_utf8_lossy(&text)))
}

fn parse_mount_points(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| PathBuf::from(unescape(point)))
        .collect()
}

/// The kernel writes blanks and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        match rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_from_the_kernels_table() {
        let text =
            "22 1 0:5 / /proc rw,nosuid - proc proc rw\n23 1 0:6 / /a\\040b rw shared:1 - tmpfs t rw\n";
        assert_eq!(parse_mount_points(text), [Path::new("/proc"), Path::new("/a b")]);
        assert!(mount_points().expect("is read").contains(&PathBuf::from("/proc")));
    }

    #[test]
    fn a_mount_point_is_told_from_what_is_in_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).expect("a link");
        for (path, expected) in [
            (Path::new("/proc"), true),
            (Path::new("/proc/self"), false),
            (Path::new("/proc/version"), false),
            (Path::new("/proc/nothing"), false),
            (dir.path(), false),
            (&link, false),
        ] {
            assert_eq!(is_mount_point(path), expected, "{}", path.display());
        }
    }
}
