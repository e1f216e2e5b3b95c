//! The audit log: a file of JSON lines that is rotated before it grows too long, and whose backups are
//! bounded in number, age and size. Backups are named as upstream's are: `audit-2026-01-02T03-04-05.678.log`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use parking_lot::Mutex;

mod backups;

use backups::Backup;

/// Where lines go, and how many of them are kept.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// `-` is the standard output.
    pub path: PathBuf,
    pub limits: Limits,
    /// Whether backups are compressed.
    pub compress: bool,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one file.
    pub file_bytes: u64,
    /// The most backups beside the file that is written; any number where it is 0.
    pub backups: usize,
    /// Days that backups are kept; for ever where it is 0.
    pub age_days: u32,
    /// Bytes of all files together.
    pub total_bytes: u64,
}

/// An open log.
pub struct Log {
    config: LogConfig,
    open: Mutex<Open>,
}

enum Open {
    Stdout,
    File { file: File, written: u64 },
}

impl Log {
    pub fn open(config: LogConfig) -> io::Result<Self> {
        let open = if config.path == Path::new("-") {
            Open::Stdout
        } else {
            if let Some(directory) = config.path.parent().filter(|path| !path.as_os_str().is_empty()) {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            }
            let file = open_file(&config.path)?;
            let written = file.metadata()?.len();
            prune(&config, Timestamp::now());
            Open::File { file, written }
        };
        Ok(Log { config, open: Mutex::new(open) })
    }

    /// Appends lines, each with its end. What was written of them when it fails is cut off again where that
    /// is possible, so that the next line starts as one.
    pub fn append(&self, lines: &[u8]) -> io::Result<()> {
        let mut open = self.open.lock();
        match &mut *open {
            Open::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Open::File { file, written } => {
                let length = lines.len() as u64;
                if *written > 0 && *written + length > self.config.limits.file_bytes {
                    *file = self.rotate(Timestamp::now())?;
                    *written = 0;
                }
                if let Err(error) = file.write_all(lines) {
                    let _ = file.set_len(*written);
                    return Err(error);
                }
                *written += length;
                Ok(())
            }
        }
    }

    /// Makes a backup of the file and begins a new one.
    fn rotate(&self, now: Timestamp) -> io::Result<File> {
        let path = &self.config.path;
        let backup = backups::name(path, now);
        std::fs::rename(path, &backup)?;
        let file = open_file(path)?;
        let config = self.config.clone();
        // Compression takes long, and nobody should wait for it.
        let tidy = move || {
            if config.compress
                && let Err(error) = backups::compress(&backup)
            {
                tracing::warn!(%error, file = %backup.display(), "an audit log was not compressed");
            }
            prune(&config, now);
        };
        if self.config.compress {
            std::thread::Builder::new().name("audit-compress".to_owned()).spawn(tidy)?;
        } else {
            tidy();
        }
        Ok(file)
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Removes the backups that are one too many.
fn prune(config: &LogConfig, now: Timestamp) {
    let found = match backups::list(&config.path) {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, file = %config.path.display(), "old audit logs cannot be listed");
            return;
        }
    };
    for path in superfluous(&config.limits, found, now) {
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = %path.display(), "an old audit log was not removed");
        }
    }
}

/// Which backups the limits do not allow. Room is kept for a whole file that is being written.
fn superfluous(limits: &Limits, mut found: Vec<Backup>, now: Timestamp) -> Vec<PathBuf> {
    found.sort_by_key(|backup| std::cmp::Reverse(backup.time));
    let oldest = now.as_second() - i64::from(limits.age_days) * 24 * 3600;
    let mut bytes = limits.file_bytes;
    let mut kept = 0;
    let mut removed = Vec::new();
    for backup in found {
        bytes = bytes.saturating_add(backup.bytes);
        let too_many = limits.backups > 0 && kept == limits.backups;
        let too_old = limits.age_days > 0 && backup.time.as_second() < oldest;
        // What is older than one that has no room has none either.
        if too_many || too_old || bytes > limits.total_bytes {
            bytes = u64::MAX;
            removed.push(backup.path);
        } else {
            kept += 1;
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { file_bytes: 100, backups: 0, age_days: 0, total_bytes: 10_000 };

    fn log(directory: &Path, limits: Limits, compress: bool) -> Log {
        Log::open(LogConfig { path: directory.join("deep/audit.log"), limits, compress }).expect("a log")
    }

    fn files(directory: &Path) -> Vec<String> {
        let read = std::fs::read_dir(directory.join("deep")).expect("a directory");
        let mut names: Vec<String> =
            read.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_rotated_before_it_is_too_long_and_appended_to_when_reopened() {
        let directory = tempfile::tempdir().expect("a directory");
        let line = [b'x'; 60];
        log(directory.path(), LIMITS, false).append(&line).expect("written");
        let again = log(directory.path(), LIMITS, false);
        again.append(&line).expect("written");
        let names = files(directory.path());
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(names[0].starts_with("audit-20") && names[0].ends_with(".log"), "{names:?}");
        assert_eq!(names[1], "audit.log");
        // A line that alone is too long is still written.
        again.append(&[b'y'; 300]).expect("written");
        let length = std::fs::metadata(directory.path().join("deep/audit.log")).expect("a file").len();
        assert_eq!(length, 300);
    }

    #[test]
    fn backups_are_bounded_by_the_total_size() {
        let directory = tempfile::tempdir().expect("a directory");
        let limits = Limits { total_bytes: 350, ..LIMITS };
        let log = log(directory.path(), limits, false);
        for _ in 0..50 {
            log.append(&[b'x'; 90]).expect("written");
        }
        let total: u64 = files(directory.path())
            .iter()
            .map(|name| std::fs::metadata(directory.path().join("deep").join(name)).expect("a file").len())
            .sum();
        assert!((180..=350).contains(&total), "{total}");
    }

    #[test]
    fn limits_remove_the_oldest() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().expect("a time");
        let backup = |day: i64, bytes| Backup {
            path: format!("{day}").into(),
            time: Timestamp::from_second(now.as_second() - day * 24 * 3600).expect("a time"),
            bytes,
        };
        let check = |limits: Limits, expected: &[&str]| {
            let found = vec![backup(3, 10), backup(1, 10), backup(2, 10), backup(5, 10)];
            let removed = superfluous(&limits, found, now);
            assert_eq!(removed, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{limits:?}");
        };
        check(LIMITS, &[]);
        check(Limits { backups: 2, ..LIMITS }, &["3", "5"]);
        check(Limits { age_days: 3, ..LIMITS }, &["5"]);
        check(Limits { total_bytes: 125, ..LIMITS }, &["3", "5"]);
        check(Limits { backups: 3, age_days: 1, ..LIMITS }, &["2", "3", "5"]);
    }
}
