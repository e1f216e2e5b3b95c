use futures_util::FutureExt as _;

use super::*;

fn caches() -> (Caches, Arc<Cache>) {
    let caches = Caches::default();
    let pods = caches.register("/registry/pods", FieldReader::default());
    caches.register("/registry/podtemplates", FieldReader::default());
    caches.fillings().finish(1);
    (caches, pods)
}

fn pod(name: &str) -> Bytes {
    Bytes::from(format!(
        "{{\"kind\":\"Pod\",\"metadata\":{{\"name\":\"{name}\"}},\"spec\":{{\"metadata\":{{}}}}}}"
    ))
}

fn put(caches: &Caches, name: &str, revision: u64) {
    caches.apply(&format!("/registry/pods/n/{name}"), Some(&pod(name)), revision).expect("a valid object");
    caches.finish(revision);
}

pub(super) fn config_map(number: usize, value: &str) -> Bytes {
    let words: Vec<String> =
        (0..40).map(|word| format!("\"key-{word}\":\"value-{}\"", word * number)).collect();
    format!(
        "{{\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"map-{number}\",\"namespace\":\"default\"}},\
         \"data\":{{{},\"key\":\"{value}\"}}}}",
        words.join(",")
    )
    .into()
}

/// Config maps of a good kilobyte each.
pub(super) fn filled(count: usize) -> Caches {
    let caches = Caches::default();
    caches.register("/registry/configmaps", FieldReader::default());
    let mut fillings = caches.fillings();
    for number in 0..count {
        let key = format!("/registry/configmaps/default/map-{number}");
        fillings.read(&key, &config_map(number, "value"), number as u64 + 1).expect("a config map");
    }
    fillings.finish(count as u64);
    caches
}

fn names(snapshot: &Snapshot) -> Vec<String> {
    snapshot.keys().map(|key| key.to_string()).collect()
}

#[test]
fn the_revision_is_spliced_into_the_outer_metadata() {
    let check = |json: &str, expected: &str| {
        assert_eq!(with_revision(&Bytes::copy_from_slice(json.as_bytes()), 42), expected);
    };
    check(r#"{"metadata":{"name":"a"}}"#, r#"{"metadata":{"resourceVersion":"42","name":"a"}}"#);
    check(
        r#"{"metadata":{"resourceVersion":"7","name":"a"}}"#,
        r#"{"metadata":{"resourceVersion":"42","name":"a"}}"#,
    );
    check(r#"{"metadata":{"resourceVersion":"7"}}"#, r#"{"metadata":{"resourceVersion":"42"}}"#);
    check(
        r#"{"a":{"metadata":{}},"b":"\"metadata\":{","metadata":{}}"#,
        r#"{"a":{"metadata":{}},"b":"\"metadata\":{","metadata":{"resourceVersion":"42"}}"#,
    );
    check("{}", "{}");
}

#[test]
fn an_object_carries_the_revision_of_its_write() {
    let (caches, pods) = caches();
    put(&caches, "a", 2);
    put(&caches, "a", 3);
    let object = pods.get("n/a").expect("was put");
    assert_eq!(object.header.revision, 3);
    assert!(std::str::from_utf8(&object.bytes()).expect("JSON").contains("\"resourceVersion\":\"3\""));
}

#[test]
fn a_snapshot_of_the_past_undoes_what_came_later() {
    let (caches, pods) = caches();
    put(&caches, "a", 2);
    put(&caches, "b", 3);
    caches.apply("/registry/pods/n/a", None, 4).expect("a deletion");
    put(&caches, "b", 5);
    assert_eq!(names(&pods.snapshot().0), ["n/b"]);
    assert_eq!(names(&pods.snapshot_at(3).expect("in the window")), ["n/a", "n/b"]);
    assert_eq!(names(&pods.snapshot_at(2).expect("in the window")), ["n/a"]);
    assert_eq!(pods.snapshot_at(3).expect("in the window")["n/b"].header.revision, 3);
    assert_eq!(pods.snapshot_at(0).err(), Some(Expired { oldest: 1 }));
}

#[test]
fn events_resume_after_a_revision() {
    let (caches, pods) = caches();
    for revision in 2..6 {
        put(&caches, "a", revision);
    }
    let (events, complete) = pods.events_after(3, 10).expect("in the window");
    assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(complete, 5);
    let (events, complete) = pods.events_after(1, 2).expect("in the window");
    assert_eq!((events.len(), complete), (2, 3));
}

#[test]
fn the_window_is_bounded_and_says_where_it_begins() {
    let (caches, pods) = caches();
    for revision in 2..(WINDOW_EVENTS as u64 + 100) {
        put(&caches, "a", revision);
    }
    let oldest = pods.events_after(1, 1).expect_err("left the window").oldest;
    assert!(oldest > 1);
    assert!(pods.events_after(oldest, 1).is_ok());
    assert!(pods.state.read().window.len() <= WINDOW_EVENTS);
}

#[test]
fn a_prefix_takes_only_its_own_keys() {
    let (caches, pods) = caches();
    caches.apply("/registry/podtemplates/n/x", Some(&pod("x")), 2).expect("a valid object");
    caches.apply("/registry/unknown/n/x", Some(&pod("x")), 3).expect("ignored");
    assert!(pods.is_empty());
}

#[tokio::test]
async fn waiting_for_a_revision_ends_when_it_is_applied() {
    let (caches, _pods) = caches();
    let caches = Arc::new(caches);
    let waiter = tokio::spawn({
        let caches = caches.clone();
        async move { caches.applied(2).await }
    });
    put(&caches, "a", 2);
    waiter.await.expect("no panic");
    assert_eq!(caches.revision(), 2);
}

#[test]
fn who_waits_for_events_is_woken_when_some_may_be_missing() {
    let (caches, pods) = caches();
    put(&caches, "a", 2);
    let mut all = pods.subscribe();
    let mut pinned = Pinned::new(pods.clone(), Pin::Key("n/a".into()), 2).expect("a revision of the window");
    assert!(!all.has_changed().expect("open") && pinned.changed().now_or_never().is_none());
    caches.fillings().finish(9);
    assert!(all.changed().now_or_never().is_some() && pinned.changed().now_or_never().is_some());
    assert_eq!(pods.events_after(2, 10).err(), Some(Expired { oldest: 9 }));
    assert_eq!(pinned.events_after(2, 10).err(), Some(Expired { oldest: 9 }));
}
