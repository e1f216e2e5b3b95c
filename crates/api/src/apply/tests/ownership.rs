//! What must hold of owners, whatever is written in which order.

use proptest::prelude::*;

use super::super::typed::Shape;
use super::properties::{any_deployment, ownerless, text};
use super::*;

/// One write by somebody.
#[derive(Clone, Debug)]
enum Act {
    Apply { manager: String, config: Value },
    Update { manager: String, object: Value },
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (text(), any_deployment()).prop_map(|(manager, config)| Act::Apply { manager, config }),
        (text(), any_deployment()).prop_map(|(manager, object)| Act::Update { manager, object }),
    ]
}

fn act(kind: &One, live: &Value, act: &Act) -> Value {
    match act {
        Act::Apply { manager, config } => kind.force(live, manager, config),
        Act::Update { manager, object } => {
            let mut object = object.clone();
            object["metadata"]["uid"] = "u".into();
            object["metadata"]["managedFields"] = live["metadata"]["managedFields"].clone();
            kind.update(Some(live), manager, &object)
        }
    }
}

fn managed(object: &Value) -> Managed {
    Managed::from_json(object.pointer("/metadata/managedFields")).expect("what was written can be read")
}

fn exists(at: &Value, path: &[Element]) -> bool {
    let Some((element, rest)) = path.split_first() else { return true };
    let items = || at.as_array().into_iter().flatten();
    match element {
        Element::Field(name) => at.get(&**name).is_some_and(|next| exists(next, rest)),
        // A key that is left out has its default.
        Element::Key(keys) => items().any(|item| {
            keys.iter().all(|(name, value)| item.get(&**name).is_none_or(|own| own == value))
                && exists(item, rest)
        }),
        Element::Value(value) => items().any(|item| *item == **value),
        Element::Index(_) => false,
    }
}

/// Whether there is a list or map at a path. Who owned one may still do so when the last of what was in
/// it went with its owner, and it was left out as upstream leaves it out.
fn may_be_empty(typed: Typed<'_>, path: &[Element]) -> bool {
    let inner = path.iter().try_fold(typed, |at, element| match element {
        Element::Field(name) => at.field(name),
        Element::Key(_) => at.item(),
        Element::Value(_) | Element::Index(_) => None,
    });
    inner.is_some_and(|inner| !matches!(inner.shape(), Shape::Scalar(_)))
}

/// A deployment of one container, whose every part has a name with a prefix.
fn prefixed(prefix: &str, labels: &[String], image: &str, port: u16) -> Value {
    let mut object = deployment(json!({"template": {"spec": {"containers": [
        {"name": format!("{prefix}-c"), "image": image, "ports": [{"containerPort": port}]}
    ]}}}));
    let labels = labels.iter().map(|label| (format!("{prefix}-{label}"), Value::from(image)));
    object["metadata"]["labels"] = Value::Object(labels.collect());
    object["metadata"]["finalizers"] = json!([format!("{prefix}/f")]);
    object
}

/// An object without the order of its associative lists, in which appliers' items stand as they came.
fn unordered(mut object: Value) -> Value {
    let mut sort = |path: &str| {
        if let Some(list) = object.pointer_mut(path).and_then(Value::as_array_mut) {
            list.sort_by_key(Value::to_string);
        }
    };
    sort("/spec/template/spec/containers");
    sort("/metadata/finalizers");
    sort("/metadata/managedFields");
    object
}

proptest! {
    #[test]
    fn nobody_owns_what_is_not_there(
        first in any_deployment(),
        acts in proptest::collection::vec(any_act(), 1..5),
    ) {
        let kind = One::deployment();
        let mut live = kind.update(None, "creator", &first);
        for one in &acts {
            live = act(&kind, &live, one);
            for (manager, owned) in managed(&live).entries {
                for path in owned.fields.paths() {
                    let there = exists(&live, &path) || may_be_empty(kind.typed(), &path);
                    prop_assert!(there, "{manager} owns {path:?} after {one:?}: {live}");
                }
                prop_assert!(!owned.fields.is_empty(), "{manager} owns nothing: {live}");
            }
        }
    }

    #[test]
    fn applying_again_takes_nothing_more(
        first in any_deployment(),
        acts in proptest::collection::vec(any_act(), 0..3),
        config in any_deployment(),
    ) {
        let kind = One::deployment();
        let created = kind.update(None, "creator", &first);
        let live = acts.iter().fold(created, |live, one| act(&kind, &live, one));
        let once = kind.force(&live, "a", &config);
        // Without force: there is nothing left to take.
        let twice = kind.apply(Some(&once), "a", &config);
        prop_assert_eq!(managed(&twice), managed(&once));
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn an_update_that_changes_nothing_takes_nothing(first in any_deployment(), config in any_deployment()) {
        let kind = One::deployment();
        let live = kind.force(&kind.update(None, "creator", &first), "a", &config);
        prop_assert_eq!(&kind.update(Some(&live), "b", &live), &live);
    }

    #[test]
    fn appliers_of_different_parts_commute(
        ours in (proptest::collection::vec(text(), 0..3), text(), 80_u16..90),
        theirs in (proptest::collection::vec(text(), 0..3), text(), 80_u16..90),
    ) {
        let kind = One::deployment();
        let ours = prefixed("a", &ours.0, &ours.1, ours.2);
        let theirs = prefixed("b", &theirs.0, &theirs.1, theirs.2);
        let one = kind.apply(Some(&kind.apply(None, "a", &ours)), "b", &theirs);
        let other = kind.apply(Some(&kind.apply(None, "b", &theirs)), "a", &ours);
        prop_assert_eq!(unordered(one), unordered(other));
    }

    #[test]
    fn who_lets_go_leaves_what_others_own(ours in any_deployment(), theirs in any_deployment()) {
        let kind = One::deployment();
        let mut empty = deployment(Value::Null);
        empty.as_object_mut().expect("an object").remove("spec");
        let before = kind.apply(None, "b", &theirs);
        let both = kind.force(&before, "a", &ours);
        let left = kind.apply(Some(&both), "a", &empty);
        prop_assert!(managed(&left).entries.keys().all(|manager| manager.name != "a"), "{left}");
        // What b still owned is as it was; what a had taken from it is gone with a.
        let theirs_then = managed(&both).entries.into_iter().find(|(manager, _)| manager.name == "b");
        let theirs_now = managed(&left).entries.into_iter().find(|(manager, _)| manager.name == "b");
        prop_assert_eq!(theirs_now.as_ref().map(|(_, owned)| &owned.fields), theirs_then.as_ref().map(|(_, owned)| &owned.fields));
        // And b gets the rest back by applying again.
        let again = kind.apply(Some(&left), "b", &theirs);
        prop_assert_eq!(unordered(ownerless(&again)), unordered(ownerless(&before)));
        prop_assert_eq!(applied(&again, "b"), applied(&before, "b"));
    }
}
