//! Validating policies as they are stored, made ready to be evaluated.

use sampan_api::Gvr;
use sampan_api::object::ObjectRef;
use sampan_cel::conditions::Conditions;
use sampan_cel::{CompileError, Composed, Program, Type};
use serde::Deserialize;
use serde_json::Value;

use super::{BINDINGS, POLICIES};
use crate::admission::policies::compile::{Compiler, Fault, RawCondition, told};
use crate::admission::policies::matches::{Matches, RawMatch};
use crate::admission::policies::{self, ParamKind};

/// A policy.
pub struct Policy {
    pub name: String,
    /// `failurePolicy: Ignore`.
    pub ignores_failures: bool,
    pub param_kind: Option<ParamKind>,
    /// What is wrong with the policy, where it cannot be used.
    pub programs: Result<Programs, String>,
}

/// A policy's compiled expressions.
pub struct Programs {
    pub matches: Matches,
    pub conditions: Conditions,
    pub variables: Vec<Composed>,
    pub validations: Vec<Validation>,
    /// Keys with their values.
    pub annotations: Vec<(String, Program)>,
}

pub struct Validation {
    pub program: Program,
    pub message: String,
    pub message_program: Option<Program>,
    pub reason: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RawPolicy {
    pub param_kind: Option<ParamKind>,
    pub match_constraints: RawMatch,
    pub match_conditions: Vec<RawCondition>,
    pub validations: Vec<RawValidation>,
    pub variables: Vec<RawCondition>,
    pub audit_annotations: Vec<RawAnnotation>,
    pub failure_policy: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RawValidation {
    pub expression: String,
    pub message: String,
    pub message_expression: String,
    pub reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RawAnnotation {
    pub key: String,
    pub value_expression: String,
}

impl policies::Policy for Policy {
    const POLICIES: Gvr = POLICIES;
    const BINDINGS: Gvr = BINDINGS;

    fn name(&self) -> &str {
        &self.name
    }

    fn read(object: &ObjectRef) -> Policy {
        let name = object.header.name.to_string();
        let spec = object.decode::<Value>().map(|mut object| object["spec"].take());
        let raw = spec.and_then(serde_json::from_value::<RawPolicy>);
        match raw {
            Err(error) => {
                let programs = Err(error.to_string());
                Policy { name, ignores_failures: false, param_kind: None, programs }
            }
            Ok(raw) => {
                let ignores_failures = raw.failure_policy.as_deref() == Some("Ignore");
                let param_kind = raw.param_kind.clone();
                let programs = compile(raw).map_err(|faults| told(&faults));
                Policy { name, ignores_failures, param_kind, programs }
            }
        }
    }
}

/// Compiles every expression of a policy.
pub fn compile(raw: RawPolicy) -> Result<Programs, Vec<Fault>> {
    let mut compiler = Compiler::new(raw.param_kind.is_some());
    let conditions = compiler.conditions(&raw.match_conditions);
    let variables = compiler.variables(&raw.variables);
    let (checked, told) = (compiler.environment(true, false), compiler.environment(false, false));
    let mut validations = Vec::new();
    for (at, raw) in raw.validations.into_iter().enumerate() {
        let found = Program::returning(&raw.expression, &checked, &[Type::Bool, Type::Dyn]);
        let field = format!("validations[{at}].expression");
        let program = compiler.keep(field, &raw.expression, only("bool", found));
        let message_program = (!raw.message_expression.trim().is_empty()).then(|| {
            let text = &raw.message_expression;
            let found = Program::returning(text, &told, &[Type::String, Type::Dyn]);
            compiler.keep(format!("validations[{at}].messageExpression"), text, only("string", found))
        });
        if let Some(program) = program {
            validations.push(Validation {
                program,
                message: raw.message.trim().to_owned(),
                message_program: message_program.flatten(),
                reason: raw.reason.unwrap_or_else(|| "Invalid".to_owned()),
            });
        }
    }
    let mut annotations = Vec::new();
    for (at, raw) in raw.audit_annotations.into_iter().enumerate() {
        let text = raw.value_expression.trim();
        let found = Program::returning(text, &checked, &[Type::String, Type::Null, Type::Dyn]);
        let field = format!("auditAnnotations[{at}].valueExpression");
        if let Some(program) = compiler.keep(field, text, found) {
            annotations.push((raw.key, program));
        }
    }
    if !compiler.faults.is_empty() {
        return Err(compiler.faults);
    }
    Ok(Programs {
        matches: Matches::new(raw.match_constraints),
        conditions,
        variables,
        validations,
        annotations,
    })
}

/// A dynamic result is accepted too, which the message does not say.
fn only(name: &str, found: Result<Program, CompileError>) -> Result<Program, CompileError> {
    found.map_err(|error| match error {
        CompileError::Result(_) => CompileError::Result(name.to_owned()),
        other => other,
    })
}
