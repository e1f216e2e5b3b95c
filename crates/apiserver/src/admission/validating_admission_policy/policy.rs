//! Policies and bindings as they are stored, made ready to be evaluated.

use std::sync::Arc;

use sampan_api::Status;
use sampan_api::object::ObjectRef;
use sampan_api::selector::{Selector, SelectorError};
use sampan_api::table::ResourceDef;
use sampan_cel::conditions::{self, Conditions, Offered};
use sampan_cel::{CompileError, Composed, Environment, Program, Type};
use serde::Deserialize;
use serde_json::Value;

use crate::admission::Attributes;
use crate::admission::webhooks::matching::{self, Rule};

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

/// `ValidatingAdmissionPolicyBinding`.
#[derive(Clone)]
pub struct Binding {
    pub name: String,
    pub policy: String,
    pub param_ref: Option<ParamRef>,
    pub matches: Option<Result<Arc<Matches>, String>>,
    pub actions: Vec<Action>,
}

/// `validationActions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Action {
    Deny,
    Warn,
    Audit,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Deny => "Deny",
            Action::Warn => "Warn",
            Action::Audit => "Audit",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParamKind {
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub kind: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParamRef {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub namespace: String,
    pub selector: Option<Value>,
    pub parameter_not_found_action: Option<String>,
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

/// A match condition, or a variable.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct RawCondition {
    pub name: String,
    pub expression: String,
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

/// `MatchResources`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RawMatch {
    resource_rules: Vec<NamedRule>,
    exclude_resource_rules: Vec<NamedRule>,
    namespace_selector: Option<Value>,
    object_selector: Option<Value>,
    match_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamedRule {
    #[serde(default)]
    resource_names: Vec<String>,
    #[serde(flatten)]
    rule: Rule,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBinding {
    #[serde(default)]
    policy_name: String,
    param_ref: Option<ParamRef>,
    match_resources: Option<RawMatch>,
    #[serde(default)]
    validation_actions: Vec<Action>,
}

/// Which requests a policy or binding concerns.
pub struct Matches {
    included: Vec<NamedRule>,
    excluded: Vec<NamedRule>,
    namespaces: Result<Selector, SelectorError>,
    objects: Result<Selector, SelectorError>,
    equivalent: bool,
    /// Without rules everything is concerned: a binding then narrows nothing.
    everything: bool,
}

impl Matches {
    fn new(raw: RawMatch) -> Self {
        let selector = |json: Option<Value>| match json {
            None | Some(Value::Null) => Ok(Selector::everything()),
            Some(json) => Selector::from_json(&json),
        };
        Matches {
            everything: raw.resource_rules.is_empty(),
            included: raw.resource_rules,
            excluded: raw.exclude_resource_rules,
            namespaces: selector(raw.namespace_selector),
            objects: selector(raw.object_selector),
            equivalent: raw.match_policy.as_deref() != Some("Exact"),
        }
    }

    /// The resource under which a request is concerned: its own, or an equivalent one.
    pub fn matches(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<Option<Arc<ResourceDef>>, Status> {
        if self.one_of(&self.excluded, attributes).is_some() {
            return Ok(None);
        }
        let found = match self.one_of(&self.included, attributes) {
            Some(def) => def,
            None if self.everything => attributes.resource.def.clone(),
            None => return Ok(None),
        };
        if !matching::in_namespace(&self.namespaces, attributes, object)? {
            return Ok(None);
        }
        let selector = self.objects.as_ref().map_err(Status::internal)?;
        Ok(matching::selects(selector, object, attributes.old).then_some(found))
    }

    fn one_of(&self, rules: &[NamedRule], attributes: &Attributes<'_>) -> Option<Arc<ResourceDef>> {
        rules.iter().find_map(|named| {
            let names = &named.resource_names;
            if !names.is_empty() && !names.iter().any(|name| name == attributes.name) {
                return None;
            }
            matching::matching_def(std::slice::from_ref(&named.rule), self.equivalent, attributes)
        })
    }
}

/// What is wrong with one expression of a policy, and where it stands below `spec`.
pub struct Fault {
    pub field: String,
    pub expression: String,
    pub error: CompileError,
}

impl Policy {
    /// Reads a stored policy, whose shape its schema has ensured.
    pub fn read(object: &ObjectRef) -> Policy {
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
                let programs = compile(raw).map_err(|faults| {
                    let told: Vec<String> = faults.iter().map(|fault| fault.error.to_string()).collect();
                    told.join(", ")
                });
                Policy { name, ignores_failures, param_kind, programs }
            }
        }
    }
}

impl Binding {
    pub fn read(object: &ObjectRef) -> Option<Binding> {
        let name = object.header.name.to_string();
        let spec = object.decode::<Value>().map(|mut object| object["spec"].take());
        match spec.and_then(serde_json::from_value::<RawBinding>) {
            Ok(raw) => Some(Binding {
                name,
                policy: raw.policy_name,
                param_ref: raw.param_ref,
                matches: raw.match_resources.map(|raw| Ok(Arc::new(Matches::new(raw)))),
                actions: raw.validation_actions,
            }),
            Err(error) => {
                tracing::error!(binding = name, %error, "a policy binding was left out");
                None
            }
        }
    }
}

/// Compiles every expression of a policy.
pub fn compile(raw: RawPolicy) -> Result<Programs, Vec<Fault>> {
    let mut compiler =
        Compiler { params: raw.param_kind.is_some(), declared: Vec::new(), faults: Vec::new() };
    let conditions = compiler.conditions(&raw.match_conditions);
    let mut variables = Vec::new();
    for (at, variable) in raw.variables.iter().enumerate() {
        let field = format!("variables[{at}].expression");
        let environment = compiler.environment(true);
        if let Some(program) =
            compiler.keep(field, &variable.expression, Program::compile(&variable.expression, &environment))
        {
            compiler.declared.push((variable.name.clone(), program.result().clone()));
            variables.push(Composed { name: variable.name.clone(), program });
        }
    }
    let (checked, told) = (compiler.environment(true), compiler.environment(false));
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

struct Compiler {
    params: bool,
    declared: Vec<(String, Type)>,
    faults: Vec<Fault>,
}

impl Compiler {
    fn environment(&self, authorizer: bool) -> Environment {
        let offered = Offered { params: self.params, namespace: true, authorizer, patches: false };
        conditions::environment(offered, &self.declared)
    }

    fn conditions(&mut self, raw: &[RawCondition]) -> Conditions {
        let offered = Offered { params: self.params, namespace: false, authorizer: true, patches: false };
        let environment = conditions::environment(offered, &[]);
        let pairs = raw.iter().map(|one| (one.name.as_str(), one.expression.as_str()));
        Conditions::compile(pairs, &environment).unwrap_or_else(|faults| {
            for (at, error) in faults {
                let expression = raw[at].expression.clone();
                self.faults.push(Fault {
                    field: format!("matchConditions[{at}].expression"),
                    expression,
                    error,
                });
            }
            Conditions::default()
        })
    }

    fn keep(
        &mut self,
        field: String,
        expression: &str,
        found: Result<Program, CompileError>,
    ) -> Option<Program> {
        found
            .map_err(|error| self.faults.push(Fault { field, expression: expression.to_owned(), error }))
            .ok()
    }
}
