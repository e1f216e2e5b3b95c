//! Mutating policies as they are stored, made ready to be evaluated.

use std::sync::Arc;

use sampan_api::Gvr;
use sampan_api::object::ObjectRef;
use sampan_api::table::ResourceDef;
use sampan_cel::conditions::Conditions;
use sampan_cel::library::patch;
use sampan_cel::{Composed, Program};
use serde::Deserialize;
use serde_json::Value;

use super::{BINDINGS, POLICIES};
use crate::admission::Attributes;
use crate::admission::policies::compile::{Compiler, Fault, RawCondition, told};
use crate::admission::policies::matches::{Matches, RawMatch};
use crate::admission::policies::{self, ParamKind};

/// A policy.
pub struct Policy {
    pub name: String,
    /// `failurePolicy: Ignore`.
    pub ignores_failures: bool,
    /// `reinvocationPolicy: IfNeeded`.
    pub reinvoked: bool,
    pub param_kind: Option<ParamKind>,
    /// What is wrong with the policy, where it cannot be used.
    pub programs: Result<Programs, String>,
}

/// A policy's compiled expressions.
pub struct Programs {
    pub matches: Matches,
    pub conditions: Conditions,
    pub variables: Vec<Composed>,
    pub mutations: Vec<Mutator>,
}

/// One of `mutations`.
pub enum Mutator {
    /// Makes a part of the object, which is merged into it.
    ApplyConfiguration(Program),
    /// Makes the operations of a JSON patch.
    JsonPatch(Program),
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RawPolicy {
    param_kind: Option<ParamKind>,
    match_constraints: RawMatch,
    match_conditions: Vec<RawCondition>,
    variables: Vec<RawCondition>,
    mutations: Vec<RawMutation>,
    failure_policy: Option<String>,
    reinvocation_policy: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawMutation {
    patch_type: String,
    apply_configuration: Option<RawExpression>,
    json_patch: Option<RawExpression>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawExpression {
    expression: String,
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
        match spec.and_then(serde_json::from_value::<RawPolicy>) {
            Err(error) => Policy {
                name,
                ignores_failures: false,
                reinvoked: false,
                param_kind: None,
                programs: Err(error.to_string()),
            },
            Ok(raw) => Policy {
                name,
                ignores_failures: raw.failure_policy.as_deref() == Some("Ignore"),
                reinvoked: raw.reinvocation_policy.as_deref() == Some("IfNeeded"),
                param_kind: raw.param_kind.clone(),
                programs: compile(raw).map_err(|faults| told(&faults)),
            },
        }
    }
}

impl Policy {
    /// The resource under which a request is concerned.
    pub fn matches(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<Option<Arc<ResourceDef>>, String> {
        let programs = self.programs.as_ref().map_err(Clone::clone)?;
        programs.matches.matches(attributes, Some(object)).map_err(|error| error.to_string())
    }

    pub fn mutations(&self) -> &[Mutator] {
        self.programs.as_ref().map_or(&[], |programs| &programs.mutations)
    }
}

/// Compiles every expression of a policy.
pub fn compile(raw: RawPolicy) -> Result<Programs, Vec<Fault>> {
    let mut compiler = Compiler::new(raw.param_kind.is_some());
    let conditions = compiler.conditions(&raw.match_conditions);
    let variables = compiler.variables(&raw.variables);
    let environment = compiler.environment(true, true);
    let mut mutations = Vec::new();
    for (at, raw) in raw.mutations.into_iter().enumerate() {
        let applies = raw.patch_type == "ApplyConfiguration";
        let (field, expression, wanted) = if applies {
            ("applyConfiguration", raw.apply_configuration, patch::object_type())
        } else {
            ("jsonPatch", raw.json_patch, patch::patch_type())
        };
        let text = expression.unwrap_or_default().expression;
        let found = Program::returning(&text, &environment, &[wanted]);
        if let Some(program) = compiler.keep(format!("mutations[{at}].{field}.expression"), &text, found) {
            mutations.push(match applies {
                true => Mutator::ApplyConfiguration(program),
                false => Mutator::JsonPatch(program),
            });
        }
    }
    if !compiler.faults.is_empty() {
        return Err(compiler.faults);
    }
    Ok(Programs { matches: Matches::new(raw.match_constraints), conditions, variables, mutations })
}
