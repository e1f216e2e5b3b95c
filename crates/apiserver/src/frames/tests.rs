use std::cell::Cell;
use std::convert::Infallible;

use sampan_api::table::Table;

use super::*;
use crate::cache::Caches;
use crate::fields::FieldReader;

const PREFIX: &str = "/registry/configmaps";

/// A cache with some events of objects that have a size.
fn with_events(count: u64, size: usize) -> (Arc<crate::cache::Cache>, Vec<Arc<Event>>) {
    let caches = Caches::default();
    let cache = caches.register(PREFIX, FieldReader::default());
    for revision in 1..=count {
        let name = format!("m{revision}");
        let json = serde_json::json!({"metadata": {"name": name, "namespace": "a"}, "data": {"k": "x".repeat(size)}});
        let value = Bytes::from(json.to_string());
        caches.apply(&format!("{PREFIX}/a/{name}"), Some(&value), revision).expect("an object");
        caches.finish(revision);
    }
    let (events, _) = cache.events_after(0, usize::MAX).expect("all events");
    (cache, events)
}

fn key(look: Look, form: FormKey) -> FrameKey {
    let def = Table::builtin().by_name("configmaps").expect("a resource").clone();
    FrameKey { look, form, def }
}

#[test]
fn a_frame_is_made_once_for_all_watchers_of_a_form() {
    let (cache, events) = with_events(3, 10);
    let made = Cell::new(0);
    let def = key(Look::Added, FormKey::json());
    let frame = |event: &Arc<Event>, key: FrameKey| {
        let make = || {
            made.set(made.get() + 1);
            Ok::<_, Infallible>(Bytes::from(format!("{}", event.revision)))
        };
        let Ok(frame) = cache.frames.frame(event, key, make);
        frame
    };
    for _ in 0..5000 {
        for event in &events {
            assert_eq!(frame(event, def.clone()), event.revision.to_string());
        }
    }
    assert_eq!(made.get(), 3);
    frame(&events[0], FrameKey { look: Look::Left, ..def.clone() });
    frame(&events[0], FrameKey { form: FormKey::protobuf(), ..def.clone() });
    frame(&events[0], def);
    assert_eq!(made.get(), 5);
}

#[test]
fn frames_are_forgotten_oldest_first() {
    let (cache, events) = with_events(64, 1000);
    let def = key(Look::Added, FormKey::json());
    let frame = |event: &Arc<Event>| {
        let make = || Ok::<_, Infallible>(Bytes::from(vec![0; BYTES / 16]));
        let Ok(frame) = cache.frames.frame(event, def.clone(), make);
        frame
    };
    for event in &events {
        frame(event);
    }
    let kept = |event: &Arc<Event>| !event.frames.made.lock().is_empty();
    assert_eq!(events.iter().filter(|event| kept(event)).count(), 16);
    assert!(events[48..].iter().all(kept));
    assert!(cache.frames.kept.lock().bytes <= BYTES);
}
