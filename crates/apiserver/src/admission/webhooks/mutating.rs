//! Mutating webhooks, one after the other.

use std::sync::Arc;

use sampan_api::schema::FieldValidation;
use sampan_api::{Status, patch};
use serde_json::{Value, json};

use super::super::reinvocation::Reinvocation;
use super::super::{Attributes, Mutated, versioned};
use super::call::{self, Refusal};
use super::hook::Hook;
use super::matching::{self, Invocation};
use super::review::Verdict;
use crate::registry::Context;

const MUTATION: &str = "mutation.webhook.admission.k8s.io/";
const PATCH: &str = "patch.webhook.admission.k8s.io/";
const FAILED_OPEN: &str = "failed-open.mutation.webhook.admission.k8s.io/";

/// The mutating webhooks of one request, over its rounds.
pub struct Mutation {
    hooks: Arc<[Arc<Hook>]>,
    /// By their places.
    calls: Reinvocation<usize>,
}

impl Mutation {
    pub(super) fn new(hooks: Arc<[Arc<Hook>]>) -> Self {
        Mutation { hooks, calls: Reinvocation::default() }
    }

    /// Whether the plugins, and then the webhooks, are to look once more.
    pub fn wants_another_round(&self) -> bool {
        self.calls.wants_another_round()
    }

    /// Asks every webhook that the request concerns; in a second round, those that want to know.
    pub async fn round(
        &mut self,
        attributes: &Attributes<'_>,
        mut object: Option<&mut Value>,
        context: &mut Context,
    ) -> Result<Mutated, Status> {
        self.calls.begin(object.as_deref());
        let mut mutated = Mutated::Inside;
        for (at, hook) in self.hooks.clone().iter().enumerate() {
            let Some(invocation) = matching::invocation(hook, attributes, object.as_deref(), context)? else {
                continue;
            };
            if !self.calls.runs(&at) {
                continue;
            }
            let place = format!("round_{}_index_{at}", self.calls.round());
            let changed =
                self.ask(hook, &invocation, attributes, object.as_deref_mut(), context, &place).await?;
            if changed {
                mutated = Mutated::Outside;
            }
            self.calls.ran(at, changed, hook.reinvoked);
        }
        self.calls.end(object.as_deref());
        Ok(mutated)
    }

    /// Asks one webhook and applies what it wants; whether that changed anything.
    async fn ask(
        &self,
        hook: &Hook,
        invocation: &Invocation,
        attributes: &Attributes<'_>,
        object: Option<&mut Value>,
        context: &mut Context,
        place: &str,
    ) -> Result<bool, Status> {
        let shown =
            object.as_deref().map(|object| versioned::to_version(attributes, &invocation.def, object));
        let old = attributes.old.map(|old| versioned::to_version(attributes, &invocation.def, old));
        let asked =
            call::ask(hook, invocation, attributes, shown.as_ref(), old.as_ref(), context, true).await;
        let mut changed = false;
        let result = match asked {
            Ok(verdict) => {
                let applied = apply(hook, invocation, attributes, verdict, shown, object, context, place);
                applied.map(|applied| changed = applied)
            }
            Err(refusal) => Err(refusal),
        };
        let record = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
        context.annotate(format!("{MUTATION}{place}"), record.to_string());
        match result {
            Ok(()) => Ok(changed),
            Err(Refusal::Denied(status)) => Err(*status),
            Err(Refusal::Failed(reason)) if hook.ignores_failures => {
                tracing::warn!(webhook = hook.name, reason, "a mutating webhook failed and is passed over");
                context.annotate(format!("{FAILED_OPEN}{place}"), hook.name.clone());
                Ok(false)
            }
            Err(Refusal::Failed(reason)) => Err(call::failure(hook, &reason)),
        }
    }
}

/// Acts on a verdict: `shown` is what the webhook saw, `object` what becomes of it.
#[allow(clippy::too_many_arguments)]
fn apply(
    hook: &Hook,
    invocation: &Invocation,
    attributes: &Attributes<'_>,
    mut verdict: Verdict,
    shown: Option<Value>,
    object: Option<&mut Value>,
    context: &mut Context,
    place: &str,
) -> Result<bool, Refusal> {
    call::note(hook, &mut verdict, context);
    if !verdict.allowed {
        return Err(Refusal::Denied(Box::new(call::denial(&hook.name, verdict.status))));
    }
    let internal = |error: &dyn std::fmt::Display| Refusal::Denied(Box::new(Status::internal(error)));
    if verdict.patch.is_empty() {
        return Ok(false);
    }
    let operations: Vec<Value> = serde_json::from_slice(&verdict.patch).map_err(|error| internal(&error))?;
    if operations.is_empty() {
        return Ok(false);
    }
    let (Some(shown), Some(object)) = (shown, object) else {
        let message = "attempted to modify the object, which is not supported for this operation";
        return Err(internal(&format!("admission webhook {:?} {message}", hook.name)));
    };
    if verdict.patch_type != "JSONPatch" {
        return Err(Refusal::Failed(format!("unsupported patch type {:?}", verdict.patch_type)));
    }
    let patched = patch::json(shown.clone(), &verdict.patch).map_err(|error| internal(&error))?;
    // An unknown field is dropped and a wrong type is the webhook's fault.
    let patched = versioned::complete(attributes, &invocation.def, patched, FieldValidation::Ignore)
        .map_err(|status| Refusal::Denied(Box::new(status)))?;
    let record = json!({"configuration": hook.configuration, "webhook": hook.name,
        "patch": operations, "patchType": verdict.patch_type});
    context.annotate(format!("{PATCH}{place}"), record.to_string());
    if patched == shown {
        return Ok(false);
    }
    *object = versioned::from_version(attributes, &invocation.def, patched);
    Ok(true)
}
