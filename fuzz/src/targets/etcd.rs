//! What an etcd, or whoever says to be one, answers: messages, and the frames that they come in.

use sampan_storage::etcd::messages::{KeyValue, RangeAnswer, Status, TxnAnswer, WatchAnswer};
use sampan_storage::grpc::{Deframer, frame};

use crate::input;

/// The longest message that is taken here.
const LIMIT: usize = 4096;

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    match choice % 5 {
        0 => {
            if let Ok(answer) = RangeAnswer::decode(rest) {
                let size: usize = answer.found.iter().map(|found| found.key.len() + found.value.len()).sum();
                assert!(size <= rest.len(), "nothing is made of nothing");
                let _: Vec<_> = answer.found.into_iter().filter_map(KeyValue::into_entry).collect();
            }
        }
        1 => {
            let _ = TxnAnswer::decode(rest);
        }
        2 => {
            if let Ok(answer) = WatchAnswer::decode(rest) {
                assert!(answer.events.len() <= rest.len());
            }
        }
        3 => {
            let _ = Status::decode(rest);
        }
        _ => frames(rest),
    }
}

/// However a body is cut into pieces, the same messages come out of it, and bytes that are none are refused.
fn frames(body: &[u8]) {
    let all = |size: usize| {
        let (mut deframer, mut messages) = (Deframer::default(), Vec::new());
        for piece in body.chunks(size) {
            deframer.push(piece);
            loop {
                match deframer.next(LIMIT) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(_) => return (messages, false),
                }
            }
        }
        (messages, true)
    };
    let whole = all(body.len().max(1));
    assert_eq!(all(1), whole);
    let (messages, good) = whole;
    let again: Vec<u8> = messages.iter().flat_map(|message| frame(message)).collect();
    assert!(body.starts_with(&again));
    assert!(messages.iter().all(|message| message.len() <= LIMIT), "{good}");
}
