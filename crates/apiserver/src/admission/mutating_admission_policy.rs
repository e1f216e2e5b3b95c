//! MutatingAdmissionPolicy (KEP-3962): expressions of the cluster's owner that change what is written.
//!
//! A policy runs with each parameter of each of its bindings that concern the request, and sees what those
//! before it made. Which these are is found before the first of them runs. As with validating policies,
//! evaluation is bounded and happens in place.

use std::sync::Arc;

use sampan_api::status::Cause;
use sampan_api::table::ResourceDef;
use sampan_api::{Gvr, Status};
use serde_json::Value;

use super::expressions::RequestAuthorizer;
use super::policies::{self, Binding, Bound, GROUP, params};
use super::reinvocation::Reinvocation;
use super::{Attributes, Mutated, Operation};
use crate::registry::Context;

mod check;
mod evaluate;
mod policy;
#[cfg(test)]
mod tests;

pub use check::check;
pub use policy::Policy;

use evaluate::Fault;

const POLICIES: Gvr = Gvr::new(GROUP, "v1beta1", "mutatingadmissionpolicies");
const BINDINGS: Gvr = Gvr::new(GROUP, "v1beta1", "mutatingadmissionpolicybindings");

/// The mutating policies of one request, over its rounds.
pub struct Mutation {
    policies: Arc<[Bound<Policy>]>,
    calls: Reinvocation<Key>,
}

/// A policy, its binding, and the namespace and name of a parameter.
#[derive(PartialEq)]
struct Key {
    policy: String,
    binding: String,
    param: Option<(String, String)>,
}

/// A policy with one parameter of one binding.
struct Invocation {
    policy: Arc<Policy>,
    binding: Binding,
    /// The resource under which the request is concerned.
    def: Arc<ResourceDef>,
    param: Option<Value>,
}

/// The policies for a request; absent where there are none, and for deletions, which change nothing.
pub fn mutation(attributes: &Attributes<'_>) -> Option<Mutation> {
    if attributes.operation == Operation::Delete || policies::is_exempt(attributes.resource.gvr()) {
        return None;
    }
    let registry = attributes.registry;
    let policies = registry.mutating_policies.current(registry);
    (!policies.is_empty()).then(|| Mutation { policies, calls: Reinvocation::default() })
}

impl Mutation {
    /// Whether the plugins, and then the policies, are to look once more.
    pub fn wants_another_round(&self) -> bool {
        self.calls.wants_another_round()
    }

    /// Runs every policy that the request concerns; in a second round, those that want to know.
    pub async fn round(
        &mut self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        context: &mut Context,
    ) -> Result<Mutated, Status> {
        self.calls.begin(Some(object));
        let mut denial = Denial::default();
        let invocations = invocations(&self.policies, attributes, object, &mut denial).await;
        let authorizer = RequestAuthorizer::new(attributes.registry, &context.user);
        let mut mutated = Mutated::Inside;
        for invocation in invocations {
            let run = evaluate::Run { invocation: &invocation, attributes, authorizer: &authorizer, context };
            match run.concerns(object) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    denial.add(&invocation.policy, Some(&invocation.binding), "Invalid", &error);
                    continue;
                }
            }
            let key = invocation.key();
            if !self.calls.runs(&key) {
                continue;
            }
            let mut changed = false;
            for mutation in invocation.policy.mutations() {
                match run.mutate(mutation, object) {
                    Ok(found) => changed |= found,
                    Err(Fault::Refused(status)) => return Err(*status),
                    Err(Fault::Failed(error)) => {
                        denial.add(&invocation.policy, Some(&invocation.binding), "Invalid", &error);
                    }
                }
            }
            if changed {
                mutated = Mutated::Outside;
            }
            self.calls.ran(key, changed, invocation.policy.reinvoked);
        }
        self.calls.end(Some(object));
        denial.verdict(attributes)?;
        Ok(mutated)
    }
}

impl Invocation {
    fn key(&self) -> Key {
        let param = self.param.as_ref().map(|param| {
            let text = |field: &str| param["metadata"][field].as_str().unwrap_or_default().to_owned();
            (text("namespace"), text("name"))
        });
        Key { policy: self.policy.name.clone(), binding: self.binding.name.clone(), param }
    }
}

/// What is to run, as the request is before any of it ran.
async fn invocations(
    policies: &[Bound<Policy>],
    attributes: &Attributes<'_>,
    object: &Value,
    denial: &mut Denial,
) -> Vec<Invocation> {
    let mut found = Vec::new();
    for bound in policies {
        let policy = &bound.policy;
        let def = match policy.matches(attributes, object) {
            Ok(Some(def)) => def,
            Ok(None) => continue,
            Err(error) => {
                denial.add(policy, None, "", &format!("failed to configure policy: {error}"));
                continue;
            }
        };
        for binding in bound.bindings.iter() {
            let narrowed = match &binding.matches {
                Some(matches) => matches.matches(attributes, Some(object)).map(|def| def.is_some()),
                None => Ok(true),
            };
            let params = match narrowed {
                Ok(false) => continue,
                Ok(true) => {
                    params::of(attributes, policy.param_kind.as_ref(), binding.param_ref.as_ref()).await
                }
                Err(error) => Err(error.to_string()),
            };
            match params {
                Ok(params) => found.extend(params.into_iter().map(|param| Invocation {
                    policy: policy.clone(),
                    binding: binding.clone(),
                    def: def.clone(),
                    param,
                })),
                Err(error) => {
                    denial.add(policy, Some(binding), "", &format!("failed to configure binding: {error}"));
                }
            }
        }
    }
    found
}

/// What failed, of policies that do not ignore failures.
#[derive(Default)]
struct Denial {
    /// With their reasons.
    messages: Vec<(&'static str, String)>,
}

impl Denial {
    fn add(&mut self, policy: &Policy, binding: Option<&Binding>, reason: &'static str, error: &str) {
        let name = &policy.name;
        if policy.ignores_failures {
            tracing::warn!(policy = name, error, "a mutating policy failed and is passed over");
            return;
        }
        self.messages.push((
            reason,
            match binding {
                Some(binding) => {
                    format!("policy '{name}' with binding '{}' denied request: {error}", binding.name)
                }
                None => format!("policy {name:?} denied request: {error}"),
            },
        ));
    }

    /// Refuses the request in the words of the first failure, should there be one.
    fn verdict(self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let Some((reason, message)) = self.messages.first() else { return Ok(()) };
        let mut status = Status::forbidden(attributes.resource.gvr(), attributes.name, "");
        status.message.clone_from(message);
        if !reason.is_empty() {
            status.reason = (*reason).to_owned();
        }
        let causes = self.messages.into_iter().map(|(_, message)| Cause { message, ..Cause::default() });
        status.details.get_or_insert_default().causes.extend(causes);
        Err(status)
    }
}
