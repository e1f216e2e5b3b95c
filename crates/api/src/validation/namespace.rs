//! Namespaces and bindings.

use super::field::{At, Faults};
use crate::names;

pub(super) fn namespace(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    let finalizers = spec.get("finalizers");
    for finalizer in finalizers.items() {
        let messages = names::qualified_name(finalizer.text());
        if messages.is_empty() && !finalizer.text().contains('/') && finalizer.text() != "kubernetes" {
            faults.invalid(&finalizer, "name is neither a standard finalizer name nor is it fully qualified");
        }
        for message in messages {
            faults.invalid_value(&finalizers, finalizer.value, &message);
        }
    }
}

pub(super) fn binding(root: &At<'_, '_>, faults: &mut Faults) {
    let target = root.get("target");
    let kind = target.get("kind");
    if !matches!(kind.text(), "" | "Node") {
        faults.unsupported(&kind, &["Node", "<empty>"]);
    }
    if target.get("name").text().is_empty() {
        faults.required(&target.get("name"), "");
    }
}
