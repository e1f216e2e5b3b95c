//! Mutating policies and bindings that are written: what their schemas cannot say about them.

use sampan_api::Status;
use serde_json::Value;

use super::policy::{self, RawPolicy};
use super::{BINDINGS, POLICIES};
use crate::admission::policies::GROUP;
use crate::admission::policies::faults::{Faults, items, text};
use crate::admission::{Attributes, Operation};

/// A deletion has no object that could be changed.
const OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
/// Types of patches with the fields that describe them.
const PATCHES: [(&str, &str); 2] = [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];

/// Refuses a policy or binding that could not be used.
pub fn check(attributes: &Attributes<'_>, object: Option<&Value>) -> Result<(), Status> {
    let gvr = attributes.resource.gvr();
    let written = matches!(attributes.operation, Operation::Create | Operation::Update);
    let (Some(object), true, "") = (object, written, attributes.subresource) else { return Ok(()) };
    let mut faults = Faults::default();
    if *gvr == POLICIES {
        policy(&mut faults, &object["spec"]);
    } else if *gvr == BINDINGS {
        binding(&mut faults, &object["spec"]);
    }
    if faults.causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(GROUP, &attributes.resource.def.kind, attributes.name, faults.causes))
}

pub(super) fn policy(faults: &mut Faults, spec: &Value) {
    faults.failure_policy(spec);
    faults.param_kind(spec);
    faults.constraints(&spec["matchConstraints"]);
    operations(faults, &spec["matchConstraints"], "spec.matchConstraints");
    faults.conditions(&spec["matchConditions"]);
    faults.variables(&spec["variables"]);
    if spec["mutations"].as_array().is_none_or(Vec::is_empty) {
        faults.required("spec.mutations", "mutations must contain at least one item");
    }
    for (at, one) in items(&spec["mutations"]) {
        mutation(faults, one, &format!("spec.mutations[{at}]"));
    }
    match text(spec, "reinvocationPolicy") {
        "" => faults.required("spec.reinvocationPolicy", ""),
        policy => faults.one_of("spec.reinvocationPolicy", policy, &["Never", "IfNeeded"]),
    }
    if let Ok(raw) = serde_json::from_value::<RawPolicy>(spec.clone()) {
        faults.expressions(policy::compile(raw).err().unwrap_or_default());
    }
}

fn operations(faults: &mut Faults, resources: &Value, path: &str) {
    for (_, rule) in items(&resources["resourceRules"]) {
        for (_, operation) in items(&rule["operations"]) {
            let operation = operation.as_str().unwrap_or_default();
            faults.one_of(format!("{path}.resourceRules.operations"), operation, &OPERATIONS);
        }
    }
}

/// Exactly the field of the patch's type is there.
fn mutation(faults: &mut Faults, mutation: &Value, path: &str) {
    let kind = text(mutation, "patchType");
    if kind.is_empty() {
        return faults.required(format!("{path}.patchType"), "");
    }
    let known = PATCHES.map(|(kind, _)| kind);
    if !known.contains(&kind) {
        return faults.one_of(format!("{path}.patchType"), kind, &known);
    }
    for (other, field) in PATCHES {
        let (given, path) = (&mutation[field], format!("{path}.{field}"));
        match (other == kind, given.is_object()) {
            (true, false) => {
                faults.required(path, &format!("must be specified when patchType is {kind}"));
            }
            (true, true) if text(given, "expression").trim().is_empty() => {
                faults.required(format!("{path}.expression"), "expression is not specified");
            }
            (false, true) => {
                let detail = format!("must not be specified when patchType is {kind}");
                faults.invalid(path, &format!("{{{field}}}"), &detail);
            }
            (true, true) | (false, false) => {}
        }
    }
}

pub(super) fn binding(faults: &mut Faults, spec: &Value) {
    faults.policy_name(spec);
    faults.param_ref(&spec["paramRef"]);
    if spec["matchResources"].is_object() {
        faults.matches(&spec["matchResources"], "spec.matchResources");
        operations(faults, &spec["matchResources"], "spec.matchResources");
    }
}
