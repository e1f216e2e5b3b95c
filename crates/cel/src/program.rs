//! A compiled expression.

use std::collections::HashMap;
use std::sync::Arc;

use regex::Regex;

use crate::ast::{Expr, Id, Kind, Literal};
use crate::checker::{Checked, Environment, check};
use crate::cost::{self, Estimate};
use crate::eval::Class;
use crate::library::Native;
use crate::parser::parse;
use crate::signature::functions;
use crate::source::{Issue, display};
use crate::types::Type;

/// An expression that has been parsed, checked, and bound to its functions.
#[derive(Clone, Debug)]
pub struct Program {
    inner: Arc<Inner>,
}

struct Inner {
    text: String,
    checked: Checked,
    natives: Vec<Option<(Native, Class)>>,
    regexes: HashMap<Id, Regex>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program").field("nodes", &self.natives.len()).finish_non_exhaustive()
    }
}

/// Why an expression is refused; the text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    #[error("compilation failed: {0}")]
    Issues(String),
    #[error("must evaluate to {0}")]
    Result(String),
    #[error("program instantiation failed: {0}")]
    Constant(String),
}

impl Program {
    /// Compiles a text.
    pub fn compile(text: &str, environment: &Environment) -> Result<Program, CompileError> {
        let told = |issues: &[Issue]| CompileError::Issues(display(text, issues));
        let parsed = parse(text).map_err(|issue| told(&[issue]))?;
        let nodes = parsed.nodes as usize;
        let checked = check(parsed, environment).map_err(|issues| told(&issues))?;
        let mut inner =
            Inner { text: text.to_owned(), checked, natives: vec![None; nodes], regexes: HashMap::new() };
        let mut bound = Bound { natives: &mut inner.natives, regexes: &mut inner.regexes };
        bound.visit(&inner.checked.expr).map_err(CompileError::Constant)?;
        Ok(Program { inner: Arc::new(inner) })
    }

    /// Compiles a text whose value must be of one of these types, or dynamic.
    pub fn returning(
        text: &str,
        environment: &Environment,
        accepted: &[Type],
    ) -> Result<Program, CompileError> {
        let program = Program::compile(text, environment)?;
        let found = program.result();
        let fits = |wanted: &Type| match (wanted, found) {
            (Type::List(a), Type::List(b)) => **b == Type::Dyn || a == b,
            (wanted, found) => wanted == found,
        };
        if accepted.iter().any(fits) {
            return Ok(program);
        }
        let names: Vec<String> = accepted.iter().map(Type::to_string).collect();
        Err(CompileError::Result(match names.as_slice() {
            [one] => one.clone(),
            many => format!("one of: [{}]", many.join(" ")),
        }))
    }

    /// The text that was compiled.
    pub fn text(&self) -> &str {
        &self.inner.text
    }

    pub fn expr(&self) -> &Expr {
        &self.inner.checked.expr
    }

    pub fn result(&self) -> &Type {
        self.inner.checked.result()
    }

    /// Whether the expression refers to a variable of its environment.
    pub fn refers_to(&self, name: &str) -> bool {
        self.inner.checked.references.iter().any(|known| known == name)
    }

    /// What it costs at least and at most.
    pub fn estimate(&self, environment: &Environment) -> Estimate {
        cost::estimate(&self.inner.checked, environment)
    }

    pub(crate) fn native(&self, id: Id) -> Option<(Native, Class)> {
        self.inner.natives.get(id as usize).copied().flatten()
    }

    pub(crate) fn regex(&self, id: Id) -> Option<&Regex> {
        self.inner.regexes.get(&id)
    }
}

struct Bound<'a> {
    natives: &'a mut [Option<(Native, Class)>],
    regexes: &'a mut HashMap<Id, Regex>,
}

impl Bound<'_> {
    fn visit(&mut self, expr: &Expr) -> Result<(), String> {
        match &expr.kind {
            Kind::Literal(_) | Kind::Ident(_) => Ok(()),
            Kind::Select { operand, .. } => self.visit(operand),
            Kind::Call { function, target, args } => {
                if let Some(found) = functions().get(function.as_ref()) {
                    self.natives[expr.id as usize] = Some((found.native, Class::of(function)));
                }
                let pattern = match (function.as_ref(), target.is_some(), args.as_slice()) {
                    ("matches" | "find" | "findAll", true, [pattern, ..])
                    | ("matches", false, [_, pattern]) => Some(pattern),
                    _ => None,
                };
                if let Some(Kind::Literal(Literal::String(text))) = pattern.map(|pattern| &pattern.kind) {
                    let regex = crate::library::regex::compile(text).map_err(|error| error.to_string())?;
                    self.regexes.insert(expr.id, regex);
                }
                target.iter().try_for_each(|target| self.visit(target))?;
                args.iter().try_for_each(|arg| self.visit(arg))
            }
            Kind::List(elements) => elements.iter().try_for_each(|one| self.visit(&one.value)),
            Kind::Map(entries) => entries.iter().try_for_each(|one| {
                self.visit(&one.key)?;
                self.visit(&one.value)
            }),
            Kind::Struct { fields, .. } => fields.iter().try_for_each(|one| self.visit(&one.value)),
            Kind::Fold(fold) => {
                let parts = [&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result];
                parts.into_iter().try_for_each(|part| self.visit(part))
            }
        }
    }
}
