//! `x-kubernetes-validations`: the rules of a custom resource's schema.
//!
//! [`Rules::compile`] holds the rules against the schema, with estimates of their cost, for the
//! admission of a definition; [`Rules::validate`] runs them on an object within a budget.

use std::collections::BTreeMap;
use std::sync::Arc;

use sampan_api::status::Cause;
use serde_json::Value as Json;

use crate::program::Program;
use crate::types::{Decl, ListKind};

mod compile;
mod field_path;
mod validate;

#[cfg(test)]
mod tests;

/// Most that one rule may cost by its estimate.
pub const ESTIMATE_LIMIT: u64 = 10_000_000;
/// Most that all rules of a schema may cost by their estimates.
pub const TOTAL_ESTIMATE_LIMIT: u64 = 100_000_000;
/// Most that one evaluation may cost.
pub const CALL_LIMIT: u64 = 1_000_000;
/// Most that the rules of one object may cost together.
pub const OBJECT_BUDGET: u64 = 10_000_000;
/// Longest message that an expression may make, in bytes.
pub const MAX_MESSAGE: usize = 5 * 1024;

/// The compiled rules of a schema.
#[derive(Debug)]
pub struct Rules {
    root: Option<Node>,
}

/// The rules of one place in the schema, and what is below it.
#[derive(Debug)]
struct Node {
    decl: Arc<Decl>,
    /// The schema's `type`, which messages show in place of the value.
    type_name: String,
    rules: Vec<Rule>,
    items: Option<Box<Node>>,
    values: Option<Box<Node>>,
    properties: BTreeMap<String, Node>,
    list: ListKind,
}

#[derive(Debug)]
struct Rule {
    text: String,
    program: Program,
    transition: bool,
    optional_old_self: bool,
    message: String,
    message_program: Option<Program>,
    reason: String,
    /// Normalised, below the place of the rule.
    field_path: Option<String>,
}

impl Rules {
    /// Compiles all rules of an `openAPIV3Schema` that is structural; `path` is where it stands in the
    /// definition. Everything that is wrong with a rule is told, with upstream's messages.
    pub fn compile(schema: &Json, path: &str) -> Result<Rules, Vec<Cause>> {
        compile::compile(schema, path)
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The faults of an object. With `ratchet`, rules that look only at what did not change are left
    /// out, so that an old object may stay as it is where it no longer complies.
    pub fn validate(&self, object: &Json, old: Option<&Json>, ratchet: bool) -> Vec<Cause> {
        validate::validate(self, object, old, ratchet)
    }
}
