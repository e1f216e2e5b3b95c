//! What a machine is like, as far as checks ask. Reading changes nothing.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

/// Kernel features and the module that brings each.
pub const FEATURES: [(&str, &str); 4] =
    [("overlayfs", "overlay"), ("nf_tables", "nf_tables"), ("bridge", "bridge"), ("veth", "veth")];
pub const NAMESPACES: [&str; 6] = ["mnt", "pid", "net", "ipc", "uts", "cgroup"];

#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub root: bool,
    /// `uname -r`
    pub kernel: String,
    /// The namespaces of [`NAMESPACES`] that the kernel has.
    pub namespaces: Vec<String>,
    /// The modules of [`FEATURES`] that are loaded, built in or can be loaded.
    pub modules: Vec<String>,
    /// `actions_avail` of seccomp; none without it.
    pub seccomp: Option<String>,
    pub ip_forward: Option<String>,
    pub cgroup: Cgroup,
    pub inotify_instances: Option<u64>,
    pub inotify_watches: Option<u64>,
    /// The soft and the hard limit of open files.
    pub open_files: Option<(u64, u64)>,
    /// Whether the API's port is free, and its number.
    pub api_port: (u16, bool),
    /// Whether something serves DNS on every address, also on the cluster's.
    pub dns_taken: bool,
    /// Free bytes and free inodes where data is kept.
    pub disk: Option<(u64, u64)>,
    /// Free memory in bytes.
    pub memory: Option<u64>,
    /// Seconds since 1970.
    pub clock: u64,
}

/// The layout of cgroups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cgroup {
    #[default]
    None,
    /// Controllers in hierarchies of their own, with or without an empty unified one.
    V1 { controllers: Vec<String>, hybrid: bool },
    /// One hierarchy with all controllers.
    V2 { controllers: Vec<String> },
}

impl Snapshot {
    pub fn take(data_dir: &Path, api_port: u16) -> Self {
        let number = |path: &str| read(path).and_then(|text| text.parse().ok());
        let kernel = read("/proc/sys/kernel/osrelease").unwrap_or_default();
        let exists = |name: &&&str| Path::new("/proc/self/ns").join(name).exists();
        Snapshot {
            root: nix::unistd::geteuid().is_root(),
            namespaces: NAMESPACES.iter().filter(exists).map(|name| (*name).to_owned()).collect(),
            modules: modules(&kernel),
            kernel,
            seccomp: read("/proc/sys/kernel/seccomp/actions_avail"),
            ip_forward: read("/proc/sys/net/ipv4/ip_forward"),
            cgroup: cgroup(&read("/proc/self/mounts").unwrap_or_default(), read),
            inotify_instances: number("/proc/sys/fs/inotify/max_user_instances"),
            inotify_watches: number("/proc/sys/fs/inotify/max_user_watches"),
            open_files: nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).ok(),
            api_port: (api_port, TcpListener::bind((Ipv4Addr::LOCALHOST, api_port)).is_ok()),
            dns_taken: ["/proc/net/tcp", "/proc/net/udp"]
                .into_iter()
                .chain(["/proc/net/tcp6", "/proc/net/udp6"])
                .any(|path| read(path).is_some_and(|table| serves_everywhere(&table, 53))),
            disk: disk(data_dir),
            memory: read("/proc/meminfo").and_then(|text| memory(&text)),
            clock: std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs()),
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn modules(kernel: &str) -> Vec<String> {
    let directory = format!("/lib/modules/{kernel}");
    let builtin = read(&format!("{directory}/modules.builtin")).unwrap_or_default();
    let loadable = read(&format!("{directory}/modules.dep")).unwrap_or_default();
    let filesystems = read("/proc/filesystems").unwrap_or_default();
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    // What each defines: kernels without modules have no other list.
    let symbol = |module: &str| match module {
        "nf_tables" => " nft_register_chain_type",
        "bridge" => " br_add_bridge",
        "veth" => " veth_newlink",
        _ => " ovl_fill_super",
    };
    let present = |module: &str| {
        let file = format!("/{module}.ko");
        Path::new("/sys/module").join(module).exists()
            || builtin.lines().any(|line| line.contains(&file))
            || loadable.lines().any(|line| line.split(':').next().is_some_and(|path| path.contains(&file)))
            || module == "overlay" && filesystems.lines().any(|line| line.trim() == "nodev\toverlay")
            || symbols.lines().any(|line| line.contains(symbol(module)))
    };
    FEATURES.iter().map(|(_, module)| *module).filter(|module| present(module)).map(str::to_owned).collect()
}

/// The layout that a table of mounts shows.
pub fn cgroup(mounts: &str, read: impl Fn(&str) -> Option<String>) -> Cgroup {
    let mut controllers = Vec::new();
    let mut unified = None;
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(path), Some(kind), Some(options)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        match kind {
            "cgroup" => controllers.extend(options.split(',').map(str::to_owned)),
            "cgroup2" => unified = Some(path),
            _ => {}
        }
    }
    let wanted = super::checks::CONTROLLERS;
    controllers.retain(|name| wanted.contains(&name.as_str()));
    match unified {
        Some(path) if controllers.is_empty() => {
            let list = read(&format!("{path}/cgroup.controllers")).unwrap_or_default();
            Cgroup::V2 { controllers: list.split_whitespace().map(str::to_owned).collect() }
        }
        hybrid if !controllers.is_empty() => Cgroup::V1 { controllers, hybrid: hybrid.is_some() },
        _ => Cgroup::None,
    }
}

/// Whether a table of sockets has one on a port of every address.
pub fn serves_everywhere(table: &str, port: u16) -> bool {
    let port = format!("{port:04X}");
    table.lines().filter_map(|line| line.split_whitespace().nth(1)).any(|local| {
        local
            .split_once(':')
            .is_some_and(|(address, at)| at == port && address.bytes().all(|byte| byte == b'0'))
    })
}

/// Of the directory, or of the first above it that exists.
fn disk(path: &Path) -> Option<(u64, u64)> {
    let existing = path.ancestors().find(|path| path.exists())?;
    let found = nix::sys::statvfs::statvfs(existing).ok()?;
    Some((found.blocks_available() * found.fragment_size(), found.files_available()))
}

fn memory(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}
