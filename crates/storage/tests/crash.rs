//! Kills a process that writes, and looks at what it leaves.
//!
//! `SAMPAN_CRASH_ROUNDS` and `SAMPAN_CRASH_WRITES` make it longer than a test run should be.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use sampan_storage::{Entry, Expect, Options, RedbStore, Store, Write};

const CHILD: &str = "SAMPAN_CRASH_CHILD";
const ROUND: &str = "SAMPAN_CRASH_ROUND";
/// Each writer's commits, one after the other.
const EACH: u64 = 4;

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let writes: u64 = number("SAMPAN_CRASH_WRITES", 2000);
    if let Ok(path) = std::env::var(CHILD) {
        return write_until_killed(&PathBuf::from(path), number(ROUND, 0), writes / EACH);
    }
    let dir = tempfile::TempDir::new().expect("a directory");
    let path = dir.path().join("store");
    let mut revision = 0;
    let mut known = BTreeMap::new();
    let mut killed_early = 0;
    for round in 0..number("SAMPAN_CRASH_ROUNDS", 6) {
        // Anywhere from the first acknowledgement to the last.
        let kill_after = u64::from(rand_u32()) % writes + 1;
        let acknowledged = run_child(&path, round, kill_after, &mut known);
        assert!(acknowledged > 0, "the child reported nothing");
        killed_early += u64::from(acknowledged < writes);
        println!("round {round}: killed after {acknowledged} of {writes} commits");
        revision = check(&path, &known, revision);
    }
    assert!(killed_early > 0, "every child had finished before it was killed");
}

/// A number from the process's own hash seed, which is random.
fn rand_u32() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0) as u32
}

/// Ends the child when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a child, kills it after so many acknowledgements, and notes each of those it reported.
fn run_child(path: &Path, round: u64, kill_after: u64, known: &mut BTreeMap<String, (u64, String)>) -> u64 {
    let mut child = Killed(
        Command::new(std::env::current_exe().expect("runs"))
            .args(["--exact", "what_was_acknowledged_survives_a_kill", "--nocapture"])
            .env(CHILD, path)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts"),
    );
    let mut output = BufReader::new(child.0.stdout.take().expect("piped"));
    let mut acknowledged = 0;
    let mut line = String::new();
    while output.read_line(&mut line).expect("reads") > 0 {
        // A line without an end was cut by the kill.
        if let Some(rest) = line.strip_prefix("stored ").and_then(|rest| rest.strip_suffix('\n')) {
            let mut words = rest.split(' ');
            let (Some(revision), Some(value)) = (words.next(), words.next()) else { panic!("{line}") };
            let revision: u64 = revision.parse().expect("a revision");
            for key in words {
                let old = known.insert(key.to_owned(), (revision, value.to_owned()));
                assert!(old.is_none_or(|(old, _)| old < revision), "revisions of {key} grow");
            }
            acknowledged += 1;
            if acknowledged == kill_after {
                child.0.kill().expect("is ours");
            }
        }
        line.clear();
    }
    acknowledged
}

/// Opens what the child left; answers its revision.
fn check(path: &Path, known: &BTreeMap<String, (u64, String)>, before: u64) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let store = RedbStore::open(path, Options::default()).expect("opens after a kill");
        let snapshot = store.list("").await.expect("works");
        assert!(snapshot.revision >= before, "the revision went back");
        let entries: BTreeMap<&str, &Entry> =
            snapshot.entries.iter().map(|entry| (&*entry.key, entry)).collect();
        for (key, (revision, value)) in known {
            assert!(*revision <= snapshot.revision);
            let entry = entries.get(key.as_str()).unwrap_or_else(|| panic!("{key} is lost"));
            assert!(entry.revision >= *revision, "{key} is older than acknowledged");
            assert!(entry.revision > *revision || entry.value == value.as_bytes(), "{key} has another value");
        }
        let mut commits: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
        for entry in &snapshot.entries {
            assert!(entry.revision <= snapshot.revision);
            commits.entry(entry.revision).or_default().insert(&entry.key);
        }
        for keys in commits.values() {
            // A pair is written by one commit only: neither half can be there without the other.
            let pairs: BTreeSet<&str> = keys.iter().map(|key| key.trim_end_matches(['a', 'b'])).collect();
            assert_eq!(pairs.len(), 1, "one commit, one revision: {keys:?}");
            assert_eq!(
                keys.len() == 2,
                keys.iter().any(|key| key.starts_with("/pair")),
                "half a commit: {keys:?}"
            );
        }
        let next = store.commit(Write::put("/check", "1")).await.expect("writes on");
        assert_eq!(next, snapshot.revision + 1);
        store.commit(Write::delete("/check", Expect::Any)).await.expect("exists")
    })
}

/// Writes with many writers at once and reports each commit after it returned.
fn write_until_killed(path: &Path, round: u64, writers: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        let store = Arc::new(RedbStore::open(path, Options::default()).expect("opens"));
        let tasks: Vec<_> =
            (0..writers).map(|writer| tokio::spawn(write_and_report(store.clone(), round, writer))).collect();
        for task in tasks {
            task.await.expect("does not panic");
        }
    });
}

async fn write_and_report(store: Arc<RedbStore>, round: u64, writer: u64) {
    // Keys of an earlier round are written again by every second writer.
    let place = if writer.is_multiple_of(2) { 0 } else { round };
    let keys = match writer % 3 {
        0 => vec![format!("/pair/{place}/{writer}/a"), format!("/pair/{place}/{writer}/b")],
        _ => vec![format!("/single/{place}/{writer}")],
    };
    for turn in 0..EACH {
        let value = format!("{round}.{writer}.{turn}.{}", "x".repeat((writer % 7 * 300) as usize));
        let writes = keys.iter().map(|key| Write::put(key.as_str(), value.clone())).collect();
        let revision = store.commit_all(writes).await.expect("no expectation");
        let line = format!("stored {revision} {value} {}\n", keys.join(" "));
        std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent reads");
    }
}
