//! The expressions of a mutating policy on a request, and what they make of its object.

use sampan_api::Status;
use sampan_api::apply::{self, Duplicates, Typed};
use sampan_api::patch::{self, PatchError};
use sampan_api::schema::FieldValidation;
use sampan_api::table::ResourceDef;
use sampan_cel::Program;
use sampan_cel::conditions::{self, Verdict};
use sampan_cel::library::patch::misnamed;
use sampan_cel::rules::{CALL_LIMIT, OBJECT_BUDGET};
use sampan_cel::value::json::to_json;
use sampan_cel::value::{Map, Value as Cel};
use serde_json::{Map as JsonMap, Value};

use super::Invocation;
use super::policy::Mutator;
use crate::admission::expressions::{RequestAuthorizer, Subject};
use crate::admission::{Attributes, versioned};
use crate::registry::Context;

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";
const OPERATIONS: [&str; 6] = ["add", "remove", "replace", "move", "copy", "test"];

/// Why a mutation did not happen.
#[derive(Debug)]
pub enum Fault {
    /// The failure policy decides.
    Failed(String),
    /// The request is refused whatever the policy says.
    Refused(Box<Status>),
}

/// One policy with one parameter on one request.
pub struct Run<'a> {
    pub invocation: &'a Invocation,
    pub attributes: &'a Attributes<'a>,
    pub authorizer: &'a RequestAuthorizer,
    pub context: &'a Context,
}

impl Run<'_> {
    /// Whether the conditions of the policy hold.
    pub fn concerns(&self, object: &Value) -> Result<bool, String> {
        let Ok(programs) = &self.invocation.policy.programs else { return Ok(false) };
        if programs.conditions.is_empty() {
            return Ok(true);
        }
        let subject = self.subject(object);
        let request = subject.request(self.invocation.param.as_ref(), self.authorizer);
        match programs.conditions.evaluate(request) {
            Verdict::Matches => Ok(true),
            Verdict::Excluded(_) => Ok(false),
            Verdict::Failed(_) if self.invocation.policy.ignores_failures => Ok(false),
            Verdict::Failed(errors) => Err(errors.join(", ")),
        }
    }

    /// Changes the object; whether it is another then.
    pub fn mutate(&self, mutation: &Mutator, object: &mut Value) -> Result<bool, Fault> {
        let def = &self.invocation.def;
        let Ok(programs) = &self.invocation.policy.programs else { return Ok(false) };
        let shown = versioned::to_version(self.attributes, def, object);
        let subject = self.subject(object);
        let request = subject.request(self.invocation.param.as_ref(), self.authorizer);
        let mut evaluator = conditions::evaluator(request, &programs.variables);
        let mut value = |program| {
            let (outcome, cost) = evaluator.run(program, CALL_LIMIT);
            evaluated(program, outcome, cost)
        };
        let (made, validation) = match mutation {
            Mutator::ApplyConfiguration(program) => {
                let typed = versioned::typed(self.attributes, def)
                    .ok_or_else(|| Fault::Refused(Box::new(unknown(self.attributes, def))))?;
                let configuration = configuration(&value(program)?).map_err(Fault::Failed)?;
                let made = applied(typed, &shown, configuration)
                    .map_err(|error| Fault::Failed(format!("error applying patch: {error}")))?;
                (made, FieldValidation::Ignore)
            }
            Mutator::JsonPatch(program) => {
                let operations = operations(&value(program)?).map_err(Fault::Failed)?;
                let Some(made) = patched(&shown, operations).map_err(Fault::Failed)? else {
                    return Ok(false);
                };
                // Custom resources are pruned; built-in ones have the fields of their types alone.
                let validation = if def.custom { FieldValidation::Ignore } else { FieldValidation::Strict };
                (made, validation)
            }
        };
        let made = versioned::complete(self.attributes, def, made, validation)
            .map_err(|status| Fault::Refused(Box::new(status)))?;
        if made == shown {
            return Ok(false);
        }
        *object = versioned::from_version(self.attributes, def, made);
        Ok(true)
    }

    fn subject(&self, object: &Value) -> Subject {
        Subject::new(self.attributes, Some(object), &self.invocation.def, self.context)
    }
}

fn evaluated<'v>(
    program: &Program,
    outcome: Result<Cel<'v>, sampan_cel::EvalError>,
    cost: u64,
) -> Result<Cel<'v>, Fault> {
    if cost > OBJECT_BUDGET {
        return Err(Fault::Failed(OUT_OF_BUDGET.to_owned()));
    }
    outcome
        .map_err(|error| Fault::Failed(format!("expression '{}' resulted in error: {error}", program.text())))
}

/// What is told where there is no schema to merge by.
fn unknown(attributes: &Attributes<'_>, def: &ResourceDef) -> Status {
    let (group, version, kind) = match def.subresource(attributes.subresource) {
        Some(one) => (&one.group, &one.version, &one.kind),
        None => (&def.gvr.group, &def.gvr.version, &def.kind),
    };
    Status::unavailable(format!(
        "Resource kind {group}/{version}, Kind={kind} not found. There can be a delay between when CustomResourceDefinitions are created and when they are available."
    ))
}

/// An apply configuration as JSON.
fn configuration(value: &Cel<'_>) -> Result<JsonMap<String, Value>, String> {
    let misnamed = misnamed(value);
    if !misnamed.is_empty() {
        return Err(format!("type mismatch: {}", misnamed.join("\n")));
    }
    match to_json(value) {
        Some(Value::Object(fields)) => Ok(fields),
        _ => Err(format!("invalid return type: {}", value.ty().runtime_name())),
    }
}

/// Merges a configuration as server-side apply does, though nobody comes to own its fields.
///
/// What is one piece is refused: who sets a part of it would remove the rest by accident.
pub fn applied(
    typed: Typed<'_>,
    object: &Value,
    mut configuration: JsonMap<String, Value>,
) -> Result<Value, String> {
    for field in ["apiVersion", "kind"] {
        configuration.insert(field.to_owned(), object[field].clone());
    }
    let configuration = Value::Object(configuration);
    apply::validate(typed, &configuration, Duplicates::Refused)
        .map_err(|error| format!("failed to convert patch object to typed object: {error}"))?;
    let atomics = apply::atomics(typed, &configuration);
    if !atomics.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            atomics.join(", ")
        ));
    }
    apply::validate(typed, object, Duplicates::Refused)
        .map_err(|error| format!("failed to convert original object to typed object: {error}"))?;
    apply::merge(typed, object, &configuration).map_err(|error| format!("failed to merge patch: {error}"))
}

/// The operations of a JSON patch as JSON.
fn operations(value: &Cel<'_>) -> Result<Vec<Value>, String> {
    let Cel::List(list) = value else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    list.iter().map(|item| operation(&item)).collect()
}

fn operation(item: &Cel<'_>) -> Result<Value, String> {
    let Cel::Map(Map::Owned(made)) = item else {
        return Err(
            "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch".to_owned()
        );
    };
    let mut fields = JsonMap::new();
    for (field, always) in [("op", true), ("path", true), ("from", false)] {
        let text = made.get_str(field);
        let text = text.as_ref().and_then(Cel::as_str).unwrap_or_default();
        if always || !text.is_empty() {
            fields.insert(field.to_owned(), text.into());
        }
    }
    if let Some(value) = made.get_str("value") {
        let misnamed = misnamed(&value);
        if !misnamed.is_empty() {
            return Err(format!("type mismatch: {}", misnamed.join("\n")));
        }
        let value = to_json(&value).ok_or_else(|| {
            let ty = value.ty();
            format!(
                "JSONPath valueExpression evaluated to a type that could not marshal to JSON: type conversion error from '{}' to 'google.protobuf.Value'",
                ty.runtime_name()
            )
        })?;
        fields.insert("value".to_owned(), value);
    }
    Ok(Value::Object(fields))
}

/// What a JSON patch makes of an object; none where one of its tests fails, since nothing is changed then.
pub fn patched(object: &Value, operations: Vec<Value>) -> Result<Option<Value>, String> {
    let unknown = operations.iter().filter_map(|one| one["op"].as_str()).find(|op| !OPERATIONS.contains(op));
    if let Some(op) = unknown {
        return Err(format!("JSONPath: Unexpected kind: {op}"));
    }
    let body = serde_json::to_vec(&operations).map_err(|error| format!("JSONPath: {error}"))?;
    match patch::json(object.clone(), &body) {
        Ok(patched) => Ok(Some(patched)),
        Err(PatchError::TestFailed { .. }) => Ok(None),
        Err(error) => Err(format!("JSONPath: {error}")),
    }
}
