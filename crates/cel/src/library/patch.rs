//! What a mutating policy may build: objects of any fields, and JSON patches.

use std::sync::Arc;

use super::{Library, text};
use crate::checker::Structure;
use crate::types::{ObjectType, Type};
use crate::value::{Key, List, Map, Value};

/// The type of the whole object that an apply configuration describes.
pub const OBJECT: &str = "Object";
/// The type of one operation of a JSON patch.
pub const JSON_PATCH: &str = "JSONPatch";
/// The one function of the library, which exists only beside these types.
pub const ESCAPE_KEY: &str = "jsonpatch.escapeKey";

pub const LIBRARY: Library = &[(&["jsonpatch.escapeKey(string) -> string"], |budget, args| {
    let escaped = text(args, 0)?.replace('~', "~0").replace('/', "~1");
    budget.work(escaped.len())?;
    Ok(Value::string(escaped))
})];

/// Structures of mutating policies: `Object`, `Object.spec`, … and `JSONPatch`.
pub fn structures(name: &str) -> Option<Structure> {
    static PATCH: [(&str, Type); 4] =
        [("op", Type::String), ("path", Type::String), ("from", Type::String), ("value", Type::Dyn)];
    if name == JSON_PATCH {
        return Some(Structure::Closed(Type::Opaque(JSON_PATCH), &PATCH));
    }
    if name == OBJECT || name.strip_prefix(OBJECT).is_some_and(|rest| rest.starts_with('.')) {
        return Some(Structure::Open(open(name)));
    }
    None
}

/// What the expression of an apply configuration must evaluate to.
pub fn object_type() -> Type {
    Type::Object(open(OBJECT))
}

/// What the expression of a JSON patch must evaluate to.
pub fn patch_type() -> Type {
    Type::list(Type::Opaque(JSON_PATCH))
}

fn open(name: &str) -> Arc<ObjectType> {
    Arc::new(ObjectType { name: name.to_owned(), open: true, ..ObjectType::default() })
}

/// The structures whose names are not those of the paths at which they stand, as upstream tells them.
///
/// Lists and maps between them have no part in the names.
pub fn misnamed(value: &Value<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    if let Value::Map(Map::Owned(map)) = value
        && let Some(name) = &map.name
    {
        walk(value, name, &mut faults);
    }
    faults
}

fn walk(value: &Value<'_>, expected: &str, faults: &mut Vec<String>) {
    match value {
        Value::List(List::Owned { items, .. }) => items.iter().for_each(|item| walk(item, expected, faults)),
        Value::Map(Map::Owned(map)) => {
            let Some(name) = &map.name else {
                return map.entries.values().for_each(|value| walk(value, expected, faults));
            };
            if name.as_ref() != expected {
                faults.push(format!(
                    "unexpected type name {name:?}, expected {expected:?}, which matches field name path from root Object type"
                ));
            }
            for (key, value) in &map.entries {
                if let Key::String(field) = key {
                    walk(value, &format!("{expected}.{field}"), faults);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::conditions::{Offered, environment};
    use crate::value::json::to_json;
    use crate::{CompileError, Evaluator, Program};

    use super::*;

    fn compiled(text: &str, wanted: Type) -> Result<Program, CompileError> {
        let offered = Offered { patches: true, ..Offered::default() };
        Program::returning(text, &environment(offered, &[]), &[wanted])
    }

    fn check_object(text: &str, expected: serde_json::Value) {
        let program = compiled(text, object_type()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let object = json!({"spec": {"replicas": 2}});
        let mut evaluator = Evaluator::new(vec![("object", Value::from_json(&object, None))]);
        let (outcome, _) = evaluator.run(&program, 1_000_000);
        let value = outcome.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(to_json(&value), Some(expected), "{text}");
        assert_eq!(misnamed(&value), Vec::<String>::new(), "{text}");
    }

    #[test]
    fn objects_have_the_names_of_their_paths() {
        check_object("Object{}", json!({}));
        check_object(
            "Object{spec: Object.spec{replicas: object.spec.replicas + 1}}",
            json!({"spec": {"replicas": 3}}),
        );
        check_object(
            "object.spec.replicas > 1 ? Object{} : Object{metadata: Object.metadata{labels: {'a': 'b'}}}",
            json!({}),
        );
        check_object(
            "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'a'}]}}",
            json!({"spec": {"containers": [{"name": "a"}]}}),
        );
        check_object("Object{?spec: optional.none()}", json!({}));
        check_object("Object{spec: Object.spec{replicas: Object{a: 1}.a}}", json!({"spec": {"replicas": 1}}));
    }

    #[test]
    fn a_structure_of_another_path_is_told() {
        let program = compiled("Object{spec: Object.spec{selector: [Object.spec.wrong{}]}}", object_type())
            .expect("dynamic");
        let (outcome, _) = Evaluator::new(Vec::new()).run(&program, 1_000_000);
        assert_eq!(
            misnamed(&outcome.expect("a value")),
            [
                "unexpected type name \"Object.spec.wrong\", expected \"Object.spec.selector\", which matches field name path from root Object type"
            ]
        );
    }

    #[test]
    fn results_are_held_to_their_types() {
        let told = |text: &str, wanted: Type| compiled(text, wanted).expect_err(text).to_string();
        assert_eq!(told("Object.spec{}", object_type()), "must evaluate to Object");
        assert_eq!(told("{'a': 1}", object_type()), "must evaluate to Object");
        assert_eq!(told("[1]", patch_type()), "must evaluate to list(JSONPatch)");
        assert!(told("[JSONPatch{op: 1}]", patch_type()).contains("expected type of field 'op'"));
        assert!(told("[JSONPatch{what: 1}]", patch_type()).contains("undefined field 'what'"));
        assert!(compiled("[]", patch_type()).is_ok());
        assert!(compiled("[JSONPatch{op: 'add', path: '/a', value: {'b': 1}}] + []", patch_type()).is_ok());
    }

    #[test]
    fn keys_are_escaped_only_where_patches_are_made() {
        let text = "jsonpatch.escapeKey('a/b~c') == 'a~1b~0c'";
        let program = compiled(text, Type::Bool).expect("it compiles");
        let (outcome, cost) = Evaluator::new(Vec::new()).run(&program, 1_000_000);
        assert!(matches!(outcome, Ok(Value::Bool(true))));
        assert_eq!(cost, 2);
        let without = Program::compile(text, &environment(Offered::default(), &[]));
        assert!(without.expect_err("no patches").to_string().contains("undeclared reference to 'jsonpatch'"));
    }
}
