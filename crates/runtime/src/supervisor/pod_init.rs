//! The first process of a PID namespace that a pod's containers share.
//!
//! It only reaps. The containers see it, so it has nothing that they could want: no root directory
//! but an empty one, no privileges, no descriptors. It ends with the supervisor, and the kernel then
//! kills everything in the namespace.

use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{Gid, Uid, chdir, pivot_root, setgroups, setresgid, setresuid};

/// As the pause containers of Kubernetes.
const UNPRIVILEGED: u32 = 65535;

/// Returns the process id in our own namespace. `dir` serves as a mount point, in the new process's
/// own mount namespace.
pub fn spawn(dir: &Path) -> Result<i32, Errno> {
    let flags = libc::CLONE_NEWPID | libc::SIGCHLD;
    // SAFETY: without CLONE_VM this is a fork: the child has a copy of our one thread and its stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match Errno::result(pid)? {
        0 => {
            let failed = become_harmless(dir).err();
            if failed.is_none() {
                reap_forever();
            }
            // SAFETY: ends the process; destructors belong to the parent.
            unsafe { libc::_exit(1) }
        }
        pid => Ok(i32::try_from(pid).expect("process ids fit in 32 bits")),
    }
}

fn become_harmless(dir: &Path) -> Result<(), Errno> {
    // SAFETY: nothing of the parent's is used here any more, and nothing is open afterwards.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) })?;
    nix::sys::prctl::set_name(c"sampan-init")?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("none"), dir, Some("tmpfs"), flags, Some("size=4k,mode=555"))?;
    chdir(dir)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    setgroups(&[])?;
    let (user, group) = (Uid::from_raw(UNPRIVILEGED), Gid::from_raw(UNPRIVILEGED));
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    nix::sys::prctl::set_no_new_privs()?;
    // After the change of user, which clears it.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)
}

fn reap_forever() {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    loop {
        // An interrupted wait is only another look.
        let _interrupted = children.wait();
        // SAFETY: no status is asked for, so nothing is written.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
    }
}
