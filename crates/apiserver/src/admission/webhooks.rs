//! `MutatingAdmissionWebhook` and `ValidatingAdmissionWebhook`: admission by servers that the
//! cluster's owner runs.
//!
//! Configurations are compiled when they are first needed after a change, one by one: what did not
//! change keeps its connections. Where there are none, a request pays for a look at an empty map.

use std::sync::Arc;

use parking_lot::Mutex;
use sampan_api::object::ObjectRef;
use sampan_api::{Gvr, Status};
use serde_json::Value;

use super::{Attributes, Mutated};
use crate::cache::Snapshot;
use crate::registry::{Context, Registry};

mod call;
mod check;
pub(super) mod hook;
pub(super) mod matching;
mod mutating;
pub(super) mod review;
mod validating;

pub use check::check;
pub use mutating::Mutation;

use hook::Hook;

const GROUP: &str = "admissionregistration.k8s.io";
const MUTATING: Gvr = Gvr::new(GROUP, "v1", "mutatingwebhookconfigurations");
const VALIDATING: Gvr = Gvr::new(GROUP, "v1", "validatingwebhookconfigurations");
/// What decides about admission is never itself sent to webhooks: nobody could repair it.
const EXEMPT: [&str; 6] = [
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

/// The compiled webhooks of a registry.
#[derive(Default)]
pub struct Webhooks {
    mutating: Phase,
    validating: Phase,
}

/// One kind of configurations, compiled.
#[derive(Default)]
struct Phase {
    compiled: Mutex<Compiled>,
}

#[derive(Default)]
struct Compiled {
    /// What was compiled.
    snapshot: Snapshot,
    /// By configuration, in the order of names.
    configurations: Vec<(ObjectRef, Vec<Arc<Hook>>)>,
    all: Arc<[Arc<Hook>]>,
}

impl Phase {
    /// The webhooks of the configurations as they are now, in the order in which they are called.
    fn hooks(&self, registry: &Registry, gvr: &Gvr) -> Arc<[Arc<Hook>]> {
        let Ok(resource) = registry.resource(gvr) else { return Arc::default() };
        let (snapshot, _) = resource.cache.snapshot();
        if snapshot.is_empty() {
            return Arc::default();
        }
        let mut compiled = self.compiled.lock();
        if !compiled.snapshot.ptr_eq(&snapshot) {
            let mut known = std::mem::take(&mut compiled.configurations);
            for object in snapshot.values() {
                let at = known.iter().position(|(seen, _)| Arc::ptr_eq(seen, object));
                let entry = match at {
                    Some(at) => known.swap_remove(at),
                    None => (object.clone(), hook::compile(registry, object)),
                };
                compiled.configurations.push(entry);
            }
            compiled.all = compiled.configurations.iter().flat_map(|(_, hooks)| hooks.clone()).collect();
            compiled.snapshot = snapshot;
        }
        compiled.all.clone()
    }
}

pub(super) fn is_exempt(gvr: &Gvr) -> bool {
    gvr.group == GROUP && EXEMPT.contains(&gvr.resource.as_ref())
}

/// The mutating webhooks for a request; absent where there is nobody to ask.
pub fn mutation(attributes: &Attributes<'_>) -> Option<Mutation> {
    if is_exempt(attributes.resource.gvr()) {
        return None;
    }
    let registry = attributes.registry;
    let hooks = registry.webhooks.mutating.hooks(registry, &MUTATING);
    (!hooks.is_empty()).then(|| Mutation::new(hooks))
}

/// Asks the mutating webhooks about a request that has no object of its own to change, as a deletion.
pub async fn mutate_nothing(attributes: &Attributes<'_>, context: &mut Context) -> Result<(), Status> {
    let Some(mut mutation) = mutation(attributes) else { return Ok(()) };
    mutation.round(attributes, None, context).await.map(|_: Mutated| ())
}

/// Asks the validating webhooks.
pub async fn validate(
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    context: &mut Context,
) -> Result<(), Status> {
    if is_exempt(attributes.resource.gvr()) {
        return Ok(());
    }
    let registry = attributes.registry;
    let hooks = registry.webhooks.validating.hooks(registry, &VALIDATING);
    if hooks.is_empty() {
        return Ok(());
    }
    validating::validate(&hooks, attributes, object, context).await
}
