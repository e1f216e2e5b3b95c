//! `cargo xtask bench`: builds Sampan optimised, and runs `sampan-bench`, which measures it.

use std::process::Command;

use anyhow::Result;

use crate::demo;
use crate::run::{cargo, require_root, root, run};
use crate::tools::{self, BUSYBOX, ETCD, NGINX, RUNC, SECCOMP, STATIC_LIBC};

pub fn bench(parts: &[String]) -> Result<()> {
    require_root("bench")?;
    tools::ensure(&[SECCOMP, STATIC_LIBC, BUSYBOX])?;
    for peer in [ETCD, NGINX, RUNC] {
        // A machine without a peer is measured all the same; the figures then say that it is missing.
        if let Err(error) = tools::ensure(&[peer]) {
            eprintln!("not compared with a peer: {error:#}");
        }
    }
    let kubectl = tools::ensure_go(&[tools::KUBECTL])?;
    let shop = demo::build_shop()?;
    cargo(&["build", "--release", "--package=sampan", "--package=sampan-testkit", "--package=sampan-bench"])?;
    cargo(&["build", "--release", "--package=sampan-runtime", "--examples"])?;
    let mut command = Command::new(root().join("target/release/sampan-bench"));
    command.args(parts).arg("--shop").arg(shop).arg("--root").arg(root());
    command.env_remove("SAMPAN_BIN");
    tools::add_to_path(&mut command, kubectl)?;
    run(command)
}
