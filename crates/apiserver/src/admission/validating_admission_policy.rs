//! ValidatingAdmissionPolicy: expressions of the cluster's owner about what may be written.
//!
//! Where there are none, a request pays for a look at two empty maps. Evaluation is bounded by a budget
//! and needs no other server, so it happens in place.

use sampan_api::status::Cause;
use sampan_api::{Gvr, Status};
use serde_json::{Value, json};

use super::Attributes;
use super::expressions::{RequestAuthorizer, Subject};
use super::policies::{self, Action, Binding, Bound, GROUP, params};
use crate::registry::Context;

mod check;
mod decide;
mod declared;
mod policy;
mod status;
mod type_check;

pub use check::check;
pub use status::follow;

pub use policy::Policy;

use decide::{Evaluated, Failure};

const POLICIES: Gvr = Gvr::new(GROUP, "v1", "validatingadmissionpolicies");
const BINDINGS: Gvr = Gvr::new(GROUP, "v1", "validatingadmissionpolicybindings");
/// What the audit log is told about a failure under `validationActions: [Audit]`.
const AUDITED: &str = "validation.policy.admission.k8s.io/validation_failure";
/// Longest value of an audit annotation, in bytes.
const MAX_ANNOTATION: usize = 10 * 1024;

/// Holds a request against the policies.
pub async fn validate(
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    context: &mut Context,
) -> Result<(), Status> {
    if policies::is_exempt(attributes.resource.gvr()) {
        return Ok(());
    }
    let registry = attributes.registry;
    let policies = registry.policies.current(registry);
    if policies.is_empty() {
        return Ok(());
    }
    let authorizer = RequestAuthorizer::new(registry, &context.user);
    let mut run = Run { attributes, object, authorizer, context, denied: None };
    for bound in policies.iter() {
        run.policy(bound).await;
    }
    run.denied.map_or(Ok(()), Err)
}

/// One request on its way through the policies.
struct Run<'a, 'b> {
    attributes: &'a Attributes<'b>,
    object: Option<&'a Value>,
    authorizer: RequestAuthorizer,
    context: &'a mut Context,
    /// The first denial.
    denied: Option<Status>,
}

impl Run<'_, '_> {
    async fn policy(&mut self, bound: &Bound<Policy>) {
        let policy = &bound.policy;
        let programs = match &policy.programs {
            Ok(programs) => programs,
            Err(error) => return self.misconfigured(policy, None, error),
        };
        let def = match programs.matches.matches(self.attributes, self.object) {
            Ok(Some(def)) => def,
            Ok(None) => return,
            Err(error) => return self.misconfigured(policy, None, &error.to_string()),
        };
        let subject = Subject::new(self.attributes, self.object, &def, self.context);
        for binding in bound.bindings.iter() {
            let configured = match &binding.matches {
                Some(matches) => {
                    let found = matches.matches(self.attributes, self.object);
                    found.map(|def| def.is_some()).map_err(|error| error.to_string())
                }
                None => Ok(true),
            };
            let params = match configured {
                Ok(false) => continue,
                Ok(true) => {
                    params::of(self.attributes, policy.param_kind.as_ref(), binding.param_ref.as_ref()).await
                }
                Err(error) => Err(error),
            };
            match params {
                Err(error) => self.misconfigured(policy, Some(binding), &error),
                Ok(params) => {
                    for param in &params {
                        let found =
                            decide::evaluate(policy, programs, &subject, param.as_ref(), &self.authorizer);
                        self.apply(policy, binding, found);
                    }
                }
            }
        }
    }

    fn apply(&mut self, policy: &Policy, binding: &Binding, found: Evaluated) {
        for (key, value) in found.annotations {
            let value = value.chars().take(MAX_ANNOTATION).collect();
            self.context.annotate(format!("{}/{key}", policy.name), value);
        }
        for failure in found.failures {
            let Failure { at, reason, message } = &failure;
            for action in &binding.actions {
                match action {
                    Action::Deny => self.deny(policy, Some(binding), reason, message),
                    Action::Warn => self.context.warnings.push(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                        policy.name, binding.name
                    )),
                    Action::Audit => {
                        let actions: Vec<&str> = binding.actions.iter().map(|one| one.as_str()).collect();
                        let note = json!([{"message": message, "policy": policy.name, "binding": binding.name,
                            "expressionIndex": at, "validationActions": actions}]);
                        self.context.annotate(AUDITED.to_owned(), note.to_string());
                    }
                }
            }
        }
        if let Some(error) = found.broken {
            self.deny(policy, Some(binding), "", &error);
        }
    }

    fn misconfigured(&mut self, policy: &Policy, binding: Option<&Binding>, error: &str) {
        if policy.ignores_failures {
            tracing::warn!(policy = policy.name, error, "a policy is not configured and is passed over");
            return;
        }
        let what = if binding.is_some() { "binding" } else { "policy" };
        self.deny(policy, binding, "", &format!("failed to configure {what}: {error}"));
    }

    fn deny(&mut self, policy: &Policy, binding: Option<&Binding>, reason: &str, message: &str) {
        if self.denied.is_some() {
            return;
        }
        let by = binding.map(|binding| format!(" with binding '{}'", binding.name)).unwrap_or_default();
        let message = format!("ValidatingAdmissionPolicy '{}'{by} denied request: {message}", policy.name);
        let Attributes { resource, name, .. } = self.attributes;
        let mut status = Status::forbidden(resource.gvr(), name, &message);
        (status.reason, status.code) = match reason {
            "Unauthorized" => (reason.to_owned(), 401),
            "Forbidden" => (reason.to_owned(), 403),
            "RequestEntityTooLarge" => (reason.to_owned(), 413),
            _ => ("Invalid".to_owned(), 422),
        };
        let cause = Cause { message, ..Cause::default() };
        status.details.get_or_insert_default().causes.push(cause);
        self.denied = Some(status);
    }
}
