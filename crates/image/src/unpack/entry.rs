//! What a tar entry says about a file besides its content.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;

use rustix::fs::{self as rfs, AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use tar::Entry;

use super::stream::Meter;
use super::{UnpackError, shown};

const CAPABILITY: &str = "security.capability";
const PAX_XATTR: &str = "SCHILY.xattr.";

pub(super) struct Metadata {
    pub mode: Mode,
    uid: Uid,
    gid: Gid,
    modified: Timespec,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Metadata {
    pub(super) fn of(entry: &mut Entry<'_, impl Read>, path: &[u8]) -> Result<Self, UnpackError> {
        let field = |field: &'static str| move || UnpackError::Field { path: shown(path), field };
        let header = entry.header();
        let mode = header.mode().map_err(|_| field("mode")())?;
        let id = |value: io::Result<u64>, name| {
            let value = value.ok().and_then(|id| u32::try_from(id).ok());
            // All ones is the kernel's "leave as it is".
            value.filter(|id| *id != u32::MAX).ok_or_else(field(name))
        };
        let uid = id(header.uid(), "owner")?;
        let gid = id(header.gid(), "group")?;
        let seconds = header.mtime().map_err(|_| field("time")())?;
        let mut metadata = Metadata {
            mode: Mode::from_raw_mode(mode & 0o7777),
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            modified: Timespec { tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX), tv_nsec: 0 },
            xattrs: Vec::new(),
        };
        let extensions = entry.pax_extensions().map_err(UnpackError::Stream)?;
        for extension in extensions.into_iter().flatten() {
            let extension = extension.map_err(UnpackError::Stream)?;
            // Other tools' own keys need not be text; none of them matters here.
            let Ok(key) = extension.key() else { continue };
            if key.starts_with("GNU.sparse.") {
                return Err(field("content: sparse files in PAX form are not supported")());
            }
            if key == "mtime" {
                let text = extension.value().map_err(|_| field("time")())?;
                metadata.modified = parse_time(text).ok_or_else(field("time"))?;
            } else if let Some(name) = key.strip_prefix(PAX_XATTR)
                && is_kept(name)
            {
                metadata.xattrs.push((name.to_owned(), extension.value_bytes().to_vec()));
            }
        }
        Ok(metadata)
    }

    /// Owner, mode and attributes of a file or directory. Changing the owner clears set-id bits and
    /// capabilities, so it comes first.
    pub(super) fn apply(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        rfs::fchown(fd, Some(self.uid), Some(self.gid))?;
        rfs::fchmod(fd, self.mode)?;
        for (name, value) in &self.xattrs {
            match rfs::fsetxattr(fd, name.as_str(), value, XattrFlags::empty()) {
                // The file system of the store keeps no such attributes.
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Owner and times of what cannot be opened: links, devices, fifos.
    pub(super) fn apply_to_name(&self, directory: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        rfs::chownat(directory, name, Some(self.uid), Some(self.gid), AtFlags::SYMLINK_NOFOLLOW)?;
        rfs::utimensat(directory, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)
    }

    pub(super) fn times(&self) -> Timestamps {
        Timestamps { last_access: self.modified, last_modification: self.modified }
    }
}

fn is_kept(name: &str) -> bool {
    name == CAPABILITY || (name.starts_with("user.") && !name.starts_with("user.overlay."))
}

/// `[-]seconds[.fraction]` (POSIX pax, "mtime").
fn parse_time(text: &str) -> Option<Timespec> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let digits = &fraction[..fraction.len().min(9)];
    let nanos = format!("{digits:0<9}").parse::<i64>().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some(Timespec { tv_sec: seconds.checked_sub(1)?, tv_nsec: (1_000_000_000 - nanos) as _ });
    }
    Some(Timespec { tv_sec: seconds, tv_nsec: nanos as _ })
}

/// Copies all of `from`; blocks of zeros become holes.
pub(super) fn copy(from: &mut impl Read, to: &OwnedFd, meter: &Meter) -> io::Result<u64> {
    let file = std::fs::File::from(to.try_clone()?);
    let mut buffer = vec![0; 64 * 1024];
    let mut offset = 0_u64;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        meter.write(read as u64)?;
        let piece = &buffer[..read];
        if piece.len() < 4096 || piece.iter().any(|byte| *byte != 0) {
            file.write_all_at(piece, offset)?;
        }
        offset += read as u64;
    }
    file.set_len(offset)?;
    Ok(offset)
}

pub(super) fn copy_capability(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let mut value = [0_u8; 64];
    match rfs::fgetxattr(from, OsStr::from_bytes(CAPABILITY.as_bytes()), &mut value) {
        Ok(length) => rfs::fsetxattr(to, CAPABILITY, &value[..length], XattrFlags::empty()),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(errno),
    }
}
