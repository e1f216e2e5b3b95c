//! Layers of images: nothing outside of the root changes, and no limit is exceeded.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use sampan_image::fuzzing::unpack;
use sampan_image::{Digest, Limits};

use crate::input;

const CANARY: &str = "safe";

fn limits() -> Limits {
    Limits {
        max_layer_bytes: 1 << 20,
        max_image_bytes: 1 << 20,
        max_entries: 64,
        max_depth: 16,
        max_header_bytes: 16 << 10,
        ratio_slack_bytes: 1 << 20,
        ..Limits::default()
    }
}

/// A layer; by the first byte as it is, compressed, or above one that was unpacked before.
pub fn run(data: &[u8]) {
    let Some((choice, layer)) = input::choice(data) else { return };
    let yard = tempfile::tempdir().expect("a directory");
    let (root, below) = (yard.path().join("root"), yard.path().join("below"));
    fs::create_dir(&root).and_then(|()| fs::create_dir(&below)).expect("directories");
    fs::write(yard.path().join("canary"), CANARY).expect("written");
    fs::write(below.join("a"), CANARY).expect("written");
    let blob = if choice % 3 == 1 { gzip(layer) } else { layer.to_vec() };
    let lowers = if choice % 3 == 2 { vec![below.clone()] } else { Vec::new() };
    let result = unpack(&blob, &Digest::of(layer), &root, &lowers, &limits());
    if let Ok(written) = result {
        assert!(written <= limits().max_layer_bytes);
    }
    let held = held(&root);
    assert!(held <= 2 * limits().max_layer_bytes, "{held} bytes");
    for safe in [yard.path().join("canary"), below.join("a")] {
        assert_eq!(fs::read_to_string(&safe).ok().as_deref(), Some(CANARY), "{}", safe.display());
    }
    let entries = fs::read_dir(yard.path()).expect("read").count();
    assert_eq!(entries, 3, "nothing stands beside the root");
    assert_eq!(fs::read_dir(&below).expect("read").count(), 1, "nothing is added to a layer below");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(bytes, flate2::Compression::fast());
    encoder.read_to_end(&mut out).expect("memory does not fail");
    out
}

/// The bytes of all files below a directory.
fn held(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let metadata = entry.metadata().expect("it exists");
            if metadata.is_dir() { held(&entry.path()) } else { metadata.len() }
        })
        .sum()
}
