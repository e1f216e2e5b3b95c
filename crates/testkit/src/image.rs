//! Images for tests, from files of this machine: nothing is downloaded.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cluster::Cluster;
use crate::sandbox::beside_this_program;

/// The image that [`Cluster::import_test_image`] makes: a busybox with all its commands, and the test's web
/// server as `/bin/web`.
pub const TEST_IMAGE: &str = "example.com/test:1";

/// Where Debian's package `busybox-static` puts it.
const BUSYBOX: &str = "/bin/busybox";

const WEB: &str = "sampan-testkit-web";

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
    let web = beside_this_program(WEB)?;
    fs::copy(&web, root.join("bin/web"))?;
    for library in libraries(&web)? {
        let target = root.join(library.strip_prefix("/")?);
        fs::create_dir_all(target.parent().context("a library is in a directory")?)?;
        fs::copy(&library, &target)?;
    }
    Ok(())
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
