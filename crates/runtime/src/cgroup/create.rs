//! How a cgroup is made and entered.
//!
//! A process enters by writing to `tasks` itself, which is allowed without the lock that moving
//! another process takes: under that lock the kernel waits for every CPU, milliseconds where the
//! machine is busy. In version 2 it is born in the cgroup (`CLONE_INTO_CGROUP`).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;

use super::hierarchy::{self, Hierarchy, own_paths};
use super::settings;
use super::{Cgroup, device_filter, devices, write};

/// What counts and restricts every container, limited or not.
const ALWAYS: [&str; 5] = ["cpu", "cpuacct", "memory", "pids", "devices"];
/// The controllers of version 2 by what version 1 calls them.
const UNIFIED: [(&str, &str); 6] = [
    ("cpu", "cpu"),
    ("cpuset", "cpuset"),
    ("memory", "memory"),
    ("pids", "pids"),
    ("blkio", "io"),
    ("hugetlb", "hugetlb"),
];

/// What a process needs to enter a cgroup, opened by one who may.
pub struct Membership {
    /// `tasks` of version 1.
    pub tasks: Vec<File>,
    /// The directory of version 2.
    pub unified: Option<File>,
}

impl Membership {
    /// Enters with the calling process, which has one thread, wherever it was not born.
    pub fn join(&self) -> io::Result<()> {
        self.tasks.iter().try_for_each(|mut file| file.write_all(b"0"))
    }

    pub fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(File::as_fd)
    }
}

impl Cgroup {
    /// Makes the cgroup where `resources` ask for it, and limits it. What exists is taken as it is.
    pub fn create(&self, resources: &LinuxResources) -> io::Result<Membership> {
        if let Some(what) = settings::unsupported(resources) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, format!("{what} are not supported")));
        }
        let limits = settings::settings(resources, |name| self.is_unified(name));
        let unified = resources.unified().iter().flatten();
        let mut limited: Vec<&str> = ALWAYS.to_vec();
        limited.extend(limits.iter().map(|limit| limit.controller));
        let wanted = |hierarchy: &Hierarchy| match hierarchy.unified {
            false => limited.iter().any(|name| hierarchy.has(name)),
            true => unified.clone().next().is_some() || limited.iter().any(|name| self.is_unified(name)),
        };
        for (hierarchy, dir) in self.dirs.iter().filter(|(hierarchy, _)| wanted(hierarchy)) {
            if hierarchy.unified {
                enable(&hierarchy.mount, dir, &limited)?;
            } else {
                std::fs::create_dir_all(dir).map_err(|error| named("making", dir, &error))?;
                if hierarchy.has("cpuset") {
                    inherit_cpuset(&hierarchy.mount, dir)?;
                }
            }
        }
        self.limit(&limits)?;
        for (file, value) in unified {
            let (dir, _) = self.dirs.iter().find(|(hierarchy, _)| hierarchy.unified).map_or_else(
                || Err(io::Error::new(io::ErrorKind::Unsupported, "no cgroup of version 2 for unified")),
                |(hierarchy, dir)| Ok((dir, hierarchy)),
            )?;
            if file.is_empty() || file.contains('/') {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("{file:?} is no cgroup file"),
                ));
            }
            write(&dir.join(file), value)?;
        }
        self.restrict_devices(&devices::rules(resources.devices().as_deref().unwrap_or_default()))?;
        self.membership()
    }

    fn restrict_devices(&self, rules: &[devices::Rule]) -> io::Result<()> {
        match self.controller("devices") {
            Some((dir, false)) => rules.iter().try_for_each(|rule| {
                let file = if rule.allow { "devices.allow" } else { "devices.deny" };
                write(&dir.join(file), &devices::text(rule))
            }),
            // The list of one rule that allows everything needs no program.
            Some(_) if rules.len() == 1 && rules[0].allow => Ok(()),
            Some((dir, true)) => device_filter::attach(File::open(dir)?.as_fd(), rules)
                .map_err(|error| named("restricting the devices of", dir, &error)),
            None => Ok(()),
        }
    }

    /// For a process that is to enter where the cgroup exists.
    pub fn membership(&self) -> io::Result<Membership> {
        let mut membership = Membership { tasks: Vec::new(), unified: None };
        for (hierarchy, dir) in &self.dirs {
            let opened = match hierarchy.unified {
                false => File::options().write(true).open(dir.join("tasks")),
                true => File::open(dir),
            };
            match opened {
                Ok(file) if hierarchy.unified => membership.unified = Some(file),
                Ok(file) => membership.tasks.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(named("opening", dir, &error)),
            }
        }
        Ok(membership)
    }

    /// Where a process that entered is in each hierarchy: the name below `/sys/fs/cgroup`, the
    /// controllers, the directory. It is in the cgroup, or where this process is.
    pub fn places(&self) -> io::Result<Vec<(PathBuf, Vec<String>, PathBuf)>> {
        let hierarchies: Vec<Hierarchy> = self.dirs.iter().map(|(hierarchy, _)| hierarchy.clone()).collect();
        let own = own_paths(&std::fs::read_to_string("/proc/self/cgroup")?, &hierarchies);
        let mut places = Vec::new();
        for ((hierarchy, dir), own) in self.dirs.iter().zip(own) {
            let place = if dir.is_dir() { Some(dir.clone()) } else { own };
            if let (Some(place), Some(name)) = (place, hierarchy::name(hierarchy)) {
                places.push((name.to_owned(), hierarchy.controllers.clone(), place));
            }
        }
        Ok(places)
    }

    /// Its directory in the hierarchy of version 2.
    pub fn unified_dir(&self) -> Option<PathBuf> {
        self.dirs.iter().find(|(hierarchy, _)| hierarchy.unified).map(|(_, dir)| dir.clone())
    }

    /// Whether version 2 is the only one.
    pub fn is_only_unified(&self) -> bool {
        self.dirs.iter().all(|(hierarchy, _)| hierarchy.unified)
    }
}

fn named(what: &str, path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

/// Makes a cgroup of version 2. A controller reaches it through every one above it.
fn enable(mount: &Path, dir: &Path, limited: &[&str]) -> io::Result<()> {
    let below = dir.strip_prefix(mount).unwrap_or(Path::new(""));
    let mut parent = mount.to_owned();
    for part in below.components() {
        let available = std::fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
        let control = parent.join("cgroup.subtree_control");
        let enabled = std::fs::read_to_string(&control).unwrap_or_default();
        for (_, name) in UNIFIED.iter().filter(|(old, _)| limited.contains(old)) {
            let has = |list: &str| list.split_whitespace().any(|known| known == *name);
            if has(&available) && !has(&enabled) {
                write(&control, &format!("+{name}"))?;
            }
        }
        parent.push(part);
        match std::fs::create_dir(&parent) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(named("making", &parent, &error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// A cpuset of version 1 starts empty and takes no process: it gets what the one above it has.
fn inherit_cpuset(mount: &Path, dir: &Path) -> io::Result<()> {
    let mut chain: Vec<&Path> = dir.ancestors().take_while(|above| *above != mount).collect();
    chain.reverse();
    for dir in chain {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let path = dir.join(file);
            if std::fs::read_to_string(&path)?.trim().is_empty() {
                let above = std::fs::read_to_string(dir.parent().unwrap_or(mount).join(file))?;
                write(&path, above.trim())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().expect("is below another")).expect("is made");
        std::fs::write(path, text).expect("is written");
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).expect("is there")
    }

    #[test]
    fn controllers_of_version_2_are_passed_down() {
        let tree = tempfile::tempdir().expect("a directory");
        let mount = tree.path();
        file(&mount.join("cgroup.controllers"), "cpuset cpu memory\n");
        file(&mount.join("cgroup.subtree_control"), "cpu\n");
        file(&mount.join("pod/cgroup.controllers"), "cpu memory\n");
        file(&mount.join("pod/cgroup.subtree_control"), "");
        enable(mount, &mount.join("pod/one"), &["memory", "cpu", "pids", "devices"]).expect("is made");
        assert!(mount.join("pod/one").is_dir());
        // The kernel adds; a plain file keeps what came last.
        assert_eq!(read(&mount.join("cgroup.subtree_control")), "+memory");
        assert_eq!(read(&mount.join("pod/cgroup.subtree_control")), "+memory");
        enable(mount, &mount.join("pod/one"), &[]).expect("is there");
    }

    #[test]
    fn cpusets_have_what_is_above_them() {
        let tree = tempfile::tempdir().expect("a directory");
        let mount = tree.path();
        for (dir, cpus) in [("", "0-3\n"), ("pod", "\n"), ("pod/one", "")] {
            file(&mount.join(dir).join("cpuset.cpus"), cpus);
            file(&mount.join(dir).join("cpuset.mems"), if dir == "pod" { "1\n" } else { cpus });
        }
        inherit_cpuset(mount, &mount.join("pod/one")).expect("is filled");
        assert_eq!(read(&mount.join("pod/cpuset.cpus")), "0-3");
        assert_eq!(read(&mount.join("pod/one/cpuset.cpus")), "0-3");
        assert_eq!(read(&mount.join("pod/one/cpuset.mems")), "1");
    }

    #[test]
    fn own_places_are_found_by_controllers() {
        let hierarchy = |mount: &str, controllers: &[&str]| Hierarchy {
            mount: mount.into(),
            controllers: controllers.iter().map(|name| name.to_string()).collect(),
            unified: controllers.is_empty(),
        };
        let all = [
            hierarchy("/c/cpu,cpuacct", &["rw", "cpu", "cpuacct"]),
            hierarchy("/c/systemd", &["rw", "name=systemd"]),
            hierarchy("/c/unified", &[]),
            hierarchy("/c/pids", &["pids"]),
        ];
        let own = own_paths("4:cpu,cpuacct:/a:b\n2:name=systemd:/\n0::/u\nbroken\n", &all);
        let paths = ["/c/cpu,cpuacct/a:b", "/c/systemd", "/c/unified/u"].map(|path| Some(path.into()));
        assert_eq!(own[..3], paths);
        assert_eq!(own[3], None);
    }
}
