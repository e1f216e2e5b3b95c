//! Mutating webhooks, one after the other.
//!
//! When one changed the object, everything that ran before may have to look again: the plugins of
//! this process always, webhooks where their `reinvocationPolicy` says so. That happens once.

use std::sync::Arc;

use sampan_api::schema::FieldValidation;
use sampan_api::{Status, defaults, patch};
use serde_json::{Value, json};

use super::super::{Attributes, Mutated};
use super::call::{self, Refusal};
use super::hook::Hook;
use super::matching::{self, Invocation};
use super::review::Verdict;
use crate::conversion;
use crate::registry::{self, Context};

const MUTATION: &str = "mutation.webhook.admission.k8s.io/";
const PATCH: &str = "patch.webhook.admission.k8s.io/";
const FAILED_OPEN: &str = "failed-open.mutation.webhook.admission.k8s.io/";

/// The mutating webhooks of one request, over its rounds.
pub struct Mutation {
    hooks: Arc<[Arc<Hook>]>,
    round: usize,
    /// Those that ran and want to see later changes, by their place.
    ran: Vec<usize>,
    /// Those that are to run again.
    again: Vec<usize>,
    changed: bool,
    /// The object after the last round.
    output: Option<Value>,
}

impl Mutation {
    pub(super) fn new(hooks: Arc<[Arc<Hook>]>) -> Self {
        Mutation { hooks, round: 0, ran: Vec::new(), again: Vec::new(), changed: false, output: None }
    }

    /// Whether the plugins, and then the webhooks, are to look once more.
    pub fn wants_another_round(&self) -> bool {
        self.round == 1 && self.changed
    }

    /// Asks every webhook that the request concerns; in a second round, those that want to know.
    pub async fn round(
        &mut self,
        attributes: &Attributes<'_>,
        mut object: Option<&mut Value>,
        context: &mut Context,
    ) -> Result<Mutated, Status> {
        let repeated = self.round > 0;
        if repeated && object.as_deref() != self.output.as_ref() {
            self.again.append(&mut self.ran);
        }
        let mut mutated = Mutated::Inside;
        for (at, hook) in self.hooks.clone().iter().enumerate() {
            let Some(invocation) = matching::invocation(hook, attributes, object.as_deref(), context)? else {
                continue;
            };
            if repeated && !self.again.contains(&at) {
                continue;
            }
            let place = format!("round_{}_index_{at}", self.round);
            let changed =
                self.ask(hook, &invocation, attributes, object.as_deref_mut(), context, &place).await?;
            if changed {
                self.changed = true;
                mutated = Mutated::Outside;
                self.again.append(&mut self.ran);
            }
            if hook.reinvoked {
                self.ran.push(at);
            }
        }
        self.round += 1;
        if self.wants_another_round() {
            self.output = object.map(|object| object.clone());
        }
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
        let shown = object.as_deref().map(|object| to_hook(invocation, attributes, object));
        let old = attributes.old.map(|old| to_hook(invocation, attributes, old));
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

/// An object in the version that a webhook wants; bodies of subresources have one version only.
fn to_hook(invocation: &Invocation, attributes: &Attributes<'_>, object: &Value) -> Value {
    let def = &attributes.resource.def;
    if object["kind"] != def.kind.as_ref() {
        return object.clone();
    }
    conversion::convert(&def.gvr, &invocation.def.gvr, object.clone())
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
    let patched =
        complete(invocation, attributes, patched).map_err(|status| Refusal::Denied(Box::new(status)))?;
    let record = json!({"configuration": hook.configuration, "webhook": hook.name,
        "patch": operations, "patchType": verdict.patch_type});
    context.annotate(format!("{PATCH}{place}"), record.to_string());
    if patched == shown {
        return Ok(false);
    }
    let def = &attributes.resource.def;
    let own = patched["kind"] == def.kind.as_ref();
    *object = if own { conversion::convert(&invocation.def.gvr, &def.gvr, patched) } else { patched };
    Ok(true)
}

/// What a webhook made, held against its schema and with its defaults: an unknown field is dropped
/// and a wrong type is the webhook's fault.
fn complete(invocation: &Invocation, attributes: &Attributes<'_>, object: Value) -> Result<Value, Status> {
    let def = &invocation.def;
    if object["kind"] != def.kind.as_ref() {
        return Ok(object);
    }
    let mut context = Context::new(crate::identity::User::default());
    context.options.field_validation = FieldValidation::Ignore;
    let resource = attributes.resource.with_def(def.clone());
    let checked = registry::check_object(&resource, object, &mut context);
    let mut object = checked.map_err(|status| Status::internal(status.message))?;
    defaults::apply(&def.gvr.group, &def.gvr.version, &def.kind, &mut object);
    Ok(object)
}
