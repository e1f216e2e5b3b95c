//! Holds the namespaces of a test's cluster, and runs commands in them.
//!
//! ```text
//! sampan-testkit-sandbox hold NAME DIRECTORY
//! sampan-testkit-sandbox enter INIT [--timeout SECONDS] [--pid-file FILE] [--terminal] -- COMMAND…
//! ```

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sampan_testkit::sandbox::{Options, enter, hold};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            125.into()
        }
    }
}

fn run() -> Result<u8> {
    let mut arguments = std::env::args_os().skip(1);
    let mut next = move || arguments.next().context("an argument is missing");
    let mode = next()?;
    if mode == "hold" {
        let (name, directory) = (next()?, next()?);
        hold(name.to_str().context("a name must be text")?, Path::new(&directory))?;
        return Ok(0);
    }
    if mode != "enter" {
        bail!("{} is neither hold nor enter", mode.display());
    }
    let init = number(&next()?)?;
    let mut options = Options::default();
    loop {
        let option = next()?;
        match option.to_str() {
            Some("--") => break,
            Some("--timeout") => options.timeout = Some(Duration::from_secs(number(&next()?)?)),
            Some("--pid-file") => options.pid_file = Some(next()?.into()),
            Some("--terminal") => options.terminal = true,
            _ => bail!("unknown option {}", option.display()),
        }
    }
    let command: Vec<OsString> = std::iter::from_fn(|| next().ok()).collect();
    enter(init, &options, &command)
}

fn number<T: std::str::FromStr>(text: &OsString) -> Result<T> {
    text.to_str()
        .and_then(|text| text.parse().ok())
        .with_context(|| format!("{} is no number", text.display()))
}
