//! Which file is executed. The messages are those that runc's users know.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where a program is looked for when its environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProgramError {
    #[error("args must not be empty")]
    NoArguments,
    #[error("exec: {0:?}: stat {0}: no such file or directory")]
    NoFile(String),
    #[error("exec: {0:?}: permission denied")]
    Denied(String),
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotFound(String),
    #[error("an argument or variable has a NUL byte")]
    Nul,
}

/// Looks where the environment's last `PATH` says, in the calling process's root and directory.
pub fn find(program: &str, environment: &[String]) -> Result<PathBuf, ProgramError> {
    if program.contains('/') {
        return match executable(Path::new(program)) {
            Ok(()) => Ok(PathBuf::from(program)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ProgramError::NoFile(program.to_owned()))
            }
            Err(_) => Err(ProgramError::Denied(program.to_owned())),
        };
    }
    let path = environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut candidates =
        path.split(':').filter(|dir| !dir.is_empty()).map(|dir| Path::new(dir).join(program));
    candidates
        .find(|candidate| !program.is_empty() && executable(candidate).is_ok())
        .ok_or_else(|| ProgramError::NotFound(program.to_owned()))
}

fn executable(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    Err(io::ErrorKind::PermissionDenied.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_are_runc_s() {
        let files = tempfile::tempdir().expect("a directory");
        let dir = files.path().to_str().expect("text");
        let (program, data) = (format!("{dir}/program"), format!("{dir}/data"));
        std::fs::write(&program, "").expect("is written");
        std::fs::write(&data, "").expect("is written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("is ours");
        let environment = ["PATH=/nowhere".to_owned(), format!("PATH=:/nowhere:{dir}")];
        let check = |name: &str, expected: Result<&str, &str>| {
            let found = find(name, &environment).map_err(|error| error.to_string());
            assert_eq!(found, expected.map(PathBuf::from).map_err(str::to_owned));
        };
        check("program", Ok(&program));
        check(&program, Ok(&program));
        check("data", Err("exec: \"data\": executable file not found in $PATH"));
        check("", Err("exec: \"\": executable file not found in $PATH"));
        check("/nope", Err("exec: \"/nope\": stat /nope: no such file or directory"));
        check(&data, Err(&format!("exec: {data:?}: permission denied")));
        check(dir, Err(&format!("exec: {dir:?}: permission denied")));
    }
}
