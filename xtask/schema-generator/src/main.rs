//! Writes the table of Kubernetes' types that the `sampan-api` crate embeds.
//!
//! Usage: `schema-generator <directory>`, the directory being `crates/api/schema`. It reads
//! `overlay.txt` there and writes `types.txt` (what a request's body may hold) and
//! `descriptions.zz` (zlib: the documentation of every type and field, one line each, in the order
//! of `types.txt`). The formats are described in `crates/api/src/schema/parse.rs`.
//!
//! How the same types lie in protobuf (`protobuf.txt`) is written by the Go command in `protobuf`
//! beside this one, as only the Go types know it: `cd protobuf && go run . > …/protobuf.txt`.

mod overlay;
mod roots;
mod table;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).context("usage: schema-generator <directory>")?);
    let overlay_path = directory.join("overlay.txt");
    let overlay =
        std::fs::read_to_string(&overlay_path).with_context(|| overlay_path.display().to_string())?;

    let definitions = roots::definitions();
    let mut table = table::Table::from_definitions(&definitions)?;
    overlay::merge(&mut table, &overlay)?;

    let (types, descriptions) = table.render();
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(descriptions.as_bytes())?;
    let packed = encoder.finish()?;
    println!(
        "{} types, {} fields; types.txt {} bytes, descriptions.zz {} bytes",
        table.types.len(),
        table.types.values().map(|one| one.fields.len()).sum::<usize>(),
        types.len(),
        packed.len()
    );
    std::fs::write(directory.join("types.txt"), types)?;
    std::fs::write(directory.join("descriptions.zz"), packed)?;
    Ok(())
}
