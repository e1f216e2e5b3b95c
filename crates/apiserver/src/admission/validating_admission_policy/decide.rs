//! A policy's expressions on a request.

use sampan_cel::conditions::{self, Verdict};
use sampan_cel::rules::{CALL_LIMIT, MAX_MESSAGE, OBJECT_BUDGET};
use sampan_cel::{Evaluator, Program, Value as Cel};
use serde_json::Value;

use super::policy::{Policy, Programs, Validation};
use crate::admission::expressions::{RequestAuthorizer, Subject};

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// A validation that does not hold.
pub struct Failure {
    /// Which one.
    pub at: usize,
    pub reason: String,
    pub message: String,
}

/// What a policy says about a request.
#[derive(Default)]
pub struct Evaluated {
    pub failures: Vec<Failure>,
    pub annotations: Vec<(String, String)>,
    /// An audit annotation that failed: it denies whatever the binding's actions are.
    pub broken: Option<String>,
}

/// Evaluates a policy with one parameter.
pub fn evaluate(
    policy: &Policy,
    programs: &Programs,
    subject: &Subject,
    param: Option<&Value>,
    authorizer: &RequestAuthorizer,
) -> Evaluated {
    let request = subject.request(param, authorizer);
    let mut out = Evaluated::default();
    match programs.conditions.evaluate(request) {
        Verdict::Matches => {}
        Verdict::Excluded(_) => return out,
        Verdict::Failed(errors) => {
            if !policy.ignores_failures {
                let message = errors.join(", ");
                out.failures.push(Failure { at: 0, reason: String::new(), message });
            }
            return out;
        }
    }
    let evaluator = conditions::evaluator(request, &programs.variables);
    let mut run = Run { evaluator, left: OBJECT_BUDGET };
    for (at, validation) in programs.validations.iter().enumerate() {
        let found = run.validation(validation);
        match found {
            Ok(None) => {}
            Ok(Some(message)) => {
                out.failures.push(Failure { at, reason: validation.reason.clone(), message })
            }
            Err(_) if policy.ignores_failures => {}
            Err(message) => out.failures.push(Failure { at, reason: String::new(), message }),
        }
        if run.left == 0 {
            break;
        }
    }
    run.left = OBJECT_BUDGET;
    for (key, program) in &programs.annotations {
        match run.annotation(program) {
            Ok(Some(value)) => out.annotations.push((key.clone(), value)),
            Ok(None) => {}
            Err(_) if policy.ignores_failures => {}
            Err(error) => out.broken = out.broken.or(Some(error)),
        }
    }
    out
}

struct Run<'a> {
    evaluator: Evaluator<'a>,
    left: u64,
}

impl<'a> Run<'a> {
    /// The value of an expression, or why it has none.
    fn value(&mut self, program: &'a Program) -> Result<Cel<'a>, String> {
        let (outcome, cost) = self.evaluator.run(program, CALL_LIMIT);
        if cost > self.left {
            self.left = 0;
            return Err(OUT_OF_BUDGET.to_owned());
        }
        self.left -= cost;
        outcome.map_err(|error| format!("expression '{}' resulted in error: {error}", program.text()))
    }

    /// What is to be told, should a validation not hold.
    fn validation(&mut self, validation: &'a Validation) -> Result<Option<String>, String> {
        if matches!(self.value(&validation.program)?, Cel::Bool(true)) {
            return Ok(None);
        }
        let told = validation.message_program.as_ref().and_then(|program| {
            let value = self.value(program).ok()?;
            let text = value.as_str()?.trim().to_owned();
            (!text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')).then_some(text)
        });
        let plain = || match validation.message.as_str() {
            "" => format!("failed expression: {}", validation.program.text().trim()),
            message => message.to_owned(),
        };
        Ok(Some(told.unwrap_or_else(plain)))
    }

    fn annotation(&mut self, program: &'a Program) -> Result<Option<String>, String> {
        match self.value(program)? {
            Cel::String(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Cel::Null => Ok(None),
            other => Err(format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                program.text(),
                other.ty().runtime_name()
            )),
        }
    }
}
