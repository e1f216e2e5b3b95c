//! Admission: the checks and changes that look at other objects than the one that is written, and
//! those that the cluster's owner adds.
//!
//! One file per plugin, with upstream's names. Mutating plugins run on a defaulted object before its
//! validation, validating ones on what would be stored. What a write does again after a conflict, it
//! admits again.

use std::time::Instant;

use sampan_api::Status;
use sampan_client::DeleteOptions;
use serde_json::Value;

use crate::metrics::Step;
use crate::registry::{Context, Registry, Resource};

mod certificates;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod expressions;
mod limit_ranger;
pub mod mutating_admission_policy;
mod namespace_lifecycle;
mod node_restriction;
mod persistent_volume_claim_resize;
mod pod_security;
mod pod_topology_labels;
pub mod policies;
mod priority;
mod reinvocation;
mod resource_quota;
mod role_escalation;
mod runtime_class;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;
#[cfg(test)]
mod tests;
pub mod validating_admission_policy;
mod versioned;
pub mod webhooks;

pub use resource_quota::{Charge, Turns};

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// What a plugin may know about a request; who makes it and how is in its [`Context`].
#[derive(Clone, Copy)]
pub struct Attributes<'a> {
    pub registry: &'a Registry,
    pub resource: &'a Resource,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub operation: Operation,
    pub namespace: Option<&'a str>,
    pub name: &'a str,
    /// The stored state, in the version of the request; absent for a creation.
    pub old: Option<&'a Value>,
    /// What a deletion asks for.
    pub deletion: Option<&'a DeleteOptions>,
}

/// Whether an object may need defaults again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutated {
    /// By this process alone, whose changes are complete.
    Inside,
    /// Also by something that the cluster's owner added.
    Outside,
}

impl Operation {
    /// As in an admission review.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        }
    }
}

impl Attributes<'_> {
    fn count(&self, step: Step, rejected: bool, began: Instant) {
        if let Some(metrics) = self.registry.admission_metrics.get() {
            metrics.step(step, self.operation.as_str(), rejected, began);
        }
    }

    /// Whether this is about an object of a built-in resource itself.
    fn is(&self, operation: Operation, group: &str, resource: &str) -> bool {
        let gvr = &self.resource.def.gvr;
        self.operation == operation
            && self.subresource.is_empty()
            && gvr.group == group
            && gvr.resource == resource
    }
}

/// Runs on a defaulted object, before its validation.
pub async fn mutate(
    attributes: &Attributes<'_>,
    object: &mut Value,
    context: &mut Context,
) -> Result<Mutated, Status> {
    let began = Instant::now();
    let admitted = run_mutating(attributes, object, context).await;
    attributes.count(Step::Admit, admitted.is_err(), began);
    admitted
}

/// Runs on what would be stored, and on deletions, which have no object.
pub async fn validate(
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    context: &mut Context,
) -> Result<(), Status> {
    let began = Instant::now();
    let admitted = run_validating(attributes, object, context).await;
    attributes.count(Step::Validate, admitted.is_err(), began);
    admitted
}

/// Policies come before webhooks. What they change, the plugins of this process see again.
async fn run_mutating(
    attributes: &Attributes<'_>,
    object: &mut Value,
    context: &mut Context,
) -> Result<Mutated, Status> {
    let mut mutated = mutate_inside(attributes, object, context).await?;
    let mut policies = mutating_admission_policy::mutation(attributes);
    let mut webhooks = webhooks::mutation(attributes);
    loop {
        let mut again = false;
        if let Some(policies) = &mut policies {
            if policies.round(attributes, object, context).await? == Mutated::Outside {
                mutated = Mutated::Outside;
            }
            again |= policies.wants_another_round();
        }
        if let Some(webhooks) = &mut webhooks {
            if webhooks.round(attributes, Some(object), context).await? == Mutated::Outside {
                mutated = Mutated::Outside;
            }
            again |= webhooks.wants_another_round();
        }
        if !again {
            return Ok(mutated);
        }
        mutate_inside(attributes, object, context).await?;
    }
}

/// The plugins of this process, in upstream's order.
async fn mutate_inside(
    attributes: &Attributes<'_>,
    object: &mut Value,
    context: &Context,
) -> Result<Mutated, Status> {
    if attributes.operation == Operation::Create && attributes.subresource.is_empty() {
        namespace_lifecycle::admit(attributes.registry, attributes.resource, object)?;
    }
    limit_ranger::mutate(attributes, object)?;
    service_account::mutate(attributes, object).await?;
    node_restriction::admit(attributes, Some(object), context)?;
    taint_nodes_by_condition::mutate(attributes, object);
    priority::mutate(attributes, object)?;
    if attributes.is(Operation::Create, "", "pods") {
        default_toleration_seconds::admit(object);
    }
    default_storage_class::mutate(attributes, object)?;
    storage_object_in_use_protection::mutate(attributes, object);
    runtime_class::mutate(attributes, object)?;
    default_ingress_class::mutate(attributes, object)?;
    pod_topology_labels::mutate(attributes, object)?;
    Ok(Mutated::Inside)
}

/// The plugins of this process, in upstream's order.
async fn validate_inside(
    attributes: &Attributes<'_>,
    object: &Value,
    context: &mut Context,
) -> Result<(), Status> {
    role_escalation::validate(attributes, object, context)?;
    limit_ranger::validate(attributes, object)?;
    service_account::validate(attributes, object).await?;
    pod_security::validate(attributes, object, context)?;
    priority::validate(attributes, object)?;
    persistent_volume_claim_resize::validate(attributes, object)?;
    runtime_class::validate(attributes, object)?;
    certificates::validate(attributes, object, context)
}

async fn run_validating(
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    context: &mut Context,
) -> Result<(), Status> {
    if attributes.operation == Operation::Delete {
        namespace_lifecycle::validate_delete(attributes.resource, attributes.name)?;
        node_restriction::admit(attributes, None, context)?;
        webhooks::mutate_nothing(attributes, context).await?;
    }
    if let Some(object) = object {
        validate_inside(attributes, object, context).await?;
    }
    crate::custom::rules::check(attributes, object)?;
    validating_admission_policy::check(attributes, object)?;
    mutating_admission_policy::check(attributes, object)?;
    webhooks::check(attributes, object)?;
    validating_admission_policy::validate(attributes, object, context).await?;
    webhooks::validate(attributes, object, context).await
}

/// What the write costs its namespace's quotas. The last of admission: nothing may refuse the write
/// after it, and it is charged by the write's own commit.
pub async fn charge(attributes: &Attributes<'_>, object: &Value) -> Result<Charge, Status> {
    resource_quota::charge(attributes, object).await
}
