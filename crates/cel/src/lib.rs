//! The Common Expression Language as Kubernetes uses it: parser, type checker, cost estimates, and an
//! evaluator within a budget, with Kubernetes' libraries, rules of custom resources and conditions.
//!
//! The public crates for CEL have no type checker and no cost model, and both are what keeps a hostile
//! author's expression from taking the server down; so this is our own. What it promises:
//!
//! - Compiling and evaluating never panic and never recurse deeper than [`ast::MAX_DEPTH`] and
//!   [`value::MAX_DEPTH`] allow, whatever the text and the object are.
//! - An evaluation ends within its cost limit, and copies a bounded amount.
//! - Regular expressions run in linear time and have a bounded size.
//! - Estimates and run-time costs follow upstream's model, on which the limits of a custom resource
//!   definition are based.
//!
//! No I/O happens here; what asks the cluster (an authorizer) comes in through a trait.

pub mod ast;
pub mod checker;
pub mod conditions;

pub mod cost;
pub mod devices;
pub mod eval;
mod lexer;
pub mod library;
pub mod parser;
pub mod program;
pub mod rules;

pub mod schema;
pub mod signature;
pub mod source;
pub mod types;
pub mod value;

pub use checker::{Environment, Structure};
pub use eval::{Composed, EvalError, Evaluator};
pub use library::authz::Authorizer;
pub use program::{CompileError, Program};
pub use rules::Rules;

pub use types::{Decl, Type};
pub use value::Value;

#[cfg(test)]
mod tests;
