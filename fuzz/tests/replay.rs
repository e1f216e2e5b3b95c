//! The seeds of every target and all inputs that once were findings, run by the ordinary tests.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use sampan_fuzz::{TARGETS, check};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The names of what is in a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn every_target_has_a_program_and_seeds() {
    let targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert!(targets.is_sorted(), "{targets:?}");
    assert_eq!(names(&directory("corpus")), targets);
    let programs: Vec<String> = targets.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&directory("fuzz_targets")), programs);
    let manifest = fs::read_to_string(directory("Cargo.toml")).expect("the manifest");
    for name in targets {
        let program =
            fs::read_to_string(directory("fuzz_targets").join(format!("{name}.rs"))).expect("a program");
        assert!(program.contains(&format!("run(\"{name}\", data)")), "{name} drives another target");
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name} is not in the manifest"
        );
    }
}

#[test]
fn seeds_and_past_findings_hold() {
    let failed: Vec<String> = std::thread::scope(|scope| {
        let replays: Vec<_> = TARGETS
            .iter()
            .map(|(name, target)| {
                scope.spawn(move || {
                    let corpus = directory("corpus").join(name);
                    let inputs = names(&corpus);
                    assert!(!inputs.is_empty(), "{name} has no seeds");
                    let fails = |input: &String| {
                        let data = fs::read(corpus.join(input)).expect("a seed");
                        catch_unwind(|| check(*target, &data)).is_err()
                    };
                    let failed = inputs.into_iter().filter(fails);
                    failed.map(|input| format!("{name}/{input}")).collect::<Vec<_>>()
                })
            })
            .collect();
        replays.into_iter().flat_map(|replay| replay.join().expect("a target with seeds")).collect()
    });
    assert!(failed.is_empty(), "what failed, told above: {failed:?}");
}
