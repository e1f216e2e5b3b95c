//! From the start of the process to ready, and to a first app.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use nix::time::{ClockId, clock_gettime};
use sampan_testkit::Cluster;

use crate::Arguments;
use crate::figure::{Figure, median};
use crate::shop;

const ROUNDS: usize = 5;

pub fn measure(arguments: &Arguments) -> Result<Vec<Figure>> {
    let (mut first, mut app, mut second, mut again) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut cluster = Cluster::start()?;
        let age = age(cluster.server_pid())?;
        first.push(age.as_secs_f64());
        let ready = Instant::now();
        shop::pack(&cluster, arguments)?;
        shop::deploy(&cluster, arguments)?;
        app.push((age + ready.elapsed()).as_secs_f64());
        shop::wait_for_all(&cluster)?;
        cluster.kill_server(Signal::SIGKILL)?;
        cluster.start_server()?;
        let age = self::age(cluster.server_pid())?;
        second.push(age.as_secs_f64());
        let ready = Instant::now();
        shop::wait_for_page(&cluster)?;
        again.push((age + ready.elapsed()).as_secs_f64());
        cluster.stop()?;
    }
    Ok(vec![
        Figure::lower("first start to ready", median(&first)?, "s").target(1.0),
        Figure::lower("first start, shop packed and applied, to its page", median(&app)?, "s").target(3.0),
        Figure::lower("second start, after SIGKILL with the shop, to ready", median(&second)?, "s")
            .target(1.0),
        Figure::lower("second start to the shop's page", median(&again)?, "s").target(3.0),
    ])
}

/// How long ago a process was forked; the kernel tells it in hundredths of a second.
fn age(process: i32) -> Result<Duration> {
    let ticks: u64 = stat(process)?.get(19).context("a line of 52 fields")?.parse()?;
    let now = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    Ok(now.saturating_sub(Duration::from_millis(ticks * 10)))
}

/// The fields of a process's `stat` after its name, from `state` on.
pub fn stat(process: i32) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = text.rsplit_once(')').context("a name in parentheses")?;
    Ok(fields.split_whitespace().map(str::to_owned).collect())
}
