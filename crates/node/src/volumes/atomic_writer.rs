//! Replaces the files of a volume all at once.
//!
//! The files are in a directory with a unique name; `..data` is a link to it, and each visible
//! name is a link through `..data`. A reader sees the old files or the new ones, never a mixture.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use super::payload::Payload;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Why the files were not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct WriteError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError { action, path, source }
}

/// Makes the volume in `dir` hold exactly these files. Returns whether anything changed. Files
/// belong to `group` where one is given, and are readable by it.
pub fn write(dir: &Path, payload: &Payload, group: Option<u32>) -> Result<bool, WriteError> {
    let old = fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && holds(&dir.join(old), payload)
    {
        return Ok(false);
    }
    let stamp = jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S").to_string();
    let name = format!("..{stamp}.{}", rand::random::<u32>());
    let fresh = dir.join(&name);
    let fill = || -> Result<(), WriteError> {
        DirBuilder::new().mode(0o755).create(&fresh).map_err(failed("make", &fresh))?;
        own(&fresh, None, group)?;
        for (path, file) in payload {
            let target = fresh.join(path);
            if let Some(parent) = target.parent() {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(parent)
                    .map_err(failed("make", parent))?;
            }
            let mut options = OpenOptions::new();
            let mut opened = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&target)
                .map_err(failed("make", &target))?;
            opened.write_all(&file.data).map_err(failed("write", &target))?;
            own(&target, file.owner, group)?;
            // A mode for the group only has a meaning where the group can read.
            let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
            opened
                .set_permissions(Permissions::from_mode(mode))
                .map_err(failed("set the mode of", &target))?;
        }
        Ok(())
    };
    if let Err(error) = fill() {
        // The next attempt uses another name; what is left is only litter.
        let _ = fs::remove_dir_all(&fresh);
        return Err(error);
    }
    switch(dir, &name)?;
    link_names(dir, payload)?;
    if let Some(old) = old {
        let old = dir.join(old);
        fs::remove_dir_all(&old).map_err(failed("remove", &old))?;
    }
    Ok(true)
}

fn own(path: &Path, owner: Option<u32>, group: Option<u32>) -> Result<(), WriteError> {
    if owner.is_none() && group.is_none() {
        return Ok(());
    }
    chown(path, owner, group).map_err(failed("change the owner of", path))
}

/// Whether a directory's files are the payload's, by content.
fn holds(dir: &Path, payload: &Payload) -> bool {
    let mut found = BTreeSet::new();
    if collect(dir, Path::new(""), &mut found).is_err() {
        return false;
    }
    let wanted: BTreeSet<PathBuf> = payload.keys().map(PathBuf::from).collect();
    found == wanted
        && payload.iter().all(|(path, file)| {
            let same_size =
                fs::metadata(dir.join(path)).is_ok_and(|metadata| metadata.len() == file.data.len() as u64);
            same_size && fs::read(dir.join(path)).is_ok_and(|data| data == file.data)
        })
}

fn collect(dir: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(dir, &path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

fn switch(dir: &Path, name: &str) -> Result<(), WriteError> {
    let temporary = dir.join(NEW_DATA);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", &temporary)(error));
        }
        Ok(()) | Err(_) => {}
    }
    symlink(name, &temporary).map_err(failed("make", &temporary))?;
    let data = dir.join(DATA);
    fs::rename(&temporary, &data).map_err(failed("replace", &data))
}

/// Makes the visible names, and removes those whose files are gone.
fn link_names(dir: &Path, payload: &Payload) -> Result<(), WriteError> {
    let names: BTreeSet<OsString> =
        payload.keys().filter_map(|path| path.split('/').next()).map(OsString::from).collect();
    for name in &names {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link).map_err(failed("make", &link))?;
        }
    }
    for entry in fs::read_dir(dir).map_err(failed("read", dir))? {
        let entry = entry.map_err(failed("read", dir))?;
        let own = entry.file_name().to_string_lossy().starts_with("..");
        if !own && !names.contains(&entry.file_name()) {
            fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::payload::insert;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let mut payload = Payload::new();
        for (path, data) in files {
            insert(&mut payload, path, data.as_bytes().to_vec(), 0o640).expect("a path");
        }
        payload
    }

    #[test]
    fn files_change_at_once_and_only_when_they_differ() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        let read = |path: &str| fs::read_to_string(dir.join(path)).ok();
        assert!(write(dir, &payload(&[("a", "1"), ("d/e", "2")]), None).expect("writes"));
        assert_eq!((read("a"), read("d/e")), (Some("1".into()), Some("2".into())));
        let mode = fs::metadata(dir.join("a")).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o640);
        assert!(!write(dir, &payload(&[("a", "1"), ("d/e", "2")]), None).expect("writes"));
        assert!(write(dir, &payload(&[("a", "3"), ("f", "4")]), None).expect("writes"));
        assert_eq!((read("a"), read("d/e"), read("f")), (Some("3".into()), None, Some("4".into())));
        let names: BTreeSet<OsString> =
            fs::read_dir(dir).expect("reads").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names.len(), 4, "{names:?}");
        assert_eq!(fs::read_link(dir.join("a")).expect("a link"), Path::new("..data/a"));
        assert!(write(dir, &Payload::new(), None).expect("writes"));
        assert_eq!(read("a"), None);
    }
}
