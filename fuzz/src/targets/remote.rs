//! What a server answers a client: lists, events of watches, errors.

use http::StatusCode;
use sampan_client::WatchEvent;
use sampan_client::remote::fuzzing as doors;
use serde_json::Value;

use crate::input;

pub fn run(data: &[u8]) {
    let Some((choice, body)) = input::choice(data) else { return };
    match choice % 3 {
        0 => list(body),
        1 => event(body),
        _ => {
            let code = StatusCode::from_u16(400 + u16::from(choice)).expect("a code of three digits");
            let status = doors::status(code, body);
            assert_eq!(status.status, "Failure");
            assert_ne!(status.code, 0);
        }
    }
}

fn list(body: &[u8]) {
    let Ok(list) = doors::list(body) else { return };
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
    let items = value["items"].as_array().map_or(0, Vec::len);
    assert_eq!(list.items.len(), items, "every item is read");
    for item in &list.items {
        let read: Value = serde_json::from_slice(&item.bytes()).expect("an item is JSON");
        assert!(read.get("kind").is_some(), "{read} has no kind");
    }
}

fn event(body: &[u8]) {
    match doors::event(body) {
        Ok(WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object)) => {
            assert!(object.len() <= body.len());
        }
        Ok(WatchEvent::Bookmark(_)) | Err(_) => {}
    }
}
