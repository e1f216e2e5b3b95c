//! Durable writes per second: `cargo run --release -p sampan-storage --example write_rate [DIR]`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sampan_storage::{Options, RedbStore, Store, StoreError, Write};

/// About what a pod has.
const VALUE_BYTES: usize = 3800;
const DURATION: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), StoreError> {
    let parent = std::env::args().nth(1).unwrap_or_else(|| std::env::temp_dir().display().to_string());
    let directory = std::path::Path::new(&parent).join(format!("write-rate-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("a directory to write in");
    let result = measure(&directory).await;
    std::fs::remove_dir_all(&directory).expect("ours");
    result
}

async fn measure(directory: &std::path::Path) -> Result<(), StoreError> {
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(directory.join("store"), Options::default())?);
    for writers in [1, 16, 256] {
        let start = Instant::now();
        let tasks: Vec<_> = (0..writers)
            .map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut count = 0u64;
                    while start.elapsed() < DURATION {
                        let key = format!("/registry/pods/{writer}/{}", count % 100);
                        store.commit(Write::put(key, vec![b'x'; VALUE_BYTES])).await.expect("stored");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let mut count = 0;
        for task in tasks {
            count += task.await.expect("does not panic");
        }
        println!("{writers:4} writers: {:8.0} writes/s", count as f64 / start.elapsed().as_secs_f64());
    }
    println!("{:?}", store.stats().await?);
    store.close().await;
    let start = Instant::now();
    let store = RedbStore::open(directory.join("store"), Options::default())?;
    println!("opens in {:?}", start.elapsed());
    drop(store);
    println!("opens and closes in {:?}", start.elapsed());
    Ok(())
}
