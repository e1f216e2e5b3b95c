//! Files of an audit log that are no longer written.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// `2026-01-02T03-04-05`, in UTC; milliseconds follow.
const TIME: &str = "%Y-%m-%dT%H-%M-%S";

/// A file that was written before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub path: PathBuf,
    pub time: Timestamp,
    pub bytes: u64,
}

/// Name and extension of a log, between which the backups have their time.
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|extension| format!(".{}", text(Some(extension))));
    (format!("{}-", text(path.file_stem())), extension.unwrap_or_default())
}

/// A path for a backup at a time that no file has.
pub fn name(path: &Path, now: Timestamp) -> PathBuf {
    let (prefix, extension) = parts(path);
    let mut millisecond = now.as_millisecond();
    loop {
        let time = Timestamp::from_millisecond(millisecond).unwrap_or(now);
        let part = time.subsec_millisecond();
        let name = format!("{prefix}{}.{part:03}{extension}", time.strftime(TIME));
        let backup = path.with_file_name(name);
        if !backup.exists() && !compressed(&backup).exists() {
            return backup;
        }
        millisecond += 1;
    }
}

fn compressed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

/// The backups of a log, in no order.
pub fn list(path: &Path) -> io::Result<Vec<Backup>> {
    let (prefix, extension) = parts(path);
    let directory = path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let time = name.to_str().and_then(|name| {
            let name = name.strip_suffix(".gz").unwrap_or(name);
            parse_time(name.strip_prefix(&prefix)?.strip_suffix(&extension)?)
        });
        let Some(time) = time else { continue };
        match entry.metadata() {
            Ok(metadata) => found.push(Backup { path: entry.path(), time, bytes: metadata.len() }),
            // Another rotation removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let (seconds, milliseconds) = text.split_once('.')?;
    let milliseconds: i64 = milliseconds.parse().ok().filter(|count| (0..1000).contains(count))?;
    let time = DateTime::strptime(TIME, seconds).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Timestamp::from_millisecond(time.as_millisecond() + milliseconds).ok()
}

/// Replaces a backup by its compressed form.
pub fn compress(path: &Path) -> io::Result<()> {
    let target = compressed(path);
    // A name that is no backup's, so that half a file is never taken for one.
    let mut partial = target.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    let mut encoder = GzEncoder::new(file, Compression::fast());
    let written = io::copy(&mut File::open(path)?, &mut encoder).and_then(|_| encoder.finish());
    if let Err(error) = written {
        let _ = std::fs::remove_file(&partial);
        return Err(error);
    }
    std::fs::rename(&partial, &target)?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_time_and_are_found_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("audit.log");
        let now: Timestamp = "2026-01-02T03:04:05.678Z".parse().expect("a time");
        let first = name(&log, now);
        assert_eq!(first, directory.path().join("audit-2026-01-02T03-04-05.678.log"));
        std::fs::write(&first, "a").expect("written");
        let second = name(&log, now);
        assert_eq!(second, directory.path().join("audit-2026-01-02T03-04-05.679.log"));
        std::fs::write(&second, "abc".repeat(1000)).expect("written");
        compress(&second).expect("compressed");
        for other in
            ["audit.log", "audit-x.log", "other-2026-01-02T03-04-05.678.log", "audit-2026-01-02T03-04-05.log"]
        {
            std::fs::write(directory.path().join(other), "").expect("written");
        }
        let mut found = list(&log).expect("a list");
        found.sort_by_key(|backup| backup.time);
        let names: Vec<_> =
            found.iter().map(|one| one.path.file_name().unwrap_or_default().to_string_lossy()).collect();
        assert_eq!(names, ["audit-2026-01-02T03-04-05.678.log", "audit-2026-01-02T03-04-05.679.log.gz"]);
        assert_eq!(found[0].time, now);
        assert!(found[1].bytes < 200, "{found:?}");
    }
}
