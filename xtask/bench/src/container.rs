//! One container's create, start and delete, through a pod's supervisor: ours against runc.
//!
//! The example `measure` of the crate `sampan-runtime` does the work; it is built beside this.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use sampan_testkit::{Output, Sandbox};

use crate::Arguments;
use crate::figure::Figure;
use crate::shop::succeeded;

const STEPS: [&str; 3] = ["create", "start", "delete"];

pub fn measure(arguments: &Arguments) -> Result<Vec<Figure>> {
    let sandbox = Sandbox::start()?;
    let mut command = sandbox.enter(&["--timeout", "120"]);
    command.arg(arguments.root.join("target/release/examples/measure"));
    command.env("TMPDIR", sandbox.directory());
    let output = Output::of(command, "measure".to_owned(), b"");
    let text = succeeded(output)?.stdout;
    sandbox.stop()?;
    let medians = medians(&text);
    let sum =
        |runtime: &str| STEPS.iter().map(|step| medians.get(&(runtime, *step)).copied()).sum::<Option<f64>>();
    let ours = sum("native").context("no medians of ours")?;
    let runc = sum("runc");
    if runc.is_none() {
        eprintln!("runc is missing: not compared (Debian's package runc)");
    }
    let mut figures =
        vec![Figure::lower("container create, start and delete", ours, "ms").against("runc", runc, 0.2)];
    for step in STEPS {
        let value = medians[&("native", step)];
        let mut figure = Figure::lower(format!("  container {step}"), value, "ms");
        if let Some(runc) = medians.get(&("runc", step)) {
            figure = figure.against("runc", Some(*runc), 0.2);
        }
        figures.push(figure);
    }
    Ok(figures)
}

/// Reads lines such as `runc: create median 23.10 max 30.00`.
fn medians(text: &str) -> HashMap<(&str, &str), f64> {
    let line = |line| -> Option<((&str, &str), f64)> {
        let (runtime, rest) = str::split_once(line, ": ")?;
        let (step, rest) = rest.split_once(" median ")?;
        Some(((runtime, step), rest.split(' ').next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}
