//! `cargo xtask fuzz`: looks for inputs that break what reads bytes from outside.
//!
//! The targets lie in `fuzz/` as cargo-fuzz lays them out. They are built here with cargo alone, since
//! the coverage that libFuzzer needs comes out of the stable compiler too; only address sanitising would
//! need an unstable one, and all code that these targets reach is safe.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};

use crate::run::{cargo_command, root, run};
use crate::tools::{self, CPLUSPLUS};

/// What makes the compiler count edges and compared values for libFuzzer.
const COVERAGE: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];

/// Seconds after which an input counts as a hang. Targets themselves bound their processor time.
const TIMEOUT: &str = "-timeout=30";
/// Megabytes of the whole process. Targets themselves bound what one input may take.
const MEMORY: &str = "-rss_limit_mb=2048";

/// How one target fared.
struct Outcome {
    target: String,
    executions: u64,
    /// Edges and features that the corpus reaches, as libFuzzer counts them.
    coverage: String,
    /// The file of a finding, and the log that tells it.
    finding: Option<(PathBuf, PathBuf)>,
}

/// Runs the wanted targets, or all of them, each for so many seconds, so many at once.
pub fn fuzz(wanted: &[String], seconds: u64, jobs: usize) -> Result<()> {
    let known = targets()?;
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        bail!("{unknown:?} is no fuzz target; the targets are {}", known.join(", "));
    }
    let chosen = if wanted.is_empty() { known } else { wanted.to_vec() };
    tools::ensure(&[CPLUSPLUS])?;
    let programs = build(&chosen)?;
    let queue = Mutex::new(VecDeque::from(chosen));
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no worker panics").pop_front();
                    let Some(target) = next else { return };
                    let outcome = fuzz_one(&programs, &target, seconds);
                    outcomes.lock().expect("no worker panics").push(outcome);
                }
            });
        }
    });
    report(outcomes.into_inner().expect("no worker panicked"), seconds)
}

/// The names of all targets, sorted.
fn targets() -> Result<Vec<String>> {
    let directory = root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Builds the targets' programs; answers where they are.
fn build(targets: &[String]) -> Result<PathBuf> {
    let host = host_triple()?;
    // Apart from everything else that is built: with other flags nothing can be shared.
    let directory = root().join("target/fuzzing");
    let mut command = cargo_command();
    command.args(["build", "--package", "sampan-fuzz", "--features", "libfuzzer", "--profile", "fuzz"]);
    command.args(["--target", &host]);
    for target in targets {
        command.args(["--bin", target]);
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f"));
    command.env("CARGO_TARGET_DIR", &directory);
    run(command)?;
    Ok(directory.join(host).join("fuzz"))
}

fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not tell its host")
}

/// Runs one target. New inputs are kept below `target/`, for the next run.
fn fuzz_one(programs: &Path, target: &str, seconds: u64) -> Result<Outcome> {
    let directory = root().join("target/fuzzing");
    let (corpus, findings) = (directory.join("corpus").join(target), directory.join("findings").join(target));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&findings)?;
    let log = findings.join("log");
    let output = fs::File::create(&log)?;
    eprintln!("{target}: {seconds} s");
    let mut command = Command::new(programs.join(target));
    command.arg(format!("-max_total_time={seconds}")).args([TIMEOUT, MEMORY, "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/", findings.display()));
    command.arg(&corpus).arg(root().join("fuzz/corpus").join(target));
    if Path::new("/dev/shm").is_dir() {
        // What targets write is gone in a moment.
        command.env("TMPDIR", "/dev/shm");
    }
    let status = command
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| format!("cannot run {target}"))?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let found = text.lines().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path);
    if !status.success() && found.is_none() {
        bail!("{target} ended with {status}; see {}", log.display());
    }
    Ok(Outcome {
        target: target.to_owned(),
        executions: statistic(&text, "stat::number_of_executed_units:"),
        coverage: coverage(&text),
        finding: found.map(|path| (PathBuf::from(path.trim()), log)),
    })
}

fn statistic(log: &str, name: &str) -> u64 {
    let value = log.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

/// The `cov: … ft: …` of the last line that has one.
fn coverage(log: &str) -> String {
    let last = log.lines().rev().find_map(|line| line.split_once(" cov: "));
    let words = last.map(|(_, rest)| rest.split_whitespace().take(3).collect::<Vec<_>>());
    match words.as_deref() {
        Some([edges, _, features]) => format!("{edges} edges, {features} features"),
        _ => "no coverage".to_owned(),
    }
}

fn report(outcomes: Vec<Result<Outcome>>, seconds: u64) -> Result<()> {
    let mut failed = 0;
    println!();
    for outcome in &outcomes {
        match outcome {
            Ok(Outcome { target, executions, coverage, finding }) => {
                let word = if finding.is_some() { "FINDING" } else { "passed" };
                println!("{word} {target}: {executions} executions in at most {seconds} s, {coverage}");
                if let Some((input, log)) = finding {
                    failed += 1;
                    println!("  {} (told in {})", input.display(), log.display());
                    println!("  once mended, copy it to fuzz/corpus/{target}/ under a name that tells it");
                }
            }
            Err(error) => {
                failed += 1;
                println!("FAILED {error:#}");
            }
        }
    }
    println!("{} targets without a finding, {failed} with one", outcomes.len() - failed);
    if failed > 0 { bail!("{failed} of {} targets failed", outcomes.len()) } else { Ok(()) }
}
