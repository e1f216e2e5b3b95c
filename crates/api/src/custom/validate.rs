//! Holds an object against the validation of its schema, in the words of Kubernetes.
//!
//! On updates, values that are as they were are not held against it (KEP-4008), so that a schema may
//! become stricter without making old objects unchangeable. Old and new values are matched by field
//! name and, in lists of type map, by key.

mod scalar;

use serde_json::{Map, Value};

use super::structural::{Additional, Checks, Kind, ListKind, Structural};
use crate::status::Cause;
use crate::validation::shown;

/// The faults of a new object.
pub fn create(schema: &Structural, object: &Value) -> Vec<Cause> {
    run(schema, object, None)
}

/// The faults of an object that replaces another.
pub fn update(schema: &Structural, new: &Value, old: &Value) -> Vec<Cause> {
    run(schema, new, Some(old))
}

/// Whether a value fits a schema, for defaults.
pub fn value(schema: &Structural, value: &Value, path: &str) -> Vec<Cause> {
    let mut found = Found::default();
    Validator.node(schema, value, None, path, &mut found);
    found.faults
}

fn run(schema: &Structural, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    value_at(schema, new, old)
}

fn value_at(schema: &Structural, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut found = Found::default();
    Validator.node(schema, new, old, "", &mut found);
    found.faults.truncate(super::MAX_FAULTS);
    found.faults
}

/// What one schema made of a value.
#[derive(Default)]
struct Found {
    faults: Vec<Cause>,
    /// How much of the value fitted: which of several alternatives came closest.
    matches: usize,
}

impl Found {
    fn add(&mut self, reason: &str, path: &str, message: String) {
        let field = path.trim_start_matches('.').to_owned();
        let field = if field.is_empty() { "<nil>".to_owned() } else { field };
        let cause = Cause { reason: reason.to_owned(), message, field };
        if self.faults.len() <= super::MAX_FAULTS && !self.faults.contains(&cause) {
            self.faults.push(cause);
        }
    }

    /// `Invalid value: <shown>: <path> in body <why>`.
    fn invalid(&mut self, path: &str, value: &Value, why: &str) {
        self.add(
            "FieldValueInvalid",
            path,
            format!("Invalid value: {}: {}{why}", shown(value), subject(path)),
        );
    }

    /// A fault of no place of its own.
    fn general(&mut self, text: String) {
        self.add("FieldValueInvalid", "", format!("Invalid value: \"\": {text}"));
    }

    fn mistyped(&mut self, path: &str, value: &Value, expected: &str, actual: &str) {
        let shown = shown(value);
        let text = format!("Invalid value: {shown}: {}must be of type {expected}: {actual:?}", subject(path));
        self.add("FieldValueTypeInvalid", path, text);
    }

    fn merge(&mut self, other: Found) {
        self.matches += other.matches;
        for fault in other.faults {
            if self.faults.len() <= super::MAX_FAULTS && !self.faults.contains(&fault) {
                self.faults.push(fault);
            }
        }
    }

    fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }
}

fn subject(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path} in body ") }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The type of a value in Kubernetes' words.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if scalar::is_whole(number) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

struct Validator;

impl Validator {
    fn node(&self, schema: &Structural, value: &Value, old: Option<&Value>, path: &str, found: &mut Found) {
        if old == Some(value) {
            found.matches += 1;
            return;
        }
        let before = found.faults.len();
        self.kind(schema, value, path, found);
        let checks = schema.checks.as_deref();
        if !value.is_null() {
            if let Some(checks) = checks {
                scalar::check(checks, schema.kind, value, path, found);
                self.junctors(checks, value, old, path, found);
            }
            match value {
                Value::Array(items) => self.list(schema, checks, items, old, path, found),
                Value::Object(fields) => self.object(schema, checks, fields, old, path, found),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        if let Some(checks) = checks.filter(|checks| !checks.values.is_empty())
            && !(value.is_null() && schema.nullable)
        {
            self.enumeration(checks, value, path, found);
        }
        if found.faults.len() == before {
            found.matches += 1;
        }
    }

    fn kind(&self, schema: &Structural, value: &Value, path: &str, found: &mut Found) {
        let expected = match schema.kind {
            _ if schema.int_or_string => "integer,string",
            Some(kind) => kind.as_str(),
            None => return,
        };
        if value.is_null() {
            if !schema.nullable {
                found.mistyped(path, &Value::from("null"), expected, "null");
            }
            return;
        }
        let actual = type_of(value);
        let fits = match (schema.kind, value) {
            _ if schema.int_or_string => matches!(actual, "integer" | "string"),
            (Some(Kind::Number), Value::Number(_)) => true,
            (Some(kind), _) => kind.as_str() == actual,
            (None, _) => true,
        };
        if !fits {
            found.mistyped(path, &Value::from(actual), expected, actual);
        }
    }

    fn enumeration(&self, checks: &Checks, value: &Value, path: &str, found: &mut Found) {
        if checks.values.iter().any(|allowed| scalar::same(allowed, value)) {
            found.matches += 1;
            return;
        }
        let allowed: Vec<String> = checks
            .values
            .iter()
            .map(|allowed| match allowed {
                Value::String(text) => format!("{text:?}"),
                other => format!("{:?}", other.to_string()),
            })
            .collect();
        let message =
            format!("Unsupported value: {}: supported values: {}", shown(value), allowed.join(", "));
        found.add("FieldValueNotSupported", path, message);
    }

    fn list(
        &self,
        schema: &Structural,
        checks: Option<&Checks>,
        items: &[Value],
        old: Option<&Value>,
        path: &str,
        found: &mut Found,
    ) {
        if let Some(of) = schema.items.as_deref() {
            let before = old.and_then(Value::as_array);
            for (at, item) in items.iter().enumerate() {
                let old = before.and_then(|before| counterpart(schema.list.as_ref(), item, before));
                self.node(of, item, old, &format!("{path}[{at}]"), found);
            }
        }
        let Some(checks) = checks else { return };
        if let Some(least) = checks.min_items.filter(|least| items.len() < *least) {
            let count = Value::from(items.len());
            found.invalid(path, &count, &format!("should have at least {least} items"));
        }
        if let Some(most) = checks.max_items.filter(|most| items.len() > *most) {
            let message = format!("Too many: {}: must have at most {most} items", items.len());
            found.add("FieldValueTooMany", path, message);
        }
    }

    fn object(
        &self,
        schema: &Structural,
        checks: Option<&Checks>,
        fields: &Map<String, Value>,
        old: Option<&Value>,
        path: &str,
        found: &mut Found,
    ) {
        if let Some(checks) = checks {
            if let Some(least) = checks.min_properties.filter(|least| fields.len() < *least) {
                let count = Value::from(fields.len());
                found.invalid(path, &count, &format!("should have at least {least} properties"));
            }
            if let Some(most) = checks.max_properties.filter(|most| fields.len() > *most) {
                let message = format!("Too many: {}: must have at most {most} items", fields.len());
                found.add("FieldValueTooMany", path, message);
            }
        }
        let before = old.filter(|_| !schema.atomic_map).and_then(Value::as_object);
        for (key, field) in fields {
            let inner = match (schema.properties.get(key), &schema.additional) {
                (Some(property), _) => property,
                (None, Additional::Of(of)) => of,
                (None, Additional::Flag(false)) => {
                    found.general(format!("{path}.{key} in body is a forbidden property"));
                    continue;
                }
                (None, Additional::Flag(true) | Additional::Absent) => continue,
            };
            let old = before.and_then(|before| before.get(key));
            self.node(inner, field, old, &joined(path, key), found);
        }
        for name in checks.map(|checks| checks.required.as_slice()).unwrap_or_default() {
            if fields.contains_key(name) {
                found.matches += 1;
            } else {
                found.add("FieldValueRequired", &joined(path, name), "Required value".to_owned());
            }
        }
    }

    fn junctors(&self, checks: &Checks, value: &Value, old: Option<&Value>, path: &str, found: &mut Found) {
        let attempt = |schema: &Structural, old: Option<&Value>| {
            let mut attempt = Found::default();
            self.node(schema, value, old, path, &mut attempt);
            attempt
        };
        if !checks.any_of.is_empty() {
            let mut best: Option<Found> = None;
            let mut fits = false;
            for schema in &checks.any_of {
                let tried = attempt(schema, old);
                if tried.is_valid() {
                    fits = true;
                    break;
                }
                if best.as_ref().is_none_or(|best| tried.matches > best.matches) {
                    best = Some(tried);
                }
            }
            if !fits {
                found.general(format!("{path:?} must validate at least one schema (anyOf)"));
                found.merge(best.unwrap_or_default());
            }
        }
        if !checks.one_of.is_empty() {
            let mut tried: Vec<Found> = checks.one_of.iter().map(|schema| attempt(schema, None)).collect();
            let fitting = tried.iter().filter(|tried| tried.is_valid()).count();
            if fitting != 1 {
                let more = match fitting {
                    0 => "Found none valid".to_owned(),
                    several => format!("Found {several} valid alternatives"),
                };
                found.general(format!("{path:?} must validate one and only one schema (oneOf). {more}"));
                // Of several that came equally close the first.
                tried.reverse();
                if let (0, Some(best)) = (fitting, tried.into_iter().max_by_key(|tried| tried.matches)) {
                    found.merge(best);
                }
            }
        }
        if !checks.all_of.is_empty() {
            let mut fitting = 0;
            for schema in &checks.all_of {
                let tried = attempt(schema, old);
                fitting += usize::from(tried.is_valid());
                found.merge(tried);
            }
            if fitting != checks.all_of.len() {
                let more = if fitting == 0 { ". None validated" } else { "" };
                found.general(format!("{path:?} must validate all the schemas (allOf){more}"));
            }
        }
        if checks.not.as_deref().is_some_and(|schema| attempt(schema, None).is_valid()) {
            found.general(format!("{path:?} must not validate the schema (not)"));
        }
    }
}

/// The item of the old list that a new one replaces; None where items have no identity.
fn counterpart<'v>(kind: Option<&ListKind>, item: &Value, before: &'v [Value]) -> Option<&'v Value> {
    match kind {
        Some(ListKind::Map(keys)) => {
            before.iter().find(|old| keys.iter().all(|key| old.get(key) == item.get(key)))
        }
        Some(ListKind::Set | ListKind::Atomic) | None => None,
    }
}
