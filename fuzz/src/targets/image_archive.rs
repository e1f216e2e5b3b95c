//! Images as archives: what is imported is whole, what is not leaves nothing.

use std::fs;
use std::io::Cursor;

use sampan_image::{ImageStore, ImportOptions, Limits};

/// An archive as `docker save` or an OCI tool writes it, or anything else.
pub fn run(data: &[u8]) {
    let yard = tempfile::tempdir().expect("a directory");
    fs::write(yard.path().join("canary"), "safe").expect("written");
    let limits = Limits {
        max_layer_bytes: 1 << 20,
        max_image_bytes: 4 << 20,
        max_entries: 64,
        max_layers: 8,
        ratio_slack_bytes: 1 << 20,
        ..Limits::default()
    };
    let store = ImageStore::open_with(&yard.path().join("store"), limits).expect("a store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let imported = runtime.block_on(store.import(Cursor::new(data.to_vec()), ImportOptions::default()));
    match imported {
        // An index may be empty.
        Ok(names) if names.is_empty() => assert!(store.list().is_empty()),
        Ok(names) => {
            for name in &names {
                let image = store.find(name).expect("a name").expect("what was imported is found");
                assert!(image.layers.len() <= 8, "{} layers", image.layers.len());
            }
            // What was imported can be saved, and what was saved imported.
            let saved = runtime.block_on(store.save(&names, Vec::new())).expect("it is whole");
            let other = ImageStore::open(&yard.path().join("other")).expect("a store");
            let again = runtime.block_on(other.import(Cursor::new(saved), ImportOptions::default()));
            assert!(!again.expect("what was saved can be imported").is_empty());
            let here = store.list();
            for image in other.list() {
                assert!(here.iter().any(|known| known.id == image.id), "{} came from nowhere", image.id);
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(store.list().is_empty(), "nothing of it is in the store");
        }
    }
    assert_eq!(fs::read_to_string(yard.path().join("canary")).ok().as_deref(), Some("safe"));
}
