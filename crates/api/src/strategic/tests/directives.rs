//! What the directives promise, for any objects.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The names or words of a list, in its order.
fn order(list: &Value) -> Vec<String> {
    let name = |item: &Value| item.get("name").unwrap_or(item).to_string();
    list.as_array().into_iter().flatten().map(name).collect()
}

fn names() -> impl Strategy<Value = Vec<String>> {
    let names = prop::collection::btree_set("[a-f]", 0..6);
    names.prop_map(|names| names.into_iter().collect::<Vec<_>>()).prop_shuffle()
}

fn by_name(list: &Value, name: &str) -> Option<Value> {
    list.as_array()?.iter().find(|item| item["name"] == name).cloned()
}

proptest! {
    #[test]
    fn replace_makes_what_it_says(original in object(), patch in object()) {
        let mut whole = patch.clone();
        whole["$patch"] = "replace".into();
        prop_assert_eq!(merged(&original, &whole), Ok(patch.clone()));
        // The same of a list, by an item that says nothing else.
        let items = patch["items"].as_array().into_iter().flatten().cloned();
        let list: Vec<Value> = items.chain([json!({"$patch": "replace"})]).collect();
        let result = merged(&original, &json!({"items": list})).expect("well formed");
        prop_assert_eq!(&result["items"], &patch["items"]);
        prop_assert_eq!(&result["words"], &original["words"]);
    }

    #[test]
    fn delete_leaves_the_others(original in object(), gone in names()) {
        let deletions: Vec<Value> =
            gone.iter().map(|name| json!({"name": name, "$patch": "delete"})).collect();
        let patch = json!({"items": deletions});
        let result = merged(&original, &patch).expect("well formed");
        let left = original["items"].as_array().into_iter().flatten();
        let left: Vec<&Value> = left.filter(|item| gone.iter().all(|name| item["name"] != *name)).collect();
        prop_assert_eq!(&result["items"], &json!(left));
        // Twice is once.
        prop_assert_eq!(merged(&result, &patch), Ok(result));
        let mut without = original.clone();
        without["inner"] = json!({});
        prop_assert_eq!(merged(&original, &json!({"inner": {"$patch": "delete"}})), Ok(without));
    }

    #[test]
    fn words_are_deleted_wherever_they_stand(
        original in object(),
        gone in prop::collection::vec("[a-e]", 0..4),
    ) {
        let patch = json!({"$deleteFromPrimitiveList/words": gone});
        let result = merged(&original, &patch).expect("well formed");
        let left = original["words"].as_array().into_iter().flatten();
        let left: Vec<&Value> = left.filter(|word| gone.iter().all(|one| **word != *one)).collect();
        prop_assert_eq!(&result["words"], &json!(left));
        prop_assert_eq!(merged(&result, &patch), Ok(result));
    }

    #[test]
    fn only_retained_keys_stay(
        original in object(),
        kept in prop::collection::btree_set("(items|words|inner|new)", 0..4),
    ) {
        let mut patch = json!({"$retainKeys": kept});
        if kept.contains("new") {
            patch["new"] = 1.into();
        }
        let result = merged(&original, &patch).expect("well formed");
        let found: std::collections::BTreeSet<String> =
            result.as_object().expect("an object").keys().cloned().collect();
        prop_assert_eq!(&found, &kept);
        for key in kept.iter().filter(|key| *key != "new") {
            prop_assert_eq!(&result[key], &original[key]);
        }
        prop_assert_eq!(merged(&result, &patch), Ok(result));
    }

    #[test]
    fn set_element_order_orders_and_changes_nothing_else(original in object(), wanted in names()) {
        let keys: Vec<Value> = wanted.iter().map(|name| json!({"name": name})).collect();
        let patch = json!({"$setElementOrder/items": keys, "$setElementOrder/words": wanted});
        let result = merged(&original, &patch).expect("well formed");
        let quoted: Vec<String> = wanted.iter().map(|name| format!("{name:?}")).collect();
        for list in ["items", "words"] {
            let (before, after) = (order(&original[list]), order(&result[list]));
            // What the directive names stands in its order, what it does not in the order of before.
            let named = |all: &[String], yes: bool| -> Vec<String> {
                all.iter().filter(|one| quoted.contains(one) == yes).cloned().collect()
            };
            let expected: Vec<String> = quoted.iter().filter(|one| before.contains(one)).cloned().collect();
            prop_assert_eq!(named(&after, true), expected);
            prop_assert_eq!(named(&after, false), named(&before, false));
        }
        for name in order(&original["items"]) {
            let name: String = serde_json::from_str(&name).expect("a name");
            prop_assert_eq!(by_name(&result["items"], &name), by_name(&original["items"], &name));
        }
        prop_assert_eq!(merged(&result, &patch), Ok(result));
    }

    #[test]
    fn without_a_schema_it_is_a_merge_patch(original in object(), patch in object()) {
        let map = |value: &Value| value.as_object().cloned().expect("an object");
        let result = apply(map(&original), map(&patch), &NoSchema).map(Value::Object);
        let merge = crate::patch::merge(original, patch.to_string().as_bytes()).expect("an object");
        prop_assert_eq!(result, Ok(merge));
    }
}
