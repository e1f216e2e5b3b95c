//! Images for tests, from files of this machine: nothing is downloaded.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cluster::Cluster;
use crate::sandbox::beside_this_program;

/// The image that [`Cluster::import_test_image`] makes: a busybox with all its commands, curl,
/// the test's web server as `/bin/web`, and its webhooks and aggregated API as `/bin/extension`.
pub const TEST_IMAGE: &str = "example.com/test:1";

/// Where Debian's package `busybox-static` puts it.
const BUSYBOX: &str = "/bin/busybox";

const WEB: &str = "sampan-testkit-web";
const EXTENSION: &str = "sampan-testkit-extension";

impl Cluster {
    /// Packs the image [`TEST_IMAGE`] into the node's store.
    pub fn import_test_image(&self) -> Result<()> {
        let root = self.scratch().join("image");
        if root.exists() {
            return Ok(());
        }
        write_root(&root)?;
        self.pack(&root, TEST_IMAGE)
    }

    /// Packs a directory as an image without a command of its own.
    pub fn pack(&self, root: &Path, tag: &str) -> Result<()> {
        let (root, data) = (root.to_str().context("text")?.to_owned(), self.data_dir());
        let data = data.to_str().context("text")?;
        let output = self.sampan(&["image", "pack", "--data-dir", data, &root, tag]);
        if output.code != Some(0) {
            bail!("{output}");
        }
        Ok(())
    }
}

/// Fills a directory with what is in the test image.
pub fn write_root(root: &Path) -> Result<()> {
    for directory in ["bin", "etc", "tmp", "root", "usr/bin"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    )?;
    fs::write(root.join("etc/group"), "root:x:0:\nnobody:x:65534:\n")?;
    if !Path::new(BUSYBOX).is_file() {
        bail!("{BUSYBOX} is missing; install Debian's package busybox-static");
    }
    fs::copy(BUSYBOX, root.join("bin/busybox"))?;
    let list = Command::new(BUSYBOX).arg("--list").output()?;
    for applet in String::from_utf8(list.stdout)?.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    install(root, &beside_this_program(WEB)?, "web")?;
    install(root, &beside_this_program(EXTENSION)?, "extension")?;
    install(root, &on_path("curl")?, "curl")
}

/// Puts a program of this machine, with the libraries that it needs, into an image as `/bin/<name>`.
fn install(root: &Path, program: &Path, name: &str) -> Result<()> {
    // Apart from where programs look by themselves: a static busybox must not find this machine's libc, which
    // is not the one that it was built with.
    let inside = format!("/opt/{name}");
    let directory = root.join("opt").join(name);
    fs::create_dir_all(&directory)?;
    fs::copy(program, directory.join(name))?;
    let mut loader = None;
    for library in libraries(program)? {
        let file = library.file_name().context("a library has a name")?;
        fs::copy(&library, directory.join(file))?;
        loader = loader.or(file.to_str().filter(|file| file.starts_with("ld-")).map(str::to_owned));
    }
    let loader = loader.with_context(|| format!("{} has no loader", program.display()))?;
    let script =
        format!("#!/bin/sh\nexec {inside}/{loader} --library-path {inside} {inside}/{name} \"$@\"\n");
    let script_path = root.join("bin").join(name);
    fs::write(&script_path, script)?;
    fs::set_permissions(&script_path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn on_path(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not on PATH; install it"))
}

/// The shared libraries of a program, the loader included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect())
}
