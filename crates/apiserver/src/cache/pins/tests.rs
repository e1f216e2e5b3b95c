use bytes::Bytes;
use futures_util::FutureExt;
use sampan_api::table::Table;

use super::*;
use crate::cache::{Caches, WINDOW_EVENTS};
use crate::fields::FieldReader;

const PREFIX: &str = "/registry/pods";
/// The place of `spec.nodeName` among the fields of pods.
const NODE_NAME: usize = 0;

fn pods() -> (Caches, Arc<Cache>) {
    let caches = Caches::default();
    let def = Table::builtin().by_name("pods").expect("a resource").clone();
    assert_eq!(def.fields[NODE_NAME].name, "spec.nodeName");
    let cache = caches.register(PREFIX, FieldReader::new(def.fields.clone()));
    caches.fillings().finish(1);
    (caches, cache)
}

fn put(caches: &Caches, name: &str, node: &str, revision: u64) {
    let json = serde_json::json!({"metadata": {"name": name, "namespace": "n"}, "spec": {"nodeName": node}});
    let value = Bytes::from(json.to_string());
    caches.apply(&format!("{PREFIX}/n/{name}"), Some(&value), revision).expect("an object");
    caches.finish(revision);
}

fn delete(caches: &Caches, name: &str, revision: u64) {
    caches.apply(&format!("{PREFIX}/n/{name}"), None, revision).expect("a deletion");
    caches.finish(revision);
}

fn pinned(cache: &Arc<Cache>, pin: Pin, revision: u64) -> Pinned {
    Pinned::new(cache.clone(), pin, revision).expect("a revision of the window")
}

fn wakes(pinned: &mut Pinned) -> bool {
    let woken = pinned.changed().now_or_never().is_some();
    pinned.mark_seen();
    woken
}

fn revisions(pinned: &Pinned, after: u64) -> Vec<u64> {
    let (events, _) = pinned.events_after(after, 100).expect("nothing lost");
    events.iter().map(|event| event.revision).collect()
}

#[test]
fn only_events_of_its_objects_wake_a_watcher() {
    let (caches, cache) = pods();
    let mut by_key = pinned(&cache, Pin::Key("n/a".into()), 1);
    let mut by_name = pinned(&cache, Pin::Name("a".into()), 1);
    let mut others: Vec<Pinned> =
        (0..100).map(|at| pinned(&cache, Pin::Key(format!("n/other-{at}").into()), 1)).collect();
    for revision in 2..52 {
        put(&caches, &format!("b{revision}"), "", revision);
        assert!(!wakes(&mut by_key) && !wakes(&mut by_name));
    }
    put(&caches, "a", "", 52);
    assert!(wakes(&mut by_key) && wakes(&mut by_name));
    assert!(!others.iter_mut().any(wakes));
    assert_eq!((revisions(&by_key, 1), revisions(&by_name, 51)), (vec![52], vec![52]));
    delete(&caches, "a", 53);
    assert!(wakes(&mut by_key));
    assert_eq!(by_key.events_after(52, 100).map(|(events, complete)| (events.len(), complete)), Ok((1, 53)));
    put(&caches, "c", "", 54);
    assert_eq!(by_key.events_after(53, 100).map(|(events, complete)| (events.len(), complete)), Ok((0, 54)));
}

#[test]
fn who_pins_a_field_sees_objects_come_and_go() {
    let (caches, cache) = pods();
    let on = |node: &str| Pin::Field(NODE_NAME, node.into());
    let (mut unbound, mut one, mut two) =
        (pinned(&cache, on(""), 1), pinned(&cache, on("one"), 1), pinned(&cache, on("two"), 1));
    let mut check = |expected: (bool, bool, bool)| {
        assert_eq!((wakes(&mut unbound), wakes(&mut one), wakes(&mut two)), expected);
    };
    put(&caches, "a", "", 2);
    check((true, false, false));
    put(&caches, "a", "one", 3);
    check((true, true, false));
    put(&caches, "a", "one", 4);
    check((false, true, false));
    put(&caches, "b", "two", 5);
    check((false, false, true));
    delete(&caches, "a", 6);
    check((false, true, false));
}

#[test]
fn what_happened_before_somebody_waited_is_found_once() {
    let (caches, cache) = pods();
    for revision in 2..8 {
        put(&caches, if revision % 2 == 0 { "a" } else { "b" }, "", revision);
    }
    let late = pinned(&cache, Pin::Name("a".into()), 7);
    let early = pinned(&cache, Pin::Name("a".into()), 3);
    let earliest = pinned(&cache, Pin::Name("a".into()), 1);
    put(&caches, "a", "", 8);
    assert_eq!(revisions(&late, 7), [8]);
    assert_eq!(revisions(&early, 3), [4, 6, 8]);
    assert_eq!(revisions(&earliest, 1), [2, 4, 6, 8]);
    drop((late, early, earliest));
    assert!(cache.state.read().pins.entries.is_empty());
    assert_eq!(cache.state.read().pins.names, 0);
}

#[test]
fn sleeping_through_the_events_of_others_loses_nothing() {
    let (caches, cache) = pods();
    let quiet = pinned(&cache, Pin::Name("quiet".into()), 1);
    let busy = pinned(&cache, Pin::Name("busy".into()), 1);
    put(&caches, "busy", "", 2);
    let last = WINDOW_EVENTS as u64 + 10;
    for revision in 3..=last {
        put(&caches, "other", "", revision);
    }
    assert!(cache.events_after(1, 1).is_err(), "the window has moved on");
    assert_eq!(quiet.events_after(1, 10).map(|(events, complete)| (events.len(), complete)), Ok((0, last)));
    assert!(busy.events_after(1, 10).is_err(), "its event has left");
    assert!(busy.events_after(2, 10).is_ok());
}

#[test]
fn objects_of_one_commit_have_one_revision() {
    let (caches, cache) = pods();
    let all = pinned(&cache, Pin::Field(NODE_NAME, "".into()), 1);
    put(&caches, "a", "", 2);
    put(&caches, "b", "", 2);
    assert_eq!(revisions(&all, 1), [2, 2]);
}
