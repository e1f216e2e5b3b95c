//! The namespaces that a container makes and those that it joins.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::{Linux, LinuxNamespaceType};

use super::id_map::{self, IdMapError};

#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    #[error("namespace {0:?} is named twice")]
    Twice(LinuxNamespaceType),
    #[error("mapping users")]
    Users(#[source] IdMapError),
    #[error("mapping groups")]
    Groups(#[source] IdMapError),
    #[error("joining namespace {path}")]
    Join { path: PathBuf, source: io::Error },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespaces {
    /// Made when the process is forked.
    pub new: CloneFlags,
    /// A cgroup namespace has the root where its maker is: it comes when the cgroup was entered.
    pub new_cgroup: bool,
    pub joined: Vec<(CloneFlags, PathBuf)>,
    /// The texts of `uid_map` and `gid_map`, for a new user namespace.
    pub id_maps: Option<(String, String)>,
}

impl Namespaces {
    pub fn of(linux: &Linux) -> Result<Namespaces, NamespaceError> {
        let mut all =
            Namespaces { new: CloneFlags::empty(), new_cgroup: false, joined: Vec::new(), id_maps: None };
        let mut seen = Vec::new();
        for namespace in linux.namespaces().iter().flatten() {
            let kind = namespace.typ();
            if seen.contains(&kind) {
                return Err(NamespaceError::Twice(kind));
            }
            seen.push(kind);
            let flag = match kind {
                LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
                LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
                LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
                LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
                LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
                LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
                LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
                LinuxNamespaceType::Time => return Err(NamespaceError::Unsupported("a time namespace")),
            };
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                Some(path) => all.joined.push((flag, path.clone())),
                None if kind == LinuxNamespaceType::Cgroup => all.new_cgroup = true,
                None => all.new |= flag,
            }
        }
        if !all.new.contains(CloneFlags::CLONE_NEWNS) {
            return Err(NamespaceError::Unsupported("a container without a mount namespace of its own"));
        }
        if all.joined.iter().any(|(flag, _)| *flag == CloneFlags::CLONE_NEWUSER) {
            return Err(NamespaceError::Unsupported("joining a user namespace"));
        }
        if all.new.contains(CloneFlags::CLONE_NEWUSER) {
            let list = |mappings: &Option<Vec<_>>| mappings.clone().unwrap_or_default();
            let users = id_map::text(&list(linux.uid_mappings())).map_err(NamespaceError::Users)?;
            let groups = id_map::text(&list(linux.gid_mappings())).map_err(NamespaceError::Groups)?;
            all.id_maps = Some((users, groups));
        }
        Ok(all)
    }

    pub fn maps_users(&self) -> bool {
        self.id_maps.is_some()
    }

    /// Joins, with the calling process and those that it forks from now on.
    pub fn join(&self) -> Result<(), NamespaceError> {
        for (flag, path) in &self.joined {
            let joined = File::open(path).and_then(|file| Ok(setns(file, *flag)?));
            joined.map_err(|source| NamespaceError::Join { path: path.clone(), source })?;
        }
        Ok(())
    }

    /// Maps the users of a forked process, by one who may: then its own groups may be changed too.
    pub fn map_users(&self, pid: i32) -> io::Result<()> {
        if let Some((users, groups)) = &self.id_maps {
            std::fs::write(format!("/proc/{pid}/uid_map"), users)?;
            std::fs::write(format!("/proc/{pid}/gid_map"), groups)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(namespaces: serde_json::Value) -> Result<Namespaces, String> {
        let json = serde_json::json!({
            "namespaces": namespaces,
            "uidMappings": [{ "containerID": 0, "hostID": 1000, "size": 10 }],
            "gidMappings": [{ "containerID": 0, "hostID": 2000, "size": 10 }],
        });
        let linux: Linux = serde_json::from_value(json).expect("is a spec");
        Namespaces::of(&linux).map_err(|error| error.to_string())
    }

    #[test]
    fn some_are_made_and_some_are_joined() {
        let all = of(serde_json::json!([
            { "type": "mount" }, { "type": "pid" }, { "type": "cgroup" },
            { "type": "network", "path": "/run/netns/a" }, { "type": "ipc", "path": "" },
        ]));
        let all = all.expect("is possible");
        assert_eq!(all.new, CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC);
        assert!(all.new_cgroup && !all.maps_users());
        assert_eq!(all.joined, [(CloneFlags::CLONE_NEWNET, "/run/netns/a".into())]);
        let mapped = of(serde_json::json!([{ "type": "mount" }, { "type": "user" }])).expect("is possible");
        assert_eq!(mapped.id_maps, Some(("0 1000 10\n".into(), "0 2000 10\n".into())));
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let check = |namespaces: serde_json::Value, expected: &str| {
            assert_eq!(of(namespaces).expect_err("is refused"), expected);
        };
        let json = serde_json::json!([{ "type": "pid" }]);
        check(json, "a container without a mount namespace of its own is not supported");
        let json = serde_json::json!([{ "type": "mount" }, { "type": "user", "path": "/x" }]);
        check(json, "joining a user namespace is not supported");
        let json = serde_json::json!([{ "type": "mount" }, { "type": "mount" }]);
        check(json, "namespace Mount is named twice");
    }
}
