//! What Sampan takes while the shop runs and nobody asks for anything.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sampan_testkit::Cluster;

use crate::Arguments;
use crate::figure::Figure;
use crate::shop;
use crate::start::stat;

/// Until what the start left over has been done.
const SETTLE: Duration = Duration::from_secs(15);
const WINDOW: Duration = Duration::from_secs(60);

pub fn measure(arguments: &Arguments) -> Result<Vec<Figure>> {
    let cluster = Cluster::start()?;
    shop::pack(&cluster, arguments)?;
    shop::deploy(&cluster, arguments)?;
    shop::wait_for_all(&cluster)?;
    std::thread::sleep(SETTLE);
    let processes = processes(&cluster)?;
    let (before, started) = (ticks(&processes)?, Instant::now());
    std::thread::sleep(WINDOW);
    let used = (ticks(&processes)? - before) as f64 / 100.0;
    let share = used / started.elapsed().as_secs_f64() * 100.0;
    let server = proportional_bytes(cluster.server_pid())?;
    let mut supervisors = 0.0;
    for process in processes.iter().filter(|process| **process != cluster.server_pid()) {
        supervisors += proportional_bytes(*process)?;
    }
    let count = processes.len() - 1;
    cluster.stop()?;
    let mut figures = vec![
        Figure::lower(
            "idle memory with the shop (PSS of server and supervisors)",
            server + supervisors,
            "MB",
        )
        .target(64.0),
        Figure::lower("  of which the server", server, "MB"),
        Figure::lower("idle CPU with the shop, of one core", share, "%").target(0.5),
    ];
    if count > 0 {
        figures.push(Figure::lower("  memory of one supervisor", supervisors / count as f64, "MB"));
    }
    Ok(figures)
}

/// The server and the supervisors.
fn processes(cluster: &Cluster) -> Result<Vec<i32>> {
    let supervisors =
        cluster.sandbox().processes()?.into_iter().filter(|(_, line)| line.contains(" supervisor --dir "));
    Ok(std::iter::once(cluster.server_pid()).chain(supervisors.map(|(process, _)| process)).collect())
}

/// Hundredths of a second of processor time.
fn ticks(processes: &[i32]) -> Result<u64> {
    let mut sum = 0;
    for process in processes {
        let fields = stat(*process)?;
        // utime and stime.
        for index in [11, 12] {
            sum += fields.get(index).context("a line of 52 fields")?.parse::<u64>()?;
        }
    }
    Ok(sum)
}

/// Megabytes: what is private, and its share of what is not.
pub fn proportional_bytes(process: i32) -> Result<f64> {
    megabytes(process, "smaps_rollup", "Pss:")
}

/// The most megabytes that a process ever had.
pub fn peak_bytes(process: i32) -> Result<f64> {
    megabytes(process, "status", "VmHWM:")
}

/// A line of kilobytes that the kernel tells of a process.
fn megabytes(process: i32, file: &str, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/{file}"))?;
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    let line = found.with_context(|| format!("no {name} in {file}"))?;
    let kilobytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024.0 / 1e6)
}
