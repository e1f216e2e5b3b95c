//! The hand-kept overlay: attributes of types and fields that the JSON schemas do not carry.
//!
//! Line by line: `@package` and `:Type attributes…` open a type, ` field attributes…` adds to a
//! field of it, `#` begins a comment. A name that no schema knows is an error, so that the overlay
//! cannot rot.

use anyhow::{Context, Result, bail};

use crate::table::{Table, Type};

const KNOWN: [&str; 7] = ["list=", "map=", "merge=", "patch=", "default=", "go=", "enum="];

/// Adds the overlay's attributes to the table.
pub fn merge(table: &mut Table, overlay: &str) -> Result<()> {
    let mut package = String::new();
    let mut open: Option<&mut Type> = None;
    let mut types = std::mem::take(&mut table.types);
    for (at, line) in overlay.lines().enumerate() {
        let context = || format!("overlay.txt line {}: {line}", at + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('@') {
            package = name.to_owned();
            continue;
        }
        let mut words = line.trim_start_matches([':', ' ']).split(' ');
        let name = words.next().with_context(context)?;
        let attributes = words.map(str::to_owned).collect::<Vec<_>>();
        if attributes.iter().any(|one| !KNOWN.iter().any(|known| one.starts_with(known))) {
            bail!("{}: unknown attribute", context());
        }
        if line.starts_with(':') {
            let one = types.get_mut(&format!("{package}.{name}")).with_context(context)?;
            one.attributes.extend(attributes);
            open = Some(one);
        } else {
            let one = open.as_mut().with_context(context)?;
            let field = one.fields.get_mut(name).with_context(context)?;
            // What has a default may be left out.
            field.required &= !attributes.iter().any(|one| one.starts_with("default="));
            field.attributes.extend(attributes);
        }
    }
    table.types = types;
    Ok(())
}
