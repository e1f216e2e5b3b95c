//! `sampan certificates`: what expires when, and rotations, which the running server does.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use hyper::Method;
use jiff::{SignedDuration, Timestamp, Unit};
use sampan_apiserver::identity::pki::{StoredCertificate, stored_certificates};

use super::admin_socket::{full, send};
use crate::admin::socket_path;
use crate::certificates::{Rotated, Rotation, Step};
use crate::config::DEFAULT_DATA_DIR;

#[derive(Args, Debug)]
pub struct CertificatesArgs {
    /// Data directory of the server
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR, global = true)]
    data_dir: PathBuf,
    #[command(subcommand)]
    command: CertificatesCommand,
}

#[derive(Subcommand, Debug)]
enum CertificatesCommand {
    /// Print the certificates and when they expire; fails when one has expired
    Check,
    /// Rotate the certificate authorities
    ///
    /// `begin` makes new ones. From then on both are trusted, clients get certificates of the new one, and the
    /// server still shows one of the old, so that every client goes on. Give clients time to get a new
    /// certificate and the new kubeconfig or kube-root-ca.crt. `finish` drops the old ones: clients that know
    /// only them are cut off.
    RotateCa { step: Step },
    /// Rotate the key of service-account tokens
    ///
    /// `begin` signs with a new key; tokens of the old one stay valid. `finish` ends them: pods renew theirs
    /// within an hour, clients that never read theirs again within a year.
    RotateTokenKey { step: Step },
}

impl CertificatesArgs {
    pub fn run(self) -> Result<ExitCode> {
        match self.command {
            CertificatesCommand::Check => check(&self.data_dir),
            CertificatesCommand::RotateCa { step } => rotate(&self.data_dir, Rotated::Authorities, step),
            CertificatesCommand::RotateTokenKey { step } => rotate(&self.data_dir, Rotated::TokenKey, step),
        }
    }
}

fn rotate(data_dir: &Path, what: Rotated, step: Step) -> Result<ExitCode> {
    let socket = socket_path(data_dir);
    let body = full(serde_json::to_vec(&Rotation { what, step })?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(send(&socket, Method::POST, "/certificates/rotate", body))?;
    Ok(ExitCode::SUCCESS)
}

fn check(data_dir: &Path) -> Result<ExitCode> {
    let directory = data_dir.join("pki");
    let found = stored_certificates(&directory)
        .with_context(|| format!("cannot read the certificates in {}", directory.display()))?;
    if found.is_empty() {
        bail!("there are no certificates in {}", directory.display());
    }
    let (lines, expired) = report(&found, Timestamp::now());
    lines.iter().for_each(|line| println!("{line}"));
    Ok(if expired { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A line for each certificate, and whether one has expired.
fn report(found: &[StoredCertificate], now: Timestamp) -> (Vec<String>, bool) {
    let width = found.iter().map(|one| one.file.len()).max().unwrap_or(0).max(4);
    let mut lines = vec![format!("{:width$}  {:20}  {:9}  SUBJECT", "FILE", "EXPIRES", "LEFT")];
    let mut expired = false;
    for one in found {
        let left = one.not_after.duration_since(now);
        expired |= left.is_negative();
        let left = if left.is_negative() { "expired".to_owned() } else { short(left) };
        let end = one.not_after.round(Unit::Second).unwrap_or(one.not_after);
        lines.push(format!("{:width$}  {:20}  {left:9}  {}", one.file, end.to_string(), one.subject));
    }
    (lines, expired)
}

/// The two largest units.
fn short(left: SignedDuration) -> String {
    let seconds = left.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_are_told_and_fail() {
        let now: Timestamp = "2026-11-29T00:00:00Z".parse().expect("a time");
        let one = |file: &str, not_after: &str| StoredCertificate {
            file: file.to_owned(),
            subject: "CN=x".to_owned(),
            not_after: not_after.parse().expect("a time"),
        };
        let (lines, expired) =
            report(&[one("ca.crt", "2036-11-29T01:00:00Z"), one("a.pem", "2026-11-29T00:01:05Z")], now);
        assert!(!expired);
        assert_eq!(
            lines,
            [
                "FILE    EXPIRES               LEFT       SUBJECT",
                "ca.crt  2036-11-29T01:00:00Z  3653d1h    CN=x",
                "a.pem   2026-11-29T00:01:05Z  1m5s       CN=x",
            ]
        );
        let (lines, expired) = report(&[one("a.pem", "2026-11-28T23:59:59Z")], now);
        assert!(expired && lines[1].contains("expired"), "{lines:?}");
    }
}
