//! Who a container runs as: names from the image's own `/etc/passwd` and `/etc/group`.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{self as rfs, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Larger files are no real passwd or group files.
const MAX_BYTES: u64 = 4 << 20;

/// The numeric identity of a container's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    pub uid: u32,
    pub gid: u32,
    /// Groups that `/etc/group` lists the user in, without `gid`.
    pub additional_gids: Vec<u32>,
    /// The home directory, if the user is in `/etc/passwd`.
    pub home: Option<String>,
    /// The user's name, if it is in `/etc/passwd`.
    pub name: Option<String>,
}

/// Why a user cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("{0:?} is no user: expected user, uid, user:group or uid:gid")]
    Malformed(String),
    #[error("cannot read {file} in {}", rootfs.display())]
    Io { file: &'static str, rootfs: PathBuf, source: io::Error },
    #[error("{file} in {} has more than {MAX_BYTES} bytes", rootfs.display())]
    TooLarge { file: &'static str, rootfs: PathBuf },
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Resolves `user`, `uid`, `user:group`, `uid:gid`, or empty for root, against the files below
/// `rootfs`. A number that the files do not have stands for itself, with group 0.
pub fn resolve_user(rootfs: &Path, user: &str) -> Result<ResolvedUser, UserError> {
    let passwd = read_file(rootfs, "etc/passwd")?;
    let group = read_file(rootfs, "etc/group")?;
    resolve(&passwd, &group, user)
}

pub(crate) fn resolve(passwd: &str, group: &str, user: &str) -> Result<ResolvedUser, UserError> {
    let (user_part, group_part) = match user.split_once(':') {
        Some((_, group)) if group.contains(':') => return Err(UserError::Malformed(user.to_owned())),
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user_part = if user_part.is_empty() { "0" } else { user_part };
    let number = parse_id(user_part);
    let mut entries = passwd.lines().filter_map(passwd_entry);
    // A name that looks like a number is a number, unless only the name matches.
    let entry = entries.find(|entry| entry.name == user_part || Some(entry.uid) == number);
    let mut resolved = match (&entry, number) {
        (Some(entry), _) => ResolvedUser {
            uid: entry.uid,
            gid: entry.gid,
            additional_gids: Vec::new(),
            home: Some(entry.home.to_owned()).filter(|home| !home.is_empty()),
            name: Some(entry.name.to_owned()),
        },
        (None, Some(uid)) => ResolvedUser { uid, ..ResolvedUser::default() },
        (None, None) => return Err(UserError::NoUser(user_part.to_owned())),
    };
    if let Some(wanted) = group_part {
        let number = parse_id(wanted);
        let mut groups = group.lines().filter_map(group_entry);
        let found = groups.find(|entry| entry.name == wanted || Some(entry.gid) == number);
        resolved.gid = match (found, number) {
            (Some(entry), _) => entry.gid,
            (None, Some(gid)) => gid,
            (None, None) => return Err(UserError::NoGroup(wanted.to_owned())),
        };
    }
    if let Some(entry) = entry {
        let member = |group: &GroupEntry<'_>| group.members.split(',').any(|name| name.trim() == entry.name);
        resolved.additional_gids =
            group.lines().filter_map(group_entry).filter(member).map(|group| group.gid).collect();
        resolved.additional_gids.sort_unstable();
        resolved.additional_gids.dedup();
        resolved.additional_gids.retain(|gid| *gid != resolved.gid);
    }
    Ok(resolved)
}

/// Ids are at most 2³¹−1, as container runtimes hold; more would be the kernel's "no id".
fn parse_id(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse::<u32>().ok()).flatten().filter(|id| *id <= i32::MAX as u32)
}

fn passwd_entry(line: &str) -> Option<PasswdEntry<'_>> {
    let mut fields = line.trim_end().split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let _password = fields.next()?;
    let uid = parse_id(fields.next()?)?;
    let gid = parse_id(fields.next()?)?;
    let home = fields.nth(1).unwrap_or_default();
    Some(PasswdEntry { name, uid, gid, home })
}

fn group_entry(line: &str) -> Option<GroupEntry<'_>> {
    let mut fields = line.trim_end().split(':');
    let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let _password = fields.next()?;
    let gid = parse_id(fields.next()?)?;
    Some(GroupEntry { name, gid, members: fields.next().unwrap_or_default() })
}

/// A file of the container, found as the container would find it. Missing is empty.
fn read_file(rootfs: &Path, file: &'static str) -> Result<String, UserError> {
    let fail = |source: io::Error| UserError::Io { file, rootfs: rootfs.to_owned(), source };
    let root = rfs::open(rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| fail(errno.into()))?;
    // Not to wait for the other end, should the image have a fifo there.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let fd = match rfs::openat2(&root, file, flags, Mode::empty(), resolve) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(fail(errno.into())),
    };
    let content = std::fs::File::from(fd);
    if !content.metadata().map_err(fail)?.is_file() {
        return Err(fail(io::ErrorKind::InvalidInput.into()));
    }
    let mut bytes = Vec::new();
    content.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(UserError::TooLarge { file, rootfs: rootfs.to_owned() });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# c\nbroken\nweb:x:101:102:Web:/srv:/bin/false\n1234:x:7:8::/n:\nbig:x:4294967295:0::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:web\nlogs:x:4:root,web\ndup:x:4:web\nextra:x:300:web\n";

    fn check(user: &str, expected: Option<(u32, u32, &[u32])>) {
        let got = resolve(PASSWD, GROUP, user).ok();
        let got = got.as_ref().map(|user| (user.uid, user.gid, user.additional_gids.as_slice()));
        assert_eq!(got, expected, "{user:?}");
    }

    #[test]
    fn users_resolve_against_the_images_files() {
        check("", Some((0, 0, &[4])));
        check("root", Some((0, 0, &[4])));
        check("web", Some((101, 102, &[4, 300])));
        check("101", Some((101, 102, &[4, 300])));
        check("web:logs", Some((101, 4, &[102, 300])));
        check("web:5", Some((101, 5, &[4, 102, 300])));
        check("web:", Some((101, 102, &[4, 300])));
        check("9999", Some((9999, 0, &[])));
        check("9999:77", Some((9999, 77, &[])));
        check("1234", Some((7, 8, &[])));
        check(":4", Some((0, 4, &[])));
        for bad in ["nobody", "web:none", "a:b:c", "-1", "4294967295", "big", "99999999999"] {
            check(bad, None);
        }
    }

    #[test]
    fn files_are_found_as_the_container_finds_them() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("passwd"), "web:x:1:1::/:\n").unwrap();
        let root = tempfile::tempdir().unwrap();
        let etc = root.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        std::os::unix::fs::symlink(outside.path().join("passwd"), etc.join("passwd")).unwrap();
        assert!(matches!(resolve_user(root.path(), "web"), Err(UserError::NoUser(_))));
        std::fs::create_dir(root.path().join("real")).unwrap();
        std::fs::write(root.path().join("real/passwd"), "web:x:5:6::/:\n").unwrap();
        std::fs::remove_file(etc.join("passwd")).unwrap();
        std::os::unix::fs::symlink("/../../real/passwd", etc.join("passwd")).unwrap();
        assert_eq!(resolve_user(root.path(), "web").unwrap().uid, 5);
        std::fs::remove_file(etc.join("passwd")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            etc.join("passwd"),
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(matches!(resolve_user(root.path(), "web"), Err(UserError::Io { .. })));
    }
}
