//! Custom resources: what a definition (`apiextensions.k8s.io/v1`) makes of the objects of its kinds.
//!
//! A served version becomes an entry of the resource table ([`entries`]) that carries a [`Version`]: its
//! schema as a tree ([`Structural`]), its columns and how it converts. Objects are pruned
//! ([`prune()`]), defaulted ([`defaulting`]) and validated ([`validate`]) by it. Which names a definition
//! gets, and its conditions, are decided in [`names`]. Everything here is a function of values; the API
//! server follows the definitions and stores the objects.

pub mod columns;
pub mod defaulting;
pub mod definition;
pub mod embedded;
pub mod format;
pub mod json_path;
pub mod list_type;
pub mod names;
pub mod open_api;
pub mod pattern;
pub mod prune;
pub mod structural;
pub mod validate;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

pub use definition::{DefinitionError, entries};
pub use prune::prune;
pub use structural::Structural;

use crate::status::Cause;
use columns::Column;

/// The group, version and resource of definitions.
pub const DEFINITIONS: crate::Gvr =
    crate::Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");

/// The finalizer that holds a definition until its instances are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The most faults that one answer lists.
const MAX_FAULTS: usize = 100;

/// One version of a custom resource.
#[derive(Clone, Debug)]
pub struct Version {
    /// The name of its definition, `<plural>.<group>`.
    pub definition: String,
    pub name: String,
    pub schema: Structural,
    /// The `openAPIV3Schema` as it was written.
    pub source: Value,
    pub columns: Vec<Column>,
    pub conversion: Conversion,
    /// Every version of the definition, served or not.
    pub versions: Vec<String>,
    /// What clients of a deprecated version are told.
    pub deprecation: Option<String>,
    /// The definition is being deleted: no more objects are created.
    pub terminating: bool,
    /// `x-kubernetes-validations`, where there are any and something evaluates them.
    pub rules: Option<Arc<dyn Rules>>,
}

/// How objects get from one version to another.
#[derive(Clone, Debug, PartialEq)]
pub enum Conversion {
    /// Only `apiVersion` differs.
    None,
    /// `spec.conversion.webhook`: asked for every conversion.
    Webhook { client: Value, review_versions: Vec<String> },
}

/// Compiled `x-kubernetes-validations` of one version.
pub trait Rules: Send + Sync + fmt::Debug {
    /// What the rules have against an object; `old` is the one that it replaces.
    fn check(&self, new: &Value, old: Option<&Value>) -> Vec<Cause>;
}

impl Version {
    /// Prunes an object and fills in its defaults; answers the paths of the unknown fields.
    pub fn normalise(&self, object: &mut Value) -> Vec<String> {
        let mut unknown = prune(&self.schema, object);
        unknown.extend(embedded::coerce(&self.schema, object));
        defaulting::apply(&self.schema, object);
        unknown
    }

    /// The faults of a new object.
    pub fn check_new(&self, object: &Value) -> Vec<Cause> {
        let mut faults = validate::create(&self.schema, object);
        faults.extend(embedded::check(&self.schema, object));
        faults.extend(list_type::check(&self.schema, object));
        self.add_rules(&mut faults, object, None);
        faults
    }

    /// The faults of an object that replaces another one; those of unchanged values are tolerated.
    pub fn check_update(&self, new: &Value, old: &Value) -> Vec<Cause> {
        let mut faults = validate::update(&self.schema, new, old);
        faults.extend(embedded::check(&self.schema, new));
        if list_type::check(&self.schema, old).is_empty() {
            faults.extend(list_type::check(&self.schema, new));
        }
        self.add_rules(&mut faults, new, Some(old));
        faults
    }

    /// Rules are evaluated on what has the right shape only.
    fn add_rules(&self, faults: &mut Vec<Cause>, new: &Value, old: Option<&Value>) {
        let Some(rules) = &self.rules else { return };
        let blocks = |fault: &Cause| {
            matches!(
                fault.reason.as_str(),
                "FieldValueRequired" | "FieldValueTooLong" | "FieldValueTooMany" | "FieldValueTypeInvalid"
            )
        };
        if faults.iter().any(blocks) {
            faults.push(Cause {
                reason: "FieldValueInvalid".to_owned(),
                message:
                    "Invalid value: null: some validation rules were not checked because the object was \
                          invalid; correct the existing errors to complete validation"
                        .to_owned(),
                field: "<nil>".to_owned(),
            });
        } else {
            faults.extend(rules.check(new, old));
        }
    }
}

#[cfg(test)]
mod tests;
