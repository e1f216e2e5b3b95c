//! What must hold for any objects.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;

pub(super) fn text() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["a", "b", "c", "d"]).prop_map(str::to_owned)
}

fn labels() -> impl Strategy<Value = Value> {
    btree_map(text(), text(), 0..4).prop_map(|labels| json!(labels))
}

/// Containers with distinct names, in any order.
fn containers() -> impl Strategy<Value = Value> {
    let ports = btree_set((80_u32..83, proptest::bool::ANY), 0..3).prop_map(|ports| {
        let port = |(port, udp): &(u32, bool)| {
            if *udp {
                json!({"containerPort": port, "protocol": "UDP"})
            } else {
                json!({"containerPort": port})
            }
        };
        ports.iter().map(port).collect::<Value>()
    });
    btree_map(text(), (text(), ports, vec(text(), 0..3)), 0..4)
        .prop_map(|containers| {
            containers
                .into_iter()
                .map(|(name, (image, ports, args))| {
                    json!({"name": name, "image": image, "ports": ports, "args": args})
                })
                .collect::<Vec<Value>>()
        })
        .prop_shuffle()
        .prop_map(Value::Array)
}

pub(super) fn any_deployment() -> impl Strategy<Value = Value> {
    let finalizers = btree_set(text(), 0..3);
    (labels(), finalizers, proptest::option::of(0_i64..4), labels(), containers()).prop_map(
        |(labels, finalizers, replicas, selector, containers)| {
            let mut object = deployment(json!({"selector": {"matchLabels": selector},
                "template": {"spec": {"containers": containers}}}));
            object["metadata"]["labels"] = labels;
            object["metadata"]["finalizers"] = json!(finalizers);
            if let Some(replicas) = replicas {
                object["spec"]["replicas"] = replicas.into();
            }
            object
        },
    )
}

fn any_set() -> impl Strategy<Value = FieldSet> {
    vec(vec(text().prop_map(Element::field), 1..4), 0..8).prop_map(|paths| {
        let mut set = FieldSet::default();
        paths.iter().for_each(|path| set.insert(path));
        set
    })
}

/// An object without its owners.
pub(super) fn ownerless(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"].as_object_mut().expect("an object").remove("managedFields");
    object
}

proptest! {
    #[test]
    fn sets_obey_the_laws_of_sets(a in any_set(), b in any_set()) {
        let none = FieldSet::default();
        prop_assert_eq!(FieldSet::from_json(&a.to_json()), Ok(a.clone()));
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.union(&a), a.clone());
        prop_assert_eq!(a.difference(&a), none.clone());
        prop_assert_eq!(a.difference(&b).intersection(&b), none);
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        let paths = a.union(&b).paths();
        let from_one = paths.iter().all(|path| a.has(path) || b.has(path));
        let keeps_all = a.paths().iter().all(|path| a.union(&b).has(path));
        prop_assert!(from_one && keeps_all);
    }

    #[test]
    fn comparisons_mirror_each_other(a in any_deployment(), b in any_deployment()) {
        let kind = One::deployment();
        let there = compare(kind.typed(), &a, &b).expect("comparable");
        let back = compare(kind.typed(), &b, &a).expect("comparable");
        prop_assert_eq!(&there.added, &back.removed);
        prop_assert_eq!(&there.modified, &back.modified);
        prop_assert!(compare(kind.typed(), &a, &a).expect("comparable").is_same());
        // What was not there and is now, or is something else now, is in the new object.
        let after = field_set(kind.typed(), &b).expect("a set").with_named_fields(Some(kind.typed()));
        let known = |path: &[Element]| {
            after.has(path) || !after_below(&after, path).is_empty() || is_empty_at(&b, path)
        };
        let is_known = there.clone().into_changed().paths().iter().all(|path| known(path));
        prop_assert!(is_known, "{:?}", there);
    }

    #[test]
    fn merging_twice_is_merging_once(live in any_deployment(), config in any_deployment()) {
        let kind = One::deployment();
        let once = merge(kind.typed(), &live, &config).expect("merges");
        prop_assert_eq!(&merge(kind.typed(), &once, &config).expect("merges"), &once);
        // Everything that was asked for is there.
        let config_over = compare(kind.typed(), &once, &config).expect("comparable");
        prop_assert!(config_over.added.is_empty() && config_over.modified.is_empty(), "{:?}", config_over);
    }

    #[test]
    fn applying_twice_is_applying_once(live in any_deployment(), config in any_deployment()) {
        let kind = One::deployment();
        let live = kind.update(None, "creator", &live);
        let once = kind.force(&live, "a", &config);
        prop_assert_eq!(&kind.apply(Some(&once), "a", &config), &once);
    }

    #[test]
    fn a_conflict_is_what_force_takes(live in any_deployment(), config in any_deployment()) {
        let kind = One::deployment();
        let live = kind.apply(None, "a", &live);
        let forced = kind.force(&live, "b", &config);
        match kind.request("b").apply(Some(&live), &config, false) {
            Ok(merged) => prop_assert_eq!(kind.stored(merged), forced),
            Err(ApplyError::Conflicts(conflicts)) => {
                let left = FieldSet::from_json(&match applied(&forced, "a") {
                    Value::Null => json!({}),
                    fields => fields,
                }).expect("a set");
                for conflict in conflicts {
                    prop_assert!(!left.has(&conflict.path));
                }
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn appliers_of_different_fields_commute(ours in labels(), theirs in labels()) {
        let kind = One::config_map();
        let prefixed = |prefix: &str, labels: &Value| {
            let labels = labels.as_object().expect("an object");
            let labels = labels.iter().map(|(key, value)| (format!("{prefix}-{key}"), value.clone()));
            config_map(Value::Object(labels.collect()))
        };
        let (ours, theirs) = (prefixed("a", &ours), prefixed("b", &theirs));
        let one = kind.apply(Some(&kind.apply(None, "a", &ours)), "b", &theirs);
        let other = kind.apply(Some(&kind.apply(None, "b", &theirs)), "a", &ours);
        prop_assert_eq!(one, other);
    }

    #[test]
    fn what_one_applied_alone_it_can_take_away(config in any_deployment()) {
        let kind = One::deployment();
        let empty = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}});
        let live = kind.apply(None, "a", &config);
        let left = kind.apply(Some(&live), "a", &empty);
        let fields = field_set(kind.typed(), &ownerless(&left)).expect("a set");
        let owned = FieldSet::from_json(&applied(&live, "a")).expect("a set");
        prop_assert!(fields.intersection(&owned).is_empty(), "{} is left of {}", left, live);
        prop_assert_eq!(applied(&left, "a"), Value::Null);
    }
}

fn after_below<'a>(set: &'a FieldSet, path: &[Element]) -> &'a FieldSet {
    path.iter().fold(set, |set, element| set.below(element))
}

/// Whether an empty list or map is at a path of fields: nothing in it stands in a set.
fn is_empty_at(object: &Value, path: &[Element]) -> bool {
    let mut at = object;
    for element in path {
        let next = match element {
            Element::Field(name) => at.get(name.as_ref()),
            Element::Key(fields) => at.as_array().and_then(|items| {
                items.iter().find(|item| {
                    fields.iter().all(|(name, value)| item.get(name.as_ref()).is_none_or(|own| own == value))
                })
            }),
            Element::Value(_) | Element::Index(_) => None,
        };
        let Some(next) = next else { return false };
        at = next;
    }
    at.as_array().is_some_and(Vec::is_empty) || at.as_object().is_some_and(serde_json::Map::is_empty)
}
