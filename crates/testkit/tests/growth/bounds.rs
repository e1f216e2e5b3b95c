//! The bounds, and what is seen of what they bound.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sampan_testkit::Cluster;
use sampan_testkit::command::DEADLINE;
use serde_json::Value;

use crate::{AUDIT_BACKUPS, AUDIT_FILE_BYTES, EVENT_TTL_S, LOG_FILE_BYTES, LOG_FILES, load};

/// The store's history, as documented: events and bytes.
const HISTORY_EVENTS: u64 = 32_768;
const HISTORY_BYTES: u64 = 16 << 20;
/// The store's file is rewritten beyond this, when it is so many times what it holds.
const FILE_BYTES: u64 = 32 << 20;
const FILE_RATIO: u64 = 4;
/// Runs of a container of which logs are there at once: the last two, and one more while the next one runs.
const RUNS: u64 = 3;
/// What a container may write before its file is looked at: a line and a read.
const FLUSH: u64 = 64 << 10;
/// Events live a little longer than they should where the server has much to do.
const LATE: u64 = 4;

/// Where things are kept.
pub struct Bounds {
    audit: PathBuf,
    store: PathBuf,
    logs: PathBuf,
}

/// Sizes at one time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Where history begins.
    oldest_revision: u64,
    history_events: u64,
    history_bytes: u64,
    live_bytes: u64,
    store_bytes: u64,
    events: u64,
    audit_bytes: u64,
    /// Of the container with the most.
    log_bytes: u64,
    /// Containers with logs.
    logs: u64,
    memory_bytes: u64,
}

impl Bounds {
    pub fn new(cluster: &Cluster, audit: &Path) -> Bounds {
        let data = cluster.data_dir();
        Bounds { audit: audit.to_owned(), store: data.join("store"), logs: data.join("logs/pods") }
    }

    pub fn look(&self, cluster: &Cluster) -> Seen {
        let stats = stats(cluster);
        let figure = |name: &str| stats[name].as_u64().unwrap_or_else(|| panic!("{name} of {stats}"));
        let resources = stats["resources"].as_array().expect("a list");
        let events = resources.iter().find(|one| one["resource"] == "events");
        let containers: Vec<u64> = containers(&self.logs).iter().map(|path| size(path)).collect();
        Seen {
            oldest_revision: figure("oldestRevision"),
            history_events: figure("historyEvents"),
            history_bytes: figure("historyBytes"),
            live_bytes: figure("liveBytes"),
            store_bytes: size(&self.store),
            events: events.map_or(0, |events| events["entries"].as_u64().expect("a number")),
            audit_bytes: size(&self.audit),
            log_bytes: containers.iter().copied().max().unwrap_or_default(),
            logs: containers.len() as u64,
            memory_bytes: memory(cluster.server_pid()),
        }
    }

    /// Each is within its bound.
    #[track_caller]
    pub fn hold(&self, seen: &Seen) {
        let within =
            |name: &str, is: u64, bound: u64| assert!(is <= bound, "{name}: {is} of {bound}, {seen}");
        within("events of history", seen.history_events, HISTORY_EVENTS);
        within("bytes of history", seen.history_bytes, HISTORY_BYTES);
        // Beside the file that is rewritten there is the new one.
        let file = FILE_BYTES.max(FILE_RATIO * seen.live_bytes);
        within("the store", seen.store_bytes, 2 * file);
        within("events", seen.events, LATE * EVENT_TTL_S * load::EVENTS_A_SECOND);
        // A file may be seen twice, before and after it is moved.
        within("the audit log", seen.audit_bytes, (AUDIT_BACKUPS + 2) * AUDIT_FILE_BYTES);
        within("a container's log", seen.log_bytes, RUNS * LOG_FILES * (LOG_FILE_BYTES + FLUSH));
    }

    /// Whether each was come to, so that it was one.
    pub fn are_reached(&self, most: &Seen) -> bool {
        most.oldest_revision > 0
            && most.audit_bytes > AUDIT_BACKUPS * AUDIT_FILE_BYTES
            && most.log_bytes > (LOG_FILES - 1) * LOG_FILE_BYTES
            && most.events > 0
    }

    /// All audit logs there are, one after the other, but for one that is removed meanwhile.
    pub fn audit_text(&self) -> String {
        let mut files: Vec<PathBuf> = entries(&self.audit);
        files.sort();
        files.iter().filter_map(|path| fs::read_to_string(path).ok()).collect()
    }

    /// Whether there are as many audit logs as may be, and none has this any more.
    pub fn audit_forgot(&self, text: &str) -> bool {
        entries(&self.audit).len() as u64 > AUDIT_BACKUPS && !self.audit_text().contains(text)
    }

    /// The runs of which a pod of the load has logs.
    pub fn runs(&self, pod: &str) -> Vec<u32> {
        let start = format!("load_{pod}_");
        let of_pod = |path: &PathBuf| path.parent().is_some_and(|pod| file_name(pod).starts_with(&start));
        let files = containers(&self.logs).into_iter().filter(of_pod).flat_map(|path| entries(&path));
        files
            .map(|path| file_name(&path).split('.').next().expect("a name").parse().expect("a run"))
            .collect()
    }

    /// The directories of pods that have logs, which end with the pods' identities.
    pub fn logged_pods(&self) -> Vec<String> {
        entries(&self.logs).iter().map(|path| file_name(path).to_owned()).collect()
    }

    /// Waits for what the server does by the way.
    pub fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !holds() {
            assert!(Instant::now() < end, "{what}: {:?}", self.logged_pods());
            std::thread::yield_now();
        }
    }
}

impl Seen {
    /// The largest of each.
    pub fn max(&self, other: &Seen) -> Seen {
        Seen {
            oldest_revision: self.oldest_revision.max(other.oldest_revision),
            history_events: self.history_events.max(other.history_events),
            history_bytes: self.history_bytes.max(other.history_bytes),
            live_bytes: self.live_bytes.max(other.live_bytes),
            store_bytes: self.store_bytes.max(other.store_bytes),
            events: self.events.max(other.events),
            audit_bytes: self.audit_bytes.max(other.audit_bytes),
            log_bytes: self.log_bytes.max(other.log_bytes),
            logs: self.logs.max(other.logs),
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "history from revision {}, {} events, {:.1} MB; store {:.1} MB of which {:.1} MB live; {} events; audit log {:.1} MB; \
             a container's log {:.2} MB, {} containers; memory {:.0} MB",
            self.oldest_revision,
            self.history_events,
            mb(self.history_bytes),
            mb(self.store_bytes),
            mb(self.live_bytes),
            self.events,
            mb(self.audit_bytes),
            mb(self.log_bytes),
            self.logs,
            mb(self.memory_bytes)
        )
    }
}

/// What the server says of its store.
fn stats(cluster: &Cluster) -> Value {
    let data = cluster.data_dir();
    let data = data.to_str().expect("text");
    cluster.sampan(&["storage", "stats", "--json", "--data-dir", data]).ok().json()
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("text")
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The directories of containers' logs.
fn containers(logs: &Path) -> Vec<PathBuf> {
    entries(logs).iter().flat_map(|pod| entries(pod)).collect()
}

/// Bytes of all files in a directory, each once. What is removed meanwhile is not there.
fn size(directory: &Path) -> u64 {
    let mut files = BTreeMap::new();
    for path in entries(directory) {
        if let Ok(metadata) = fs::symlink_metadata(path) {
            files.insert(metadata.ino(), metadata.len());
        }
    }
    files.values().sum()
}

/// The memory that a process has of its own and shares, in bytes.
fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("says so");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes << 10
}
