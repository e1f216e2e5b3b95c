//! The home of a user that the container's own files tell.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The most that is read of a `passwd`, bytes.
const MAX: u64 = 1 << 20;

/// As `passwd` has it; `/` for a user that it does not have.
pub fn of(uid: u32, passwd: &Path) -> String {
    let mut text = String::new();
    // It may be anything: opening a pipe must not wait.
    let opened =
        std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(passwd);
    if let Ok(file) = opened
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
    {
        // What was read before an error is as good as a shorter file.
        let _partial = file.take(MAX).read_to_string(&mut text);
    }
    let home = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let number: u32 = fields.nth(2)?.parse().ok()?;
        (number == uid).then(|| fields.nth(2)).flatten()
    });
    home.filter(|home| !home.is_empty()).unwrap_or("/").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_s_passwd_decides() {
        let files = tempfile::tempdir().expect("a directory");
        let path = files.path().join("passwd");
        std::fs::write(
            &path,
            "root:x:0:0:root:/root:/bin/sh\nbroken\nmary:x:1000:1000::/home/mary:\nnone:x:5:5:::\n",
        )
        .expect("is written");
        let cases = [(0, "/root"), (1000, "/home/mary"), (5, "/"), (7, "/")];
        for (uid, expected) in cases {
            assert_eq!(of(uid, &path), expected, "{uid}");
        }
        assert_eq!(of(0, files.path()), "/");
        assert_eq!(of(0, &files.path().join("missing")), "/");
        let pipe = files.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("is made");
        assert_eq!(of(0, &pipe), "/");
    }
}
