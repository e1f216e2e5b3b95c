//! Label selectors, as text and as JSON, and field selectors.

use sampan_api::selector::{FieldSelector, Selector};
use serde_json::{Value, json};

use crate::input;

/// Objects that a selector is tried on, as their labels.
const LABELS: [&[(&str, &str)]; 4] =
    [&[], &[("app", "web")], &[("app", "5"), ("tier", "x")], &[("a", ""), ("b", "-1")]];

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    let Some(text) = input::text(rest) else { return };
    match choice % 3 {
        0 => labels(text),
        1 => fields(text),
        _ => json_selector(text),
    }
}

fn labels(text: &str) {
    let Ok(selector) = text.parse::<Selector>() else { return };
    let shown = selector.to_string();
    let again: Selector = shown.parse().expect("what is printed is a selector");
    assert_eq!(again, selector, "{text:?} is printed as {shown:?}");
    agree(&selector, &again);
}

fn fields(text: &str) {
    let Ok(selector) = text.parse::<FieldSelector>() else { return };
    let shown = selector.to_string();
    let again: FieldSelector = shown.parse().expect("what is printed is a selector");
    // Of one field's requirements the order is that of their texts.
    assert_eq!(sorted(&again), sorted(&selector), "{text:?} is printed as {shown:?}");
    for requirement in selector.requirements() {
        assert!(!selector.is_everything());
        if let Some(value) = selector.exact(&requirement.field) {
            let other = |field: &str| (field != &*requirement.field).then_some("");
            assert!(value.is_empty() || !selector.matches(other), "{text:?} pins {}", requirement.field);
        }
    }
}

fn sorted(selector: &FieldSelector) -> Vec<(&str, &str, bool)> {
    let parts = selector.requirements().iter().map(|one| (&*one.field, &*one.value, one.negated));
    let mut parts: Vec<_> = parts.collect();
    parts.sort_unstable();
    parts
}

/// A `metav1.LabelSelector` selects what the text of it selects.
fn json_selector(text: &str) {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return };
    if let Ok(map) = Selector::from_map(&value)
        && !value.is_null()
    {
        assert_eq!(Selector::from_json(&json!({"matchLabels": value})), Ok(map), "{text}");
    }
    let Ok(selector) = Selector::from_json(&value) else { return };
    if selector.is_nothing() {
        assert!(LABELS.iter().all(|labels| !matches(&selector, labels)));
        return;
    }
    let again: Selector = selector.to_string().parse().expect("what is printed is a selector");
    agree(&selector, &again);
}

fn agree(a: &Selector, b: &Selector) {
    for labels in LABELS {
        assert_eq!(matches(a, labels), matches(b, labels), "{a} and {b} on {labels:?}");
    }
}

fn matches(selector: &Selector, labels: &[(&str, &'static str)]) -> bool {
    selector.matches(|key| labels.iter().find(|(label, _)| *label == key).map(|(_, value)| *value))
}
