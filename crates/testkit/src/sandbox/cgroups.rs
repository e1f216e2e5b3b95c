//! The cgroups of a sandbox: one per hierarchy of the host, version 1, version 2, or both.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A mounted hierarchy.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    pub path: PathBuf,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Mount options that name its controllers, such as `cpu,cpuacct` or `name=systemd`.
    V1(String),
    V2,
}

/// The hierarchies that are mounted here.
pub fn hierarchies() -> Result<Vec<Hierarchy>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("cannot read the mounts")?;
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<Hierarchy> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut filesystem = filesystem.split(' ');
    let kind = match filesystem.next()? {
        "cgroup2" => Kind::V2,
        "cgroup" => {
            let all = filesystem.nth(1)?;
            let options: Vec<&str> =
                all.split(',').filter(|option| !matches!(*option, "rw" | "ro")).collect();
            Kind::V1(options.join(","))
        }
        _ => return None,
    };
    Some(Hierarchy { path: mount.split(' ').nth(4)?.into(), kind })
}

/// Makes the cgroup `name` in each hierarchy.
pub fn create(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        if hierarchy.kind == Kind::V2 {
            // Best effort: a hierarchy without these controllers limits nothing, and the other ones do.
            let _ =
                fs::write(hierarchy.path.join("cgroup.subtree_control"), "+cpu +cpuset +memory +pids +io");
        }
        let path = hierarchy.path.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // Nothing can join a cpuset that allows no processor.
            if hierarchy.kind != Kind::V2 && path.join(file).exists() {
                let value = fs::read_to_string(hierarchy.path.join(file))?;
                fs::write(path.join(file), value.trim())?;
            }
        }
    }
    Ok(())
}

/// Moves this process into the cgroup `name`, relative to what is mounted here.
pub fn join(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let path = hierarchy.path.join(name).join("cgroup.procs");
        fs::write(&path, "0").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Joins the place for processes that are no pods.
///
/// In version 2 only leaves hold processes, so that they need one of their own; in version 1 the root does.
pub fn join_leaf() -> Result<()> {
    for hierarchy in hierarchies()? {
        let directory = match hierarchy.kind {
            Kind::V1(_) => hierarchy.path,
            Kind::V2 => hierarchy.path.join("init"),
        };
        fs::create_dir_all(&directory)?;
        let path = directory.join("cgroup.procs");
        fs::write(&path, "0").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Removes the cgroup `name` with all below it.
///
/// # Errors
/// When a process is left in one of them.
pub fn remove(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let path = hierarchy.path.join(name);
        remove_tree(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn remove_tree(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
