//! A container: what is prepared on the machine, and what its first process does with it.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, sethostname, setresgid, setresuid, setsid};
use oci_spec::runtime::{Linux, LinuxNamespaceType, Spec};

use super::devices::{self, Device};
use super::error::{NativeError, failed};
use super::kernel::{self, MountAttributes};
use super::mount_options::{self, READ_ONLY};
use super::mounts::{self, Prepared};
use super::namespaces::Namespaces;
use super::root::{Make, Root};
use super::{handshake, masks, process, streams, sysctl, terminal};
use crate::cgroup::{Cgroup, Membership};
use crate::descriptors::close_all_but;
use crate::oci::Stdio;

/// Everything that the first process needs, open and checked.
pub struct Container<'a> {
    spec: &'a Spec,
    linux: &'a Linux,
    pub namespaces: Namespaces,
    pub membership: Membership,
    process: process::Plan,
    root: Root,
    mounts: Vec<Prepared>,
    devices: Vec<Device>,
}

impl<'a> Container<'a> {
    /// Opens what is on the machine. Nothing is changed yet but the cgroup, which `membership` is of.
    pub fn prepare(
        spec: &'a Spec,
        cgroup: &Cgroup,
        membership: Membership,
        process: process::Plan,
    ) -> Result<Container<'a>, NativeError> {
        refuse_unsupported(spec)?;
        let linux = spec.linux().as_ref().ok_or(NativeError::Missing("linux"))?;
        let namespaces = Namespaces::of(linux)?;
        let kinds: Vec<LinuxNamespaceType> =
            linux.namespaces().iter().flatten().map(|namespace| namespace.typ()).collect();
        for name in linux.sysctl().iter().flat_map(|all| all.keys()) {
            sysctl::check(name, &kinds)?;
        }
        let named = spec.hostname().is_some() || spec.domainname().is_some();
        if named && !kinds.contains(&LinuxNamespaceType::Uts) {
            return Err(NativeError::Unsupported("a hostname without a UTS namespace"));
        }
        let path = spec.root().as_ref().ok_or(NativeError::Missing("root"))?.path();
        let opening = |source: io::Error| NativeError::Path {
            what: "opening the root file system",
            path: path.clone(),
            source,
        };
        let root = mounts::clone_path(path, true).map_err(|error| opening(error.into()))?;
        // What is mounted or unmounted on the machine later is not the container's matter.
        let private = MountAttributes { propagation: libc::MS_PRIVATE, ..MountAttributes::default() };
        kernel::mount_setattr(root.as_fd(), true, &private).map_err(opening)?;
        let users_mapped = namespaces.maps_users();
        let mounts = spec.mounts().iter().flatten();
        let mounts =
            mounts.map(|mount| Prepared::new(mount, cgroup, users_mapped)).collect::<Result<_, _>>()?;
        let devices = devices::of_spec(spec, users_mapped)?;
        Ok(Container { spec, linux, namespaces, membership, process, root: Root::new(root), mounts, devices })
    }

    /// The descriptors that the first process keeps.
    fn fds(&self) -> Vec<RawFd> {
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.root.as_fd()];
        fds.extend(self.membership.tasks.iter().map(AsFd::as_fd));
        fds.extend(self.mounts.iter().flat_map(Prepared::fds));
        fds.extend(self.devices.iter().filter_map(Device::node));
        fds.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// All that the first process does, until it is the user's. Returns only why it is not.
    pub fn run(self, socket: BorrowedFd<'_>, stdio: Stdio) -> Result<Infallible, NativeError> {
        let mut keep = self.fds();
        keep.extend(streams::fds(&stdio));
        keep.push(socket.as_raw_fd());
        close_all_but(&keep).map_err(failed("closing descriptors"))?;
        umask(Mode::empty());
        if self.namespaces.maps_users() {
            if !handshake::wait_go(socket) {
                return Err(NativeError::Ended);
            }
            become_root().map_err(failed("becoming root of a user namespace"))?;
        }
        self.membership.join().map_err(failed("entering the cgroup"))?;
        if self.namespaces.new_cgroup {
            unshare(CloneFlags::CLONE_NEWCGROUP).map_err(failed("making a cgroup namespace"))?;
        }
        setsid().map_err(failed("making a session"))?;
        kernel::new_session_keyring().map_err(failed("making a session keyring"))?;
        self.process.confine()?;
        if let Some(name) = self.spec.hostname() {
            sethostname(name).map_err(failed("setting the hostname"))?;
        }
        if let Some(name) = self.spec.domainname() {
            set_domainname(name).map_err(failed("setting the domain name"))?;
        }
        streams::own(&stdio, self.process.uid).map_err(failed("giving streams to the user"))?;
        let terminal = self.fill_root(matches!(stdio, Stdio::Terminal))?;
        self.enter_root()?;
        let program = self.process.take_over(stdio, terminal, socket)?;
        let Container { process, .. } = self;
        if !handshake::wait_go(socket) {
            return Err(NativeError::Ended);
        }
        Err(NativeError::Said(process.execute(&program)))
    }

    fn fill_root(&self, with_terminal: bool) -> Result<Option<terminal::Terminal>, NativeError> {
        self.root.cover_old().map_err(failed("mounting the root file system"))?;
        for mount in &self.mounts {
            mount.attach(&self.root)?;
        }
        if !self.mounts.iter().any(|mount| mount.is_tree() && mount.destination() == Path::new("/dev")) {
            devices::make(&self.devices, &self.root)?;
        }
        if let Some(parameters) = self.linux.sysctl() {
            sysctl::write(parameters, &self.root)?;
        }
        let terminal = if with_terminal {
            let made = terminal::make(&self.root, self.process.uid).map_err(failed("making a terminal"))?;
            terminal::show_console(made.slave.as_fd(), &self.root).map_err(failed("showing the console"))?;
            Some(made)
        } else {
            None
        };
        self.make_cwd()?;
        masks::apply(self.linux, &self.root)?;
        if self.spec.root().as_ref().and_then(|root| root.readonly()) == Some(true) {
            let attributes = MountAttributes { set: READ_ONLY, ..MountAttributes::default() };
            kernel::mount_setattr(self.root.as_fd(), false, &attributes)
                .map_err(failed("making the root file system read-only"))?;
        }
        Ok(terminal)
    }

    /// Makes the working directory when it is missing. What lies in a mount is the mount's.
    fn make_cwd(&self) -> Result<(), NativeError> {
        let cwd = self.process.cwd();
        let mounted = self.mounts.iter().any(|mount| cwd.starts_with(mount.destination()));
        let read_only = self.spec.root().as_ref().and_then(|root| root.readonly()) == Some(true);
        let plain = cwd.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if mounted || read_only || !plain {
            return Ok(());
        }
        match self.root.open_or_make(cwd, Make::Directory) {
            // What it leads to is told when it is entered.
            Ok(_) | Err(Errno::ENOTDIR | Errno::ELOOP) => Ok(()),
            Err(error) => Err(failed("making the working directory")(error)),
        }
    }

    fn enter_root(&self) -> Result<(), NativeError> {
        self.root.enter().map_err(failed("changing the root"))?;
        let Some(word) = self.linux.rootfs_propagation().as_ref().filter(|word| !word.is_empty()) else {
            return Ok(());
        };
        let propagation =
            mount_options::propagation(word).ok_or(NativeError::Unsupported("this rootfsPropagation"))?;
        // Volumes have their own: the part "recursive" is about what they had before.
        let flags = MsFlags::from_bits_retain(propagation.kind);
        let none: Option<&str> = None;
        mount(none, "/", none, flags, none).map_err(failed("setting the root's propagation"))
    }
}

/// In a user namespace that was just made or joined, where the process is nobody yet.
pub fn become_root() -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    setgroups(&[])
}

fn set_domainname(name: &str) -> nix::Result<()> {
    // SAFETY: the text is live and its length is its own.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Rather than making another container than the one that was asked for.
fn refuse_unsupported(spec: &Spec) -> Result<(), NativeError> {
    let linux = spec.linux().as_ref();
    let hooks = spec.hooks().as_ref().is_some_and(|hooks| {
        let value = serde_json::to_value(hooks).unwrap_or_default();
        value
            .as_object()
            .is_some_and(|all| all.values().any(|list| list.as_array().is_some_and(|list| !list.is_empty())))
    });
    let label = linux.and_then(|linux| linux.mount_label().as_ref()).is_some_and(|label| !label.is_empty());
    let has = |asked: fn(&Linux) -> bool| linux.is_some_and(asked);
    let asked = [
        (hooks, "a hook"),
        (label, "an SELinux label for mounts"),
        (has(|linux| linux.intel_rdt().is_some()), "intelRdt"),
        (has(|linux| linux.personality().is_some()), "a personality"),
        (has(|linux| linux.memory_policy().is_some()), "a memory policy"),
        (has(|linux| linux.time_offsets().as_ref().is_some_and(|all| !all.is_empty())), "a time offset"),
        (
            has(|linux| linux.net_devices().as_ref().is_some_and(|all| !all.is_empty())),
            "a moved network device",
        ),
    ];
    match asked.into_iter().find(|(asked, _)| *asked) {
        Some((_, what)) => Err(NativeError::Unsupported(what)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_ignored_is_refused() {
        let check = |json: serde_json::Value, expected: Option<&str>| {
            let spec: Spec = serde_json::from_value(json.clone()).expect("is a spec");
            let refused = refuse_unsupported(&spec).err().map(|error| error.to_string());
            assert_eq!(refused.as_deref(), expected, "{json}");
        };
        let version = "1.0.2";
        check(serde_json::json!({ "ociVersion": version, "hooks": { "poststop": [] } }), None);
        let hook = serde_json::json!({ "path": "/bin/true" });
        let json = serde_json::json!({ "ociVersion": version, "hooks": { "prestart": [hook] } });
        check(json, Some("a hook is not supported"));
        let json = serde_json::json!({ "ociVersion": version, "linux": { "mountLabel": "a:b:c" } });
        check(json, Some("an SELinux label for mounts is not supported"));
        let json =
            serde_json::json!({ "ociVersion": version, "linux": { "personality": { "domain": "LINUX32" } } });
        check(json, Some("a personality is not supported"));
    }
}
