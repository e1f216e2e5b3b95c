//! PyPI's `kubernetes`, another independent client: lists, watches, creates, patches and execs.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use sampan_testkit::{Cluster, Suite};

/// The client's release that the checks were written for; any later one should do as well.
const PACKAGE: &str = "kubernetes>=31";

fn main() -> ExitCode {
    Suite::new("python_client")
        .test_image()
        .check("lists, creates, patches and deletes", |cluster| run(cluster, "objects.py"))
        .check("watches", |cluster| run(cluster, "watches.py"))
        .check("runs, reads logs and execs", |cluster| run(cluster, "pods.py"))
        .run()
}

/// Runs a script of `tests/python_client/`, which prints `ok` when all of its assertions held.
fn run(cluster: &mut Cluster, script: &str) {
    let python = python();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python_client").join(script);
    let (python, path) = (python.to_str().expect("text"), path.to_str().expect("text"));
    cluster.run(&[python, path]).ok().matches("^ok$");
}

/// The python of a virtual environment with the client, made once in the target directory.
fn python() -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    // target/<profile>/deps/<test>
    let target = own.ancestors().nth(3).expect("below the target directory");
    let directory = target.join("tools/venv");
    let python = directory.join("bin/python3");
    let has_client = |python: &PathBuf| {
        Command::new(python)
            .args(["-c", "import kubernetes"])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !has_client(&python) {
        println!("installing {PACKAGE} into {}", directory.display());
        let step = |command: &mut Command| {
            let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
            assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
        };
        step(Command::new("python3").args(["-m", "venv"]).arg(&directory));
        step(Command::new(&python).args(["-m", "pip", "install", "--quiet", PACKAGE]));
    }
    python
}
