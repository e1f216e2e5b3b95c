//! `spec.names`.

use super::super::field::{At, Faults};
use super::label;
use crate::names::dns1035_label;

pub(super) fn names(names: &At<'_, '_>, faults: &mut Faults) {
    for field in ["plural", "singular"] {
        let name = names.get(field);
        if !name.text().is_empty() {
            label(&name, faults);
        }
    }
    for field in ["kind", "listKind"] {
        let name = names.get(field);
        let messages = dns1035_label(&name.text().to_lowercase());
        if !name.text().is_empty() && !messages.is_empty() {
            let text = messages.join(",");
            faults.invalid(&name, &format!("may have mixed case, but should otherwise match: {text}"));
        }
    }
    for name in names.get("shortNames").items() {
        label(&name, faults);
    }
    let (kind, list_kind) = (names.get("kind"), names.get("listKind"));
    if !kind.text().is_empty() && kind.text() == list_kind.text() {
        faults.invalid(&list_kind, "kind and listKind may not be the same");
    }
    for category in names.get("categories").items() {
        label(&category, faults);
    }
}
