//! What a mutating policy may build: objects of any fields, and JSON patches.

use std::sync::Arc;

use crate::checker::Structure;
use crate::types::{ObjectType, Type};

/// Structures of mutating policies: `Object`, `Object.spec`, … and `JSONPatch`.
pub fn structures(name: &str) -> Option<Structure> {
    static PATCH: [(&str, Type); 4] =
        [("op", Type::String), ("path", Type::String), ("from", Type::String), ("value", Type::Dyn)];
    if name == "JSONPatch" {
        return Some(Structure::Closed(Type::Opaque("JSONPatch"), &PATCH));
    }
    if name == "Object" || name.starts_with("Object.") {
        let object = ObjectType { name: name.to_owned(), ..ObjectType::default() };
        return Some(Structure::Open(Arc::new(object)));
    }
    None
}
