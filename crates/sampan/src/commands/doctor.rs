//! `sampan doctor`: whether this machine can run Sampan, and what to do where it cannot.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::DEFAULT_DATA_DIR;

mod checks;
mod snapshot;

use checks::{Finding, Verdict};
use snapshot::Snapshot;

#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Data directory of the server
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Port of the API
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    api_port: u16,
}

impl DoctorArgs {
    /// Prints a line per check; fails if one of them does.
    pub fn run(self) -> ExitCode {
        let findings = checks::all(&Snapshot::take(&self.data_dir, self.api_port));
        print!("{}", text(&findings));
        if findings.iter().any(|finding| finding.verdict == Verdict::Fail) {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let verdict = match finding.verdict {
            Verdict::Ok => "OK  ",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        text.push_str(&format!("{verdict} {:width$}  {}\n", finding.name, finding.found));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("     {:width$}  fix: {fix}\n", ""));
        }
    }
    text
}
