//! `matchConditions` of webhooks and policies.

use std::sync::Arc;

use crate::checker::Environment;
use crate::eval::{Composed, Evaluator};
use crate::library::authz::{Action, Authorizer, Authz};
use crate::program::{CompileError, Program};
use crate::types::{Decl, Type};
use crate::value::Value;

use serde_json::Value as Json;

/// Most that the conditions of one webhook or policy may cost together, for one request.
pub const BUDGET: u64 = 2_500_000;
/// Most that one of them may cost.
pub const CALL_LIMIT: u64 = 1_000_000;

/// What an admission expression may look at.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Null for a deletion.
    pub object: &'a Json,
    /// Null for a creation.
    pub old_object: &'a Json,
    /// An `AdmissionRequest` without the objects.
    pub request: &'a Json,
    pub authorizer: Option<&'a dyn Authorizer>,
    pub params: Option<&'a Json>,
    pub namespace: Option<&'a Json>,
}

/// Which variables an expression has besides the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offered {
    pub params: bool,
    pub namespace: bool,
    pub authorizer: bool,
    /// `Object{}`, `JSONPatch{}` and `jsonpatch.escapeKey()`.
    pub patches: bool,
}

/// Compiled conditions, all of which must hold.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    all: Vec<(String, Program)>,
}

/// What conditions say about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Matches,
    /// The name of the condition that does not hold.
    Excluded(String),
    /// None excludes it, and these could not be decided.
    Failed(Vec<String>),
}

/// The environment of admission expressions; `variables` are declared by name and type.
pub fn environment(offered: Offered, variables: &[(String, Type)]) -> Environment {
    let dynamic = Arc::new(Decl::dynamic());
    let mut environment = Environment::default()
        .with("object", dynamic.clone())
        .with("oldObject", dynamic.clone())
        .with("request", Arc::new(request_declaration()));
    if offered.authorizer {
        for (name, ty) in [
            ("authorizer", "kubernetes.authorization.Authorizer"),
            ("authorizer.requestResource", "kubernetes.authorization.ResourceCheck"),
        ] {
            environment = environment.with(name, Arc::new(Decl::scalar(Type::Opaque(ty), u64::MAX, 1)));
        }
    }
    if offered.params {
        environment = environment.with("params", dynamic.clone());
    }
    if offered.namespace {
        environment = environment.with("namespaceObject", dynamic);
    }
    if offered.patches {
        environment.structures = Some(crate::library::patch::structures);
    }
    let fields = variables.iter().map(|(name, ty)| {
        let decl = Arc::new(Decl::scalar(ty.clone(), u64::MAX, 1));
        (name.clone(), crate::types::ObjectField { decl, json: name.as_str().into() })
    });
    let object = crate::types::ObjectType {
        name: "kubernetes.variables".into(),
        fields: fields.collect(),
        open: false,
    };
    if !variables.is_empty() {
        environment = environment.with("variables", Arc::new(Decl::object(Arc::new(object), 2)));
    }
    environment
}

/// An evaluator over a request.
pub fn evaluator<'a>(request: Request<'a>, composed: &'a [Composed]) -> Evaluator<'a> {
    let json = |json: &'a Json| Value::from_json(json, None);
    let mut roots = vec![
        ("object", json(request.object)),
        ("oldObject", json(request.old_object)),
        ("request", json(request.request)),
        ("params", request.params.map_or(Value::Null, json)),
        ("namespaceObject", request.namespace.map_or(Value::Null, json)),
    ];
    if let Some(authorizer) = request.authorizer {
        roots.push(("authorizer", Authz::root(authorizer)));
        roots.push(("authorizer.requestResource", Authz::resource(authorizer, action(request.request))));
    }
    let evaluator = Evaluator::new(roots);
    if composed.is_empty() { evaluator } else { evaluator.composed(composed) }
}

fn action(request: &Json) -> Action {
    let text = |pointer: &str| request.pointer(pointer).and_then(Json::as_str).unwrap_or_default().to_owned();
    Action {
        group: text("/resource/group"),
        resource: text("/resource/resource"),
        subresource: text("/subResource"),
        namespace: text("/namespace"),
        name: text("/name"),
        ..Action::default()
    }
}

fn request_declaration() -> Decl {
    let text = || Decl::scalar(Type::String, u64::MAX, 2);
    let strings = || Decl::list(Arc::new(text()), Default::default(), u64::MAX);
    let version = |kind: &'static str| {
        Decl::structure("version", [("group", text()), ("version", text()), (kind, text())])
    };
    let user = Decl::structure(
        "kubernetes.UserInfo",
        [
            ("username", text()),
            ("uid", text()),
            ("groups", strings()),
            ("extra", Decl::map(Arc::new(strings()), u64::MAX)),
        ],
    );
    Decl::structure(
        "kubernetes.AdmissionRequest",
        [
            ("uid", text()),
            ("kind", version("kind")),
            ("resource", version("resource")),
            ("subResource", text()),
            ("requestKind", version("kind")),
            ("requestResource", version("resource")),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Decl::scalar(Type::Bool, u64::MAX, 4)),
            ("options", Decl::dynamic()),
        ],
    )
}

impl Conditions {
    /// Compiles conditions of names and expressions; the faults come with the index of the condition.
    pub fn compile<'t>(
        conditions: impl IntoIterator<Item = (&'t str, &'t str)>,
        environment: &Environment,
    ) -> Result<Conditions, Vec<(usize, CompileError)>> {
        let (mut all, mut faults) = (Vec::new(), Vec::new());
        for (at, (name, expression)) in conditions.into_iter().enumerate() {
            match Program::returning(expression, environment, &[Type::Bool]) {
                Ok(program) => all.push((name.to_owned(), program)),
                Err(error) => faults.push((at, error)),
            }
        }
        if faults.is_empty() { Ok(Conditions { all }) } else { Err(faults) }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// One that is false excludes the request, whatever the others say.
    pub fn evaluate(&self, request: Request<'_>) -> Verdict {
        let mut failed = Vec::new();
        let mut left = BUDGET;
        for (name, program) in &self.all {
            let mut evaluator = evaluator(request, &[]);
            let (outcome, cost) = evaluator.run(program, CALL_LIMIT.min(left));
            left = left.saturating_sub(cost);
            match outcome {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => return Verdict::Excluded(name.clone()),
                Ok(_) => failed.push("must evaluate to bool".to_owned()),
                Err(error) => {
                    failed.push(format!("expression '{}' resulted in error: {error}", program.text()));
                }
            }
        }
        if failed.is_empty() { Verdict::Matches } else { Verdict::Failed(failed) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn verdict(conditions: &[(&str, &str)]) -> Verdict {
        let environment = environment(Offered::default(), &[]);
        let conditions = Conditions::compile(conditions.iter().copied(), &environment).expect("they compile");
        let (object, request) = (
            json!({"metadata": {"name": "a"}}),
            json!({"operation": "CREATE", "userInfo": {"username": "u"}}),
        );
        let request = Request {
            object: &object,
            old_object: &Json::Null,
            request: &request,
            authorizer: None,
            params: None,
            namespace: None,
        };
        conditions.evaluate(request)
    }

    #[test]
    fn one_that_is_false_wins_over_failures() {
        assert_eq!(
            verdict(&[("a", "request.operation == 'CREATE'"), ("b", "oldObject == null")]),
            Verdict::Matches
        );
        assert_eq!(verdict(&[("a", "object.nope == 1"), ("b", "false")]), Verdict::Excluded("b".into()));
        assert_eq!(
            verdict(&[("a", "object.nope == 1"), ("b", "true")]),
            Verdict::Failed(vec![
                "expression 'object.nope == 1' resulted in error: no such key: nope".into()
            ])
        );
    }
}
