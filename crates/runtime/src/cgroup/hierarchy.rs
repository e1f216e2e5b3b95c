//! Where the hierarchies are mounted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    pub mount: PathBuf,
    /// The controllers of version 1; empty for version 2.
    pub controllers: Vec<String>,
    pub unified: bool,
}

impl Hierarchy {
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }
}

/// Every hierarchy. They are looked for once in the life of a process, since a node's table of
/// mounts is long and those of cgroups do not change.
pub fn mounted() -> io::Result<&'static [Hierarchy]> {
    static MOUNTED: OnceLock<Vec<Hierarchy>> = OnceLock::new();
    if let Some(known) = MOUNTED.get() {
        return Ok(known);
    }
    let found = parse_hierarchies(&std::fs::read_to_string("/proc/self/mountinfo")?);
    Ok(MOUNTED.get_or_init(|| found))
}

/// Where this process is in each of `hierarchies`.
pub fn own_paths(proc_cgroup: &str, hierarchies: &[Hierarchy]) -> Vec<Option<PathBuf>> {
    let entries: Vec<(&str, &str)> = proc_cgroup
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .collect();
    let of = |hierarchy: &Hierarchy| {
        let matches = |controllers: &str| match hierarchy.unified {
            true => controllers.is_empty(),
            false => !controllers.is_empty() && controllers.split(',').all(|name| hierarchy.has(name)),
        };
        let (_, path) = entries.iter().find(|(controllers, _)| matches(controllers))?;
        Some(hierarchy.mount.join(path.strip_prefix('/').unwrap_or(path)))
    };
    hierarchies.iter().map(of).collect()
}

pub fn parse_hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let (Some(mount), mut right) = (left.split(' ').nth(4), right.split(' ')) else { continue };
        let unified = match right.next() {
            Some("cgroup2") => true,
            Some("cgroup") => false,
            Some(_) | None => continue,
        };
        let options = right.nth(1).unwrap_or_default();
        let controllers = if unified { Vec::new() } else { options.split(',').map(str::to_owned).collect() };
        let mount = PathBuf::from(mount);
        if !hierarchies.iter().any(|known| known.mount == mount) {
            hierarchies.push(Hierarchy { mount, controllers, unified });
        }
    }
    hierarchies
}

/// The name by which a hierarchy is known below `/sys/fs/cgroup`.
pub fn name(hierarchy: &Hierarchy) -> Option<&Path> {
    hierarchy.mount.file_name().map(Path::new)
}
