//! Running other programs, aloud.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// The root of the workspace.
pub fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("xtask lies in the workspace").to_owned()
}

/// Runs a command in the workspace's root and fails when it does.
pub fn run(mut command: Command) -> Result<()> {
    let shown = show(&command);
    eprintln!("$ {shown}");
    let status = command.current_dir(root()).status().with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown} failed: {status}");
    }
    Ok(())
}

/// Runs tests as [`run`] does. The error tells again what they said of their failures, which may otherwise
/// stand thousands of lines above.
pub fn run_tests(mut command: Command) -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let (sender, heard) = mpsc::channel();
    std::thread::spawn(move || {
        let mut failures = Failures::default();
        for line in BufReader::new(reader).split(b'\n').map_while(std::io::Result::ok) {
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            failures.hear(&line);
        }
        sender.send(failures.kept).ok();
    });
    // The command, and with it this process' ends of the pipe, goes before the last lines are waited for.
    let result = run(command);
    // A process that a test left behind may hold the pipe open.
    let kept = heard.recv_timeout(Duration::from_secs(10)).unwrap_or_default();
    if kept.is_empty() { result } else { result.with_context(|| kept.join("\n")) }
}

/// The lines of tests' output that tell what failed.
#[derive(Default)]
struct Failures {
    kept: Vec<String>,
    /// How many of the next lines belong to what was kept.
    follow: usize,
}

impl Failures {
    const LINES: usize = 60;
    const CHARACTERS: usize = 300;
    /// A message stands below the place of its panic.
    const BELOW_A_PANIC: usize = 4;

    fn hear(&mut self, line: &str) {
        let verdict =
            ["check ", "test "].iter().any(|start| line.starts_with(start)) && line.contains("FAILED");
        if line.contains("panicked at ") {
            self.follow = Self::BELOW_A_PANIC + 1;
        }
        if (verdict || self.follow > 0 || line.starts_with("error")) && self.kept.len() < Self::LINES {
            self.kept.push(line.chars().take(Self::CHARACTERS).collect());
        }
        self.follow = self.follow.saturating_sub(1);
    }
}

pub fn cargo(arguments: &[&str]) -> Result<()> {
    let mut command = cargo_command();
    command.args(arguments);
    run(command)
}

/// A cargo that knows nothing of the one which runs this program. That one says in the environment which
/// package it runs; build scripts that look there (ring's does) would take each change between a cargo
/// from here and one from a shell for a reason to build again, with everything above them.
pub fn cargo_command() -> Command {
    let mut command = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words[0] = words[0].rsplit('/').next().unwrap_or_default().to_owned();
    words.join(" ")
}

/// Fails with what to do where root is needed and missing.
pub fn require_root(task: &str) -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "{task} needs root, for containers and their network; run: sudo -E env \"PATH=$PATH\" cargo xtask {task}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(lines: &[&str]) -> Vec<String> {
        let mut failures = Failures::default();
        lines.iter().for_each(|line| failures.hear(line));
        failures.kept
    }

    #[test]
    fn what_failed_is_told_again() {
        let lines = [
            "test result: ok. 3 passed",
            "check pods::one ... ok (0.1s)",
            "thread 'main' (7) panicked at crates/a.rs:1:2:",
            "1",
            "2",
            "3",
            "4",
            "noise",
            "check pods::two ... FAILED (0.2s)",
            "last lines of the server:",
            "test unit ... FAILED",
            "error: test failed, to rerun pass `--test pods`",
        ];
        let expected: Vec<&str> =
            lines[2..7].iter().chain(&lines[8..9]).chain(&lines[10..]).copied().collect();
        assert_eq!(kept(&lines), expected);
    }

    #[test]
    fn little_is_told_of_very_much() {
        let long = format!("error: {}", "x".repeat(1000));
        let told = kept(&vec![long.as_str(); 100]);
        assert_eq!(told.len(), Failures::LINES);
        assert!(told.iter().all(|line| line.len() == Failures::CHARACTERS), "{told:?}");
    }

    #[test]
    fn tests_end_as_their_command_does() {
        let tests = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            run_tests(command)
        };
        tests("echo check a ... ok").expect("it succeeds");
        let error = tests("echo check a ... FAILED; echo error: b >&2; exit 3").expect_err("it fails");
        let text = format!("{error:#}");
        assert!(
            text.starts_with("check a ... FAILED\nerror: b: sh -c") && text.contains("exit status: 3"),
            "{text}"
        );
    }
}
