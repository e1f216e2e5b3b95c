//! The capabilities of a container's process.

use std::io;

use nix::errno::Errno;
use oci_spec::runtime::{Capabilities, LinuxCapabilities};

/// Every capability of Linux, without `CAP_`, in the kernel's order: the place is the number.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
/// The numbers that a kernel can know: its sets have 64 bits.
const LIMIT: u32 = 64;

pub const SYS_ADMIN: u64 = 1 << 21;

/// The sets of `capabilities(7)`, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

impl Sets {
    /// A set that is not mentioned is empty, as in runc.
    pub fn of(capabilities: Option<&LinuxCapabilities>) -> Sets {
        let Some(given) = capabilities else { return Sets::default() };
        Sets {
            bounding: bits(given.bounding().as_ref()),
            effective: bits(given.effective().as_ref()),
            permitted: bits(given.permitted().as_ref()),
            inheritable: bits(given.inheritable().as_ref()),
            ambient: bits(given.ambient().as_ref()),
        }
    }
}

fn bits(set: Option<&Capabilities>) -> u64 {
    let bit = |name: String| NAMES.iter().position(|known| *known == name).map_or(0, |number| 1u64 << number);
    set.into_iter().flatten().map(|capability| bit(capability.to_string())).fold(0, |all, bit| all | bit)
}

/// Takes from the bounding set all but `keep`. Needs `CAP_SETPCAP`, of which it is the last use.
pub fn bound(keep: u64) -> io::Result<()> {
    for number in (0..LIMIT).filter(|number| keep >> number & 1 == 0) {
        // SAFETY: takes numbers only.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }) {
            Ok(_) => {}
            // The kernel knows no more.
            Err(Errno::EINVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// `struct __user_cap_header_struct` and `__user_cap_data_struct` of version 3: two words each.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// Sets what the calling process has, and has in effect.
pub fn set(sets: &Sets) -> io::Result<()> {
    let header = Header { version: VERSION_3, pid: 0 };
    let word = |set: u64, index: u32| (set >> (32 * index)) as u32;
    let data = [0, 1].map(|index| Data {
        effective: word(sets.effective, index),
        permitted: word(sets.permitted, index),
        inheritable: word(sets.inheritable, index),
    });
    // SAFETY: both pointers are to live structures of the layout that version 3 asks for, which the
    // kernel only reads.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}

/// Sets what survives an `execve` of a program without file capabilities.
pub fn set_ambient(ambient: u64) -> io::Result<()> {
    let change = |what: libc::c_int, number: u32| {
        // SAFETY: takes numbers only.
        Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, what, number, 0, 0) })
    };
    change(libc::PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    for number in (0..LIMIT).filter(|number| ambient >> number & 1 == 1) {
        change(libc::PR_CAP_AMBIENT_RAISE, number)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernel_s_numbers() {
        let json = serde_json::json!({
            "bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"],
            "permitted": ["CAP_NET_BIND_SERVICE", "CAP_AUDIT_READ"],
        });
        let sets = Sets::of(Some(&serde_json::from_value(json).expect("are capabilities")));
        assert_eq!(sets.bounding, 1 | SYS_ADMIN | 1 << 40);
        assert_eq!(sets.permitted, 1 << 10 | 1 << 37);
        assert_eq!((sets.effective, sets.ambient), (0, 0));
        assert_eq!(Sets::of(None), Sets::default());
    }

    #[test]
    fn no_name_is_left_out() {
        for name in NAMES {
            let json = serde_json::json!({ "bounding": [format!("CAP_{name}")] });
            let sets = Sets::of(Some(&serde_json::from_value(json).expect("is known")));
            assert_eq!(sets.bounding.count_ones(), 1, "{name}");
        }
    }
}
