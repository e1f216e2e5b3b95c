//! Pod Security Standards: which levels there are, what a namespace's labels ask for, and what a
//! pod does that its level forbids.
//!
//! The checks stand in one table ([`checks::CHECKS`]), each with the versions of the standards that
//! have it. Texts are upstream's, since people and tools read them.

use std::fmt;

use serde_json::Value;

use crate::status::Cause;

mod checks;
#[cfg(test)]
mod tests;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict a standard is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A version of the standards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `v1.x`
    Minor(u32),
    Latest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

/// What a namespace asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub enforce: LevelVersion,
    pub audit: LevelVersion,
    pub warn: LevelVersion,
}

/// What a pod does that its level forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub reason: String,
    pub detail: String,
}

const PRIVILEGED: LevelVersion = LevelVersion { level: Level::Privileged, version: Version::Latest };

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => None,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Version::Latest);
        }
        let digits = text.strip_prefix("v1.")?;
        let plain = digits == "0" || !digits.starts_with('0');
        let number = digits.bytes().all(|byte| byte.is_ascii_digit()) && plain;
        digits.parse().ok().filter(|_| number).map(Version::Minor)
    }
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            Version::Latest => write!(f, "{}:latest", self.level),
            Version::Minor(minor) => write!(f, "{}:v1.{minor}", self.level),
        }
    }
}

impl Policy {
    /// Whether nothing is forbidden, noted or warned of.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|mode| mode.level == Level::Privileged)
    }

    /// What labels ask for, and what is wrong with them. What cannot be read is enforced as the
    /// strictest, and neither audited nor warned of.
    pub fn of_labels<'a>(label: impl Fn(&str) -> Option<&'a str>) -> (Self, Vec<Cause>) {
        let mut faults = Vec::new();
        let mut read = |mode: &str, unreadable: Level| {
            let mut read = PRIVILEGED;
            let name = format!("{PREFIX}{mode}");
            let level = label(&name);
            if let Some(text) = level {
                read.level = Level::parse(text).unwrap_or_else(|| {
                    faults.push(fault(&name, text, "must be one of privileged, baseline, restricted"));
                    unreadable
                });
            }
            let name = format!("{PREFIX}{mode}-version");
            let version = label(&name);
            if let Some(text) = version {
                read.version = Version::parse(text).unwrap_or_else(|| {
                    faults.push(fault(&name, text, "must be \"latest\" or \"v1.x\""));
                    Version::Latest
                });
            }
            (read, level.and_then(Level::parse).is_some(), level.is_some(), version.is_some())
        };
        let (enforce, is_enforced, ..) = read("enforce", Level::Restricted);
        let (audit, ..) = read("audit", Level::Privileged);
        let (mut warn, _, warns, has_version) = read("warn", Level::Privileged);
        if !warns && is_enforced && enforce.level > warn.level {
            warn.level = enforce.level;
            if !has_version {
                warn.version = enforce.version;
            }
        }
        (Policy { enforce, audit, warn }, faults)
    }
}

fn fault(label: &str, value: &str, detail: &str) -> Cause {
    Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {value:?}: {detail}"),
        field: format!("metadata.labels[{label}]"),
    }
}

/// What a pod, or a template of pods, does that a level forbids: baseline's first, then restricted's,
/// each in the order of the checks' names.
pub fn violations(mode: LevelVersion, metadata: &Value, spec: &Value) -> Vec<Violation> {
    let pod = checks::Pod { metadata, spec };
    let minor = match mode.version {
        Version::Latest => u32::MAX,
        Version::Minor(minor) => minor,
    };
    let current: Vec<&checks::Check> = checks::CHECKS
        .iter()
        .filter(|check| mode.level >= check.level && check.from <= minor)
        .filter(|check| check.until.is_none_or(|until| minor < until))
        .collect();
    let overridden = |name: &str| current.iter().any(|check| check.overrides == Some(name));
    current
        .iter()
        .filter(|check| !overridden(check.name))
        .filter_map(|check| {
            // Since 1.25 what only Linux has is not asked of pods for Windows.
            let exempt = check.linux_only && minor >= 25 && spec["os"]["name"] == "windows";
            if exempt { None } else { (check.run)(&pod) }
        })
        .collect()
}

/// One text of all reasons.
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// One text of all reasons, each with its detail.
pub fn details(violations: &[Violation]) -> String {
    let texts = violations.iter().map(|one| {
        if one.detail.is_empty() { one.reason.clone() } else { format!("{} ({})", one.reason, one.detail) }
    });
    texts.collect::<Vec<_>>().join(", ")
}
