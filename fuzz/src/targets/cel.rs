//! CEL: expressions, and the rules of custom resources.

use std::sync::{Arc, OnceLock};

use sampan_cel::schema::declaration;
use sampan_cel::value::json::to_json;
use sampan_cel::{Decl, Environment, Evaluator, Program, Rules, Value};
use serde_json::{Value as Json, json};

use crate::input;

/// What an evaluation may cost here: enough to get everywhere, little enough to be fast.
const LIMIT: u64 = 20_000;

fn environment() -> &'static Environment {
    static ENVIRONMENT: OnceLock<Environment> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let schema = json!({"type": "object", "properties": {
            "n": {"type": "integer"}, "s": {"type": "string"}, "d": {"type": "number"},
            "b": {"type": "boolean"},
            "l": {"type": "array", "items": {"type": "integer"}},
            "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "m": {"type": "object", "additionalProperties": {"type": "string"}},
            "port": {"x-kubernetes-int-or-string": true},
            "t": {"type": "string", "format": "date-time"},
        }});
        let decl = Arc::new(declaration(&schema, false).expect("a declaration"));
        Environment::default().with("self", decl).with("any", Arc::new(Decl::dynamic()))
    })
}

fn object() -> &'static Json {
    static OBJECT: OnceLock<Json> = OnceLock::new();
    OBJECT.get_or_init(|| {
        json!({"n": 3, "s": "hello", "d": 2.5, "b": true, "l": [3, 1, 2], "set": ["a", "b"],
            "m": {"k": "v"}, "port": "80%", "t": "2024-01-02T03:04:05Z"})
    })
}

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    if choice % 4 == 0 {
        rules(rest);
    } else if let Some(text) = input::text(rest) {
        expression(text);
    }
}

fn expression(text: &str) {
    let environment = environment();
    let Ok(program) = Program::compile(text, environment) else { return };
    assert_eq!(program.text(), text);
    let estimate = program.estimate(environment);
    assert!(estimate.min <= estimate.max, "{text}: {estimate:?}");
    let (first, spent) = evaluate(&program);
    assert_eq!((&first, spent), (&evaluate(&program).0, spent), "{text} is evaluated twice");
}

/// The value as JSON or the error, and what it cost.
fn evaluate(program: &Program) -> (Result<Option<Json>, String>, u64) {
    let declared = environment().variables.get("self").map(|decl| decl.as_ref());
    let roots =
        vec![("self", Value::from_json(object(), declared)), ("any", Value::from_json(object(), None))];
    let mut evaluator = Evaluator::new(roots);
    let (outcome, spent) = evaluator.run(program, LIMIT);
    (outcome.map(|value| to_json(&value)).map_err(|error| error.to_string()), spent)
}

/// A schema with rules, a line break, an object that they are run on.
fn rules(data: &[u8]) {
    let Some((schema, object)) = input::halves(data) else { return };
    let (Ok(schema), Ok(object)) =
        (serde_json::from_slice::<Json>(schema), serde_json::from_slice::<Json>(object))
    else {
        return;
    };
    match Rules::compile(&schema, "schema") {
        Ok(rules) => {
            let faults = rules.validate(&object, None, false);
            assert!(!rules.is_empty() || faults.is_empty());
            let _ = rules.validate(&object, Some(&object), true);
        }
        Err(causes) => assert!(!causes.is_empty()),
    }
}
