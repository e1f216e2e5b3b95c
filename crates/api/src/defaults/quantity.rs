//! Quantities in their canonical form, as the API has always answered them.

use serde_json::{Map, Value};

use super::fields::object;
use crate::quantity::Quantity;

/// Brings one quantity into its canonical form; what is none stays for validation to refuse.
pub(super) fn canonical(map: &mut Map<String, Value>, key: &str) {
    let Some(value) = map.get_mut(key) else { return };
    if let Value::String(_) | Value::Number(_) = value
        && let Ok(quantity) = Quantity::from_json(value)
    {
        *value = Value::from(quantity.to_string());
    }
}

/// Brings all quantities of a resource list into their canonical form, rounded up to thousandths.
pub(super) fn canonical_list(map: &mut Map<String, Value>, key: &str) {
    let Some(list) = object(map, key) else { return };
    for value in list.values_mut() {
        if let Value::String(_) | Value::Number(_) = value
            && let Ok(quantity) = Quantity::from_json(value)
        {
            let rounded = if quantity.is_whole_milli() {
                quantity
            } else {
                Quantity::from_milli(quantity.milli_value())
            };
            *value = Value::from(rounded.to_string());
        }
    }
}

/// `limits` and `requests` of a `resources` field.
pub(super) fn canonical_resources(map: &mut Map<String, Value>, key: &str) {
    if let Some(resources) = object(map, key) {
        canonical_list(resources, "limits");
        canonical_list(resources, "requests");
    }
}
