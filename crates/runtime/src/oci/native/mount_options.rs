//! What the options of a mount mean: the words of `mount(8)` and of the OCI specification.

use super::kernel::MountAttributes;

const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;

/// The attribute of a mount that forbids writing.
pub const READ_ONLY: u64 = RDONLY;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// `MS_SHARED` and its like.
    pub kind: u64,
    pub recursive: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// A part of another tree; `Some(true)` with what is mounted in it.
    pub bind: Option<bool>,
    /// For the mount itself.
    pub own: MountAttributes,
    /// For it and for all below it.
    pub recursive: MountAttributes,
    pub propagation: Option<Propagation>,
    /// For the file system, in order.
    pub data: Vec<(String, Option<String>)>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("mount option {0:?} is not supported")]
pub struct UnsupportedOption(String);

pub fn parse(options: &[String]) -> Result<MountOptions, UnsupportedOption> {
    let mut parsed = MountOptions::default();
    for option in options {
        match option.as_str() {
            "bind" => parsed.bind = Some(parsed.bind.unwrap_or(false)),
            "rbind" => parsed.bind = Some(true),
            "remount" | "idmap" | "ridmap" | "tmpcopyup" => return Err(UnsupportedOption(option.clone())),
            "" | "defaults" => {}
            word => {
                if let Some(propagation) = propagation(word) {
                    parsed.propagation = Some(propagation);
                } else if let Some((set, clear)) = attribute(word) {
                    change(&mut parsed.own, set, clear);
                } else if let Some((set, clear)) = word.strip_prefix('r').and_then(attribute) {
                    change(&mut parsed.recursive, set, clear);
                } else {
                    let (key, value) = match word.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (word, None),
                    };
                    parsed.data.push((key.to_owned(), value));
                }
            }
        }
    }
    Ok(parsed)
}

/// A later option wins over an earlier one.
fn change(attributes: &mut MountAttributes, set: u64, clear: u64) {
    attributes.set = attributes.set & !clear | set;
    attributes.clear |= clear;
    // The kernel takes a way of keeping access times only together with the clearing of the others.
    attributes.clear &= !(set & !ATIME);
}

fn attribute(word: &str) -> Option<(u64, u64)> {
    Some(match word {
        "ro" => (RDONLY, 0),
        "rw" => (0, RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        "noatime" => (NOATIME, ATIME),
        "strictatime" | "norelatime" => (STRICTATIME, ATIME),
        "relatime" | "atime" | "nostrictatime" => (0, ATIME),
        _ => return None,
    })
}

/// By the word of an option, which is also that of `linux.rootfsPropagation`.
pub fn propagation(word: &str) -> Option<Propagation> {
    let (kind, recursive) = match word {
        "shared" => (libc::MS_SHARED, false),
        "rshared" => (libc::MS_SHARED, true),
        "slave" => (libc::MS_SLAVE, false),
        "rslave" => (libc::MS_SLAVE, true),
        "private" => (libc::MS_PRIVATE, false),
        "rprivate" => (libc::MS_PRIVATE, true),
        "unbindable" => (libc::MS_UNBINDABLE, false),
        "runbindable" => (libc::MS_UNBINDABLE, true),
        _ => return None,
    };
    Some(Propagation { kind, recursive })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: &str, expected: MountOptions) {
        let list: Vec<String> = options.split(',').map(str::to_owned).collect();
        assert_eq!(parse(&list), Ok(expected), "{options}");
    }

    fn attributes(set: u64, clear: u64) -> MountAttributes {
        MountAttributes { set, clear, ..MountAttributes::default() }
    }

    #[test]
    fn options_become_attributes_propagation_and_data() {
        check("", MountOptions::default());
        check(
            "nosuid,strictatime,mode=755,size=65536k",
            MountOptions {
                own: attributes(NOSUID | STRICTATIME, ATIME),
                data: vec![("mode".into(), Some("755".into())), ("size".into(), Some("65536k".into()))],
                ..MountOptions::default()
            },
        );
        check(
            "rbind,rslave,ro",
            MountOptions {
                bind: Some(true),
                own: attributes(RDONLY, 0),
                propagation: Some(Propagation { kind: libc::MS_SLAVE, recursive: true }),
                ..MountOptions::default()
            },
        );
        check(
            "bind,rro",
            MountOptions { bind: Some(false), recursive: attributes(RDONLY, 0), ..MountOptions::default() },
        );
        check("ro,rw", MountOptions { own: attributes(0, RDONLY), ..MountOptions::default() });
        check("rw,ro", MountOptions { own: attributes(RDONLY, 0), ..MountOptions::default() });
        check(
            "newinstance",
            MountOptions { data: vec![("newinstance".into(), None)], ..MountOptions::default() },
        );
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        for option in ["remount", "idmap", "tmpcopyup"] {
            assert_eq!(parse(&[option.to_owned()]), Err(UnsupportedOption(option.to_owned())));
        }
    }
}
