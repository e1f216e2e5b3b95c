use super::*;
use proptest::prelude::*;
use serde_json::json;

mod directives;

/// A small schema: `items` merge by `name` and hold more of the same, `words` is a set, `plain` is
/// atomic, `strategy` is replaced, `inner` is a structure.
#[derive(Clone, Copy, Debug)]
struct Small;

impl MergeSchema for Small {
    fn field(&self, name: &str) -> Option<MergeField<Self>> {
        let field = |merge, replace, key: Option<&'static str>| {
            Some(MergeField { schema: Some(Small), replace, merge, merge_key: key.map(Cow::Borrowed) })
        };
        match name {
            "items" => field(true, false, Some("name")),
            "words" => field(true, false, None),
            "strategy" => field(false, true, None),
            "plain" | "inner" => field(false, false, None),
            _ => None,
        }
    }
}

fn merged(original: &Value, patch: &Value) -> Result<Value, StrategicError> {
    let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
    apply(map(original), map(patch), &Small).map(Value::Object)
}

#[track_caller]
fn check(original: Value, patch: Value, expected: Value) {
    assert_eq!(merged(&original, &patch), Ok(expected), "{original} + {patch}");
}

#[test]
fn maps_merge_and_nulls_delete() {
    check(json!({"a": 1, "b": 2}), json!({"a": null, "c": 3, "d": null}), json!({"b": 2, "c": 3}));
    check(json!({"inner": {"a": 1}}), json!({"inner": {"b": 2}}), json!({"inner": {"a": 1, "b": 2}}));
    check(
        json!({"labels": {"a": "1"}}),
        json!({"labels": {"b": "2"}}),
        json!({"labels": {"a": "1", "b": "2"}}),
    );
    check(json!({"inner": {"a": 1}}), json!({"inner": 3}), json!({"inner": 3}));
    check(json!({}), json!({"inner": {"a": null, "b": [{"c": null}]}}), json!({"inner": {"b": [{}]}}));
    check(json!({"strategy": {"a": 1}}), json!({"strategy": {"b": 1}}), json!({"strategy": {"b": 1}}));
}

#[test]
fn lists_merge_by_strategy() {
    check(json!({"plain": [1, 2]}), json!({"plain": [3]}), json!({"plain": [3]}));
    check(
        json!({"unknown": [{"name": "a"}]}),
        json!({"unknown": [{"name": "b"}]}),
        json!({"unknown": [{"name": "b"}]}),
    );
    check(json!({"words": ["a", "b"]}), json!({"words": ["c", "b"]}), json!({"words": ["c", "a", "b"]}));
    check(
        json!({"items": [{"name": "a", "v": 1}, {"name": "b"}]}),
        json!({"items": [{"name": "b", "v": 2}]}),
        json!({"items": [{"name": "a", "v": 1}, {"name": "b", "v": 2}]}),
    );
    check(
        json!({"items": [{"name": "a", "items": [{"name": "x", "v": 1}]}]}),
        json!({"items": [{"name": "a", "items": [{"name": "y"}]}]}),
        json!({"items": [{"name": "a", "items": [{"name": "y"}, {"name": "x", "v": 1}]}]}),
    );
}

#[test]
fn directives_rule() {
    check(
        json!({"inner": {"a": 1}}),
        json!({"inner": {"$patch": "replace", "b": 1}}),
        json!({"inner": {"b": 1}}),
    );
    check(json!({"inner": {"a": 1}}), json!({"inner": {"$patch": "delete"}}), json!({"inner": {}}));
    check(json!({}), json!({"inner": {"$patch": "delete"}}), json!({}));
    check(
        json!({"items": [{"name": "a"}, {"name": "b"}]}),
        json!({"items": [{"name": "a", "$patch": "delete"}, {"name": "c"}]}),
        json!({"items": [{"name": "c"}, {"name": "b"}]}),
    );
    check(
        json!({"items": [{"name": "a"}, {"name": "b"}]}),
        json!({"items": [{"$patch": "replace"}, {"name": "c"}]}),
        json!({"items": [{"name": "c"}]}),
    );
    check(
        json!({"words": ["a", "b"]}),
        json!({"$deleteFromPrimitiveList/words": ["a"]}),
        json!({"words": ["b"]}),
    );
    check(json!({"a": 1, "b": 2}), json!({"$retainKeys": ["a", "c"], "c": 3}), json!({"a": 1, "c": 3}));
    check(
        json!({"items": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}),
        json!({"$setElementOrder/items": [{"name": "c"}, {"name": "a"}, {"name": "d"}], "items": [{"name": "d", "v": 1}]}),
        json!({"items": [{"name": "b"}, {"name": "c"}, {"name": "a"}, {"name": "d", "v": 1}]}),
    );
    check(
        json!({"words": ["a", "b"]}),
        json!({"$setElementOrder/words": ["b", "a"]}),
        json!({"words": ["b", "a"]}),
    );
}

#[test]
fn what_cannot_be_applied_is_told() {
    let table = [
        (json!({"items": [{"v": 1}]}), "map: map[v:1] does not contain declared merge key: name"),
        (json!({"items": ["a"]}), "list element types are not identical: [[map[name:a]] [a]]"),
        (json!({"inner": {"$patch": "merge"}}), "unknown patch type: merge in map: map[]"),
        (
            json!({"items": [{"name": "a", "$patch": "merge"}]}),
            "merging lists cannot yet be specified in the patch",
        ),
        (json!({"$retainKeys": ["a"], "b": 1}), "invalid patch format of retainKeys"),
        (json!({"$retainKeys": 1}), "invalid patch format of retainKeys"),
        (json!({"$deleteFromPrimitiveList/words": 1}), "invalid patch format of primitive list"),
        (json!({"$setElementOrder/words": 1}), "invalid patch format of setElementOrder list"),
        (
            json!({"$setElementOrder/items": [{"name": "x"}], "items": [{"name": "y"}]}),
            "The order in patch list:\n[map[name:y]]\n doesn't match $setElementOrder list:\n[map[name:x]]\n",
        ),
    ];
    let original = json!({"items": [{"name": "a"}], "inner": {}, "words": ["w"]});
    for (patch, expected) in table {
        assert_eq!(
            merged(&original, &patch).map_err(|error| error.to_string()),
            Err(expected.to_owned()),
            "{patch}"
        );
    }
}

#[test]
fn built_in_kinds_merge_by_their_keys() {
    let schema = crate::schema::builtin();
    let deployment = schema.lookup("io.k8s.api.apps.v1.Deployment").expect("a built-in kind");
    let spec = |containers: Value, more: Value| json!({"spec": {"template": {"spec": {"containers": containers, "tolerations": more}}}});
    let original = spec(
        json!([{"name": "a", "image": "a:1", "ports": [{"containerPort": 80, "name": "x"}], "args": ["1"]}]),
        json!([{"key": "k"}]),
    );
    let patch = spec(
        json!([{"name": "a", "image": "a:2", "ports": [{"containerPort": 81}], "args": ["2"]}, {"name": "b"}]),
        json!([{"key": "l"}]),
    );
    let expected = spec(
        json!([
            {"name": "a", "image": "a:2", "ports": [{"containerPort": 81}, {"containerPort": 80, "name": "x"}], "args": ["2"]},
            {"name": "b"},
        ]),
        json!([{"key": "l"}]),
    );
    let map = |value: &Value| value.as_object().cloned().expect("an object");
    let merged = apply(map(&original), map(&patch), &SchemaMerge::new(schema, deployment));
    assert_eq!(merged.map(Value::Object), Ok(expected));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<u8>().prop_map(Value::from),
        "[ab]".prop_map(Value::from),
        prop_oneof![Just("delete"), Just("replace")].prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("items"),
        Just("words"),
        Just("plain"),
        Just("inner"),
        Just("strategy"),
        Just("name"),
        Just("x"),
        Just("$patch"),
        Just("$retainKeys"),
        Just("$deleteFromPrimitiveList/words"),
        Just("$setElementOrder/items"),
    ];
    leaf.prop_recursive(4, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Objects of the small schema and patches for them, without directives.
fn object() -> impl Strategy<Value = Value> {
    let item = ("[a-d]", any::<u8>()).prop_map(|(name, v)| json!({"name": name, "v": v}));
    let words = prop::collection::vec("[a-e]", 0..5);
    (prop::collection::vec(item, 0..5), words, any::<u8>()).prop_map(|(mut items, mut words, v)| {
        let mut seen = HashSet::new();
        items.retain(|item| seen.insert(item["name"].to_string()));
        let mut seen = HashSet::new();
        words.retain(|word| seen.insert(word.clone()));
        json!({"items": items, "words": words, "inner": {"v": v}})
    })
}

proptest! {
    #[test]
    fn any_patch_is_answered(original in any_value(), patch in any_value()) {
        if let Ok(result) = merged(&original, &patch) {
            prop_assert!(result.is_object());
        }
    }

    #[test]
    fn applying_twice_changes_nothing_more(original in object(), patch in object()) {
        let once = merged(&original, &patch).expect("well formed");
        prop_assert_eq!(merged(&once, &patch), Ok(once));
    }

    #[test]
    fn patching_with_itself_changes_nothing(original in object()) {
        prop_assert_eq!(merged(&original, &original), Ok(original));
    }
    #[test]
    fn patches_of_different_items_commute(original in object(), ours in object(), theirs in object()) {
        let renamed = |patch: &Value, prefix: &str| {
            let items = patch["items"].as_array().into_iter().flatten();
            let items: Vec<Value> = items
                .map(|item| json!({"name": format!("{prefix}{}", item["name"]), "v": item["v"]}))
                .collect();
            json!({"items": items, "inner": {prefix: patch["inner"]["v"]}})
        };
        let (ours, theirs) = (renamed(&ours, "o"), renamed(&theirs, "t"));
        // The order of items is the later patch's to say; what they hold is not.
        let sorted = |mut value: Value| {
            if let Some(items) = value["items"].as_array_mut() {
                items.sort_by_key(|item| item["name"].to_string());
            }
            value
        };
        let both = |first: &Value, second: &Value| {
            sorted(merged(&merged(&original, first).expect("well formed"), second).expect("well formed"))
        };
        prop_assert_eq!(both(&ours, &theirs), both(&theirs, &ours));
    }
}
