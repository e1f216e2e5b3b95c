use super::*;
use crate::testing::history::Tick;

fn entry(key: &str, value: &str, revision: Revision, create_revision: Revision, version: u64) -> Entry {
    Entry { key: key.into(), value: Bytes::from(value.to_owned()), revision, create_revision, version }
}

fn put(revision: Revision, key: &str, value: &str, previous: Option<&str>) -> Arc<Event> {
    let kind = EventKind::Put { created: previous.is_none() };
    event(revision, key, kind, value, previous)
}

fn event(revision: Revision, key: &str, kind: EventKind, value: &str, previous: Option<&str>) -> Arc<Event> {
    let bytes = |text: &str| Bytes::from(text.to_owned());
    Arc::new(Event { revision, key: key.into(), kind, value: bytes(value), previous: previous.map(bytes) })
}

/// a=1 at 1, b=1 at 2, a=2 at 3, a gone at 4, a=3 at 5.
fn log() -> Vec<Arc<Event>> {
    vec![
        put(1, "a", "1", None),
        put(2, "b", "1", None),
        put(3, "a", "2", Some("1")),
        event(4, "a", EventKind::Delete, "", Some("2")),
        put(5, "a", "3", None),
    ]
}

fn write(
    begun: Tick,
    ended: Tick,
    key: &str,
    expect: Expect,
    value: Option<&str>,
    revision: Revision,
) -> Operation {
    let put = value.map(|text| Bytes::from(text.to_owned()));
    let call = Call::Write { key: key.into(), expect, put, outcome: Outcome::Done(revision) };
    Operation { begun, ended: Some(ended), call }
}

fn get(begun: Tick, ended: Tick, key: &str, found: Option<Entry>) -> Operation {
    Operation { begun, ended: Some(ended), call: Call::Get { key: key.into(), found } }
}

fn list(begun: Tick, ended: Tick, revision: Revision, entries: Vec<Entry>) -> Operation {
    let call = Call::List { prefix: String::new(), snapshot: Snapshot { entries, revision } };
    Operation { begun, ended: Some(ended), call }
}

/// Each after the one before it.
fn writes() -> Vec<Operation> {
    vec![
        write(10, 11, "a", Expect::Absent, Some("1"), 1),
        write(20, 21, "b", Expect::Any, Some("1"), 2),
        write(30, 35, "a", Expect::Revision(1), Some("2"), 3),
        write(40, 41, "a", Expect::Revision(3), None, 4),
        write(50, 51, "a", Expect::Absent, Some("3"), 5),
    ]
}

fn verdict(more: Vec<Operation>) -> Result<(), Violation> {
    let mut operations = writes();
    operations.extend(more);
    operations.sort_by_key(|operation| operation.begun);
    check(&log(), &operations, &[])
}

#[test]
fn what_one_store_can_have_answered_is_accepted() {
    let second = entry("a", "2", 3, 1, 2);
    let refused = Call::Write {
        key: "a".into(),
        expect: Expect::Revision(1),
        put: Some("x".into()),
        outcome: Outcome::Refused(Some(second.clone())),
    };
    let cases = [
        vec![],
        // Before or after the write beside which they run.
        vec![get(29, 32, "a", Some(entry("a", "1", 1, 1, 1)))],
        vec![get(29, 32, "a", Some(second.clone()))],
        vec![get(39, 45, "a", Some(second)), get(42, 43, "a", None)],
        vec![get(60, 61, "c", None)],
        vec![list(22, 23, 2, vec![entry("a", "1", 1, 1, 1), entry("b", "1", 2, 2, 1)])],
        vec![list(29, 55, 4, vec![entry("b", "1", 2, 2, 1)])],
        vec![Operation { begun: 36, ended: Some(37), call: refused }],
    ];
    for case in cases {
        assert_eq!(verdict(case.clone()), Ok(()), "{case:?}");
    }
}

#[test]
fn what_no_store_can_have_answered_is_found() {
    let first = entry("a", "1", 1, 1, 1);
    let read = |floor, found| Violation::Read { key: "a".to_owned(), floor, found };
    let cases = [
        (vec![get(36, 37, "a", Some(first.clone()))], read(3, Some(first.clone()))),
        // It is so only later, after a write that had not begun.
        (vec![get(22, 23, "a", None)], Violation::Late { what: "a".to_owned(), revision: 3, floor: 4 }),
        // The one saw the write that runs, the other, after it, did not.
        (
            vec![get(29, 31, "a", Some(entry("a", "2", 3, 1, 2))), get(32, 33, "a", Some(first.clone()))],
            read(3, Some(first.clone())),
        ),
        (vec![get(60, 61, "a", Some(entry("a", "3", 5, 1, 1)))], read(5, Some(entry("a", "3", 5, 1, 1)))),
        (
            vec![list(36, 37, 2, vec![first.clone(), entry("b", "1", 2, 2, 1)])],
            Violation::Late { what: String::new(), revision: 2, floor: 3 },
        ),
        (
            vec![list(60, 61, 5, vec![entry("a", "3", 5, 5, 1)])],
            Violation::List { prefix: String::new(), revision: 5 },
        ),
        // It saw what a write that began after it did.
        (
            vec![get(24, 25, "a", Some(entry("a", "2", 3, 1, 2)))],
            Violation::Late { what: "a".to_owned(), revision: 3, floor: 3 },
        ),
        (
            vec![write(60, 61, "a", Expect::Any, Some("4"), 6)],
            Violation::Lost { key: "a".to_owned(), revision: 6 },
        ),
    ];
    for (case, expected) in cases {
        assert_eq!(verdict(case.clone()), Err(expected), "{case:?}");
    }
}

#[test]
fn a_refusal_must_have_a_reason() {
    let refused = |expect, found| Operation {
        begun: 60,
        ended: Some(61),
        call: Call::Write {
            key: "a".into(),
            expect,
            put: Some("x".into()),
            outcome: Outcome::Refused(found),
        },
    };
    let there = Some(entry("a", "3", 5, 5, 1));
    assert_eq!(verdict(vec![refused(Expect::Absent, there.clone())]), Ok(()));
    let refusal = Err(Violation::Refusal { key: "a".to_owned() });
    assert_eq!(verdict(vec![refused(Expect::Revision(5), there)]), refusal);
}

#[test]
fn writes_without_an_answer_happen_once_or_never() {
    let unknown = |begun, value: Option<&str>| Operation {
        begun,
        ended: None,
        call: Call::Write {
            key: "a".into(),
            expect: Expect::Any,
            put: value.map(|text| Bytes::from(text.to_owned())),
            outcome: Outcome::Unknown,
        },
    };
    let acknowledged = writes();
    let without = |gone: usize, more: Vec<Operation>| {
        let mut operations = acknowledged.clone();
        operations.remove(gone);
        operations.extend(more);
        operations.sort_by_key(|operation| operation.begun);
        check(&log(), &operations, &[])
    };
    let unasked = |revision| Err(Violation::Unasked { key: "a".to_owned(), revision });
    assert_eq!(verdict(vec![unknown(5, Some("9"))]), Ok(()), "it never happened");
    assert_eq!(without(2, vec![unknown(25, Some("2"))]), Ok(()));
    assert_eq!(without(3, vec![unknown(5, None)]), Ok(()), "long after it began");
    assert_eq!(without(2, vec![]), unasked(3));
    assert_eq!(without(2, vec![unknown(25, Some("other"))]), unasked(3));
    let late = Violation::Late { what: "a".to_owned(), revision: 3, floor: 5 };
    assert_eq!(without(2, vec![unknown(60, Some("2"))]), Err(late), "before it began");
    let mut twice = log();
    twice.push(put(6, "a", "3", Some("3")));
    assert_eq!(check(&twice, &acknowledged, &[]), unasked(6), "an acknowledged write, again");
}

#[test]
fn a_log_must_be_true_to_itself() {
    for (at, event) in [
        (2, put(3, "a", "2", None)),
        (2, put(3, "a", "2", Some("other"))),
        (3, event(4, "c", EventKind::Delete, "", None)),
        (4, put(3, "a", "3", None)),
    ] {
        let mut log = log();
        let (key, revision) = (event.key.to_string(), event.revision);
        log[at] = event;
        assert_eq!(check(&log, &[], &[]), Err(Violation::Log { key, revision }));
    }
}

#[test]
fn watches_are_told_everything_once_and_in_order() {
    let log = log();
    let told = |prefix: &str, after, events: &[usize]| Told {
        prefix: prefix.to_owned(),
        after,
        events: events.iter().map(|at| log[*at].clone()).collect(),
    };
    let wrong = |prefix: &str, after| Err(Violation::Watch { prefix: prefix.to_owned(), after });
    let of = |watch: Told| check(&log, &writes(), &[watch]);
    assert_eq!(of(told("", 0, &[0, 1, 2, 3, 4])), Ok(()));
    assert_eq!(of(told("a", 1, &[2, 3])), Ok(()), "the rest may be on its way");
    assert_eq!(of(told("", 0, &[0, 2, 3])), wrong("", 0));
    assert_eq!(of(told("", 0, &[0, 1, 1])), wrong("", 0));
    assert_eq!(of(told("a", 0, &[0, 3, 2])), wrong("a", 0));
    assert_eq!(of(told("a", 3, &[2, 3])), wrong("a", 3));
}
