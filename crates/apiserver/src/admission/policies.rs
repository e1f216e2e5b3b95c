//! What validating and mutating admission policies share: objects of two kinds, policies and the bindings
//! that put them to use, compiled when they are first needed after a change, one by one.

use std::sync::Arc;

use parking_lot::Mutex;
use sampan_api::Gvr;
use sampan_api::object::ObjectRef;
use serde::Deserialize;
use serde_json::Value;

use crate::cache::Snapshot;
use crate::registry::Registry;

pub mod compile;
pub mod faults;
pub mod matches;
pub mod params;

pub use params::{ParamKind, ParamRef};

use matches::{Matches, RawMatch};

pub const GROUP: &str = "admissionregistration.k8s.io";
/// Policies are never held against policies: nobody could repair one that denies everything.
const EXEMPT: [&str; 4] = [
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

pub fn is_exempt(gvr: &Gvr) -> bool {
    gvr.group == GROUP && EXEMPT.contains(&gvr.resource.as_ref())
}

/// A kind of policies.
pub trait Policy: Send + Sync {
    const POLICIES: Gvr;
    const BINDINGS: Gvr;

    /// Reads a stored policy, whose shape its schema has ensured.
    fn read(object: &ObjectRef) -> Self;

    fn name(&self) -> &str;
}

/// The compiled policies of a registry, of one kind.
pub struct Policies<P> {
    compiled: Mutex<Compiled<P>>,
}

struct Compiled<P> {
    policies: Snapshot,
    bindings: Snapshot,
    known: Vec<(ObjectRef, Arc<P>)>,
    all: Arc<[Bound<P>]>,
}

/// A policy with its bindings.
pub struct Bound<P> {
    pub policy: Arc<P>,
    pub bindings: Arc<[Binding]>,
}

/// The binding of a policy.
#[derive(Clone)]
pub struct Binding {
    pub name: String,
    pub policy: String,
    pub param_ref: Option<ParamRef>,
    pub matches: Option<Arc<Matches>>,
    /// Of validating policies.
    pub actions: Vec<Action>,
}

/// `validationActions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Action {
    Deny,
    Warn,
    Audit,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBinding {
    #[serde(default)]
    policy_name: String,
    param_ref: Option<ParamRef>,
    match_resources: Option<RawMatch>,
    #[serde(default)]
    validation_actions: Vec<Action>,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Deny => "Deny",
            Action::Warn => "Warn",
            Action::Audit => "Audit",
        }
    }
}

impl<P: Policy> Policies<P> {
    /// The policies that are bound, in the order of names.
    pub fn current(&self, registry: &Registry) -> Arc<[Bound<P>]> {
        let (Ok(policies), Ok(bindings)) = (registry.resource(&P::POLICIES), registry.resource(&P::BINDINGS))
        else {
            return Arc::default();
        };
        let (bindings, _) = bindings.cache.snapshot();
        if bindings.is_empty() {
            return Arc::default();
        }
        let (policies, _) = policies.cache.snapshot();
        let mut compiled = self.compiled.lock();
        if !compiled.policies.ptr_eq(&policies) || !compiled.bindings.ptr_eq(&bindings) {
            compiled.renew(policies, bindings);
        }
        compiled.all.clone()
    }
}

impl<P> Default for Policies<P> {
    fn default() -> Self {
        let compiled = Compiled {
            policies: Snapshot::default(),
            bindings: Snapshot::default(),
            known: Vec::new(),
            all: Arc::default(),
        };
        Policies { compiled: Mutex::new(compiled) }
    }
}

impl<P: Policy> Compiled<P> {
    fn renew(&mut self, policies: Snapshot, bindings: Snapshot) {
        let mut known = std::mem::take(&mut self.known);
        for object in policies.values() {
            let at = known.iter().position(|(seen, _)| Arc::ptr_eq(seen, object));
            let entry = match at {
                Some(at) => known.swap_remove(at),
                None => (object.clone(), Arc::new(P::read(object))),
            };
            self.known.push(entry);
        }
        let read: Vec<Binding> = bindings.values().filter_map(Binding::read).collect();
        let bound = |policy: &Arc<P>| {
            let bindings: Arc<[Binding]> =
                read.iter().filter(|binding| binding.policy == policy.name()).cloned().collect();
            (!bindings.is_empty()).then(|| Bound { policy: policy.clone(), bindings })
        };
        self.all = self.known.iter().filter_map(|(_, policy)| bound(policy)).collect();
        (self.policies, self.bindings) = (policies, bindings);
    }
}

impl Binding {
    fn read(object: &ObjectRef) -> Option<Binding> {
        let name = object.header.name.to_string();
        let spec = object.decode::<Value>().map(|mut object| object["spec"].take());
        match spec.and_then(serde_json::from_value::<RawBinding>) {
            Ok(raw) => Some(Binding {
                name,
                policy: raw.policy_name,
                param_ref: raw.param_ref,
                matches: raw.match_resources.map(|raw| Arc::new(Matches::new(raw))),
                actions: raw.validation_actions,
            }),
            Err(error) => {
                tracing::error!(binding = name, %error, "a policy binding was left out");
                None
            }
        }
    }
}
