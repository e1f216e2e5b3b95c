//! `cargo xtask check`: format, lints, the dependency graph, licences.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::run::{cargo, cargo_command, root};

/// What each crate may use of ours: arrows point down only. Tests may use more.
const GRAPH: [(&str, &[&str]); 19] = [
    ("sampan-base", &[]),
    ("sampan-api", &[]),
    ("sampan-cel", &["api"]),
    ("sampan-storage", &["base"]),
    ("sampan-client", &["base", "api"]),
    ("sampan-apiserver", &["base", "api", "cel", "storage", "client"]),
    ("sampan-runtime", &["base"]),
    ("sampan-image", &["base"]),
    ("sampan-net", &["base"]),
    ("sampan-dns", &["base", "api", "client"]),
    ("sampan-node", &["base", "api", "client", "runtime", "image", "net", "dns"]),
    ("sampan-scheduler", &["base", "api", "client"]),
    ("sampan-controllers", &["base", "api", "client"]),
    (
        "sampan",
        &[
            "base",
            "api",
            "cel",
            "storage",
            "client",
            "apiserver",
            "runtime",
            "image",
            "net",
            "dns",
            "node",
            "scheduler",
            "controllers",
        ],
    ),
    ("sampan-testkit", &[]),
    ("sampan-fuzz", &["api", "apiserver", "cel", "client", "dns", "image", "node", "runtime", "storage"]),
    ("shop", &[]),
    ("sampan-bench", &["api", "client", "storage", "testkit"]),
    ("xtask", &["testkit"]),
];

/// What the pure crates must not know, directly.
const PURE: [&str; 2] = ["sampan-api", "sampan-cel"];
const IMPURE: [&str; 5] = ["tokio", "hyper", "nix", "libc", "rustix"];

/// Licences under which a dependency may be.
const LICENCES: [&str; 13] = [
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unlicense",
    "CC0-1.0",
    "0BSD",
    "BSL-1.0",
    "Unicode-3.0",
    "MPL-2.0",
    "MIT-0",
];
/// Licences that are accepted for one crate, with the reason.
const EXCEPTIONS: [(&str, &str); 2] = [
    // LLVM's libFuzzer inside, which only the fuzz targets are linked with.
    ("libfuzzer-sys", "NCSA"),
    // A linking wrapper around a C library under the LGPL, which is linked dynamically.
    ("libseccomp-sys", "LGPL-2.1-only"),
];

pub fn check() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"])?;
    let packages = packages()?;
    check_graph(&packages)?;
    check_licences(&packages)?;
    println!("format, lints, dependency graph and licences hold");
    Ok(())
}

pub fn packages() -> Result<Vec<Value>> {
    let output = cargo_command()
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    Ok(metadata["packages"].as_array().context("cargo metadata lists packages")?.clone())
}

fn check_graph(packages: &[Value]) -> Result<()> {
    let allowed: BTreeMap<&str, BTreeSet<String>> = GRAPH
        .iter()
        .map(|(name, below)| (*name, below.iter().map(|name| format!("sampan-{name}")).collect()))
        .collect();
    let mut faults = Vec::new();
    for package in packages.iter().filter(|package| package["source"].is_null()) {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = allowed.get(name) else {
            faults.push(format!(
                "{name} has no place in the dependency graph; give it one in xtask/src/check.rs"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            if dependency["kind"].is_string() {
                continue;
            }
            if (used.starts_with("sampan-") || used == "sampan") && !allowed.contains(used) {
                faults.push(format!("{name} must not use {used}: arrows point down only"));
            }
            if PURE.contains(&name) && IMPURE.contains(&used) {
                faults.push(format!("{name} is pure and must not use {used}"));
            }
        }
    }
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("\n")) }
}

fn check_licences(packages: &[Value]) -> Result<()> {
    let accepted =
        |name: &str, licence: &str| LICENCES.contains(&licence) || EXCEPTIONS.contains(&(name, licence));
    let mut faults = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let licence = package["license"].as_str().unwrap_or_default();
        // `A OR B` needs one that is accepted, `A AND B` all; a `WITH` exception only adds rights.
        let alternative = |text: &str| {
            text.split(" AND ").all(|one| {
                accepted(
                    name,
                    one.split(" WITH ").next().unwrap_or_default().trim_matches(['(', ')', ' ', '+']),
                )
            })
        };
        let fine = licence.replace('/', " OR ").split(" OR ").any(alternative);
        if !fine {
            faults.push(format!("{name}: licence {licence:?} is not accepted"));
        }
    }
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("\n")) }
}
