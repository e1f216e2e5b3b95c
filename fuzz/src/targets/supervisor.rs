//! Frames between a server and a supervisor.

use sampan_runtime::protocol::frame::{FrameDecoder, FrameError, encode};
use sampan_runtime::protocol::{Call, Reply};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::input;

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    let whole = frames(&[rest]);
    // However the bytes are cut, the same frames come.
    let (first, second) = rest.split_at(usize::from(choice).min(rest.len()));
    assert_eq!(frames(&[first, second]), whole, "cut after {choice}");
    for body in whole {
        // A supervisor hands the specification on, a server reads all of its answers.
        if let Ok(call) = serde_json::from_slice::<Call<Box<RawValue>>>(&body) {
            again(&call);
        }
        if let Ok(call) = serde_json::from_slice::<Call>(&body) {
            again(&call);
        }
        if let Ok(reply) = serde_json::from_slice::<Reply>(&body) {
            again(&reply);
        }
    }
}

/// The bodies of the frames of a stream, up to what is none.
fn frames(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let (mut decoder, mut bodies) = (FrameDecoder::default(), Vec::new());
    for piece in pieces {
        decoder.push(piece, Vec::new()).expect("no descriptors came");
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => bodies.push(frame.body),
                Ok(None) => break,
                Err(FrameError::Body(_) | FrameError::Encode(_) | FrameError::StrayFds) => {
                    panic!("frames are not looked into, and no descriptors came")
                }
                Err(_) => return bodies,
            }
        }
    }
    bodies
}

/// What was read is written, and read the same.
fn again<T: serde::Serialize + serde::de::DeserializeOwned>(message: &T) {
    let bytes = encode(message, 0).expect("what was read fits a frame");
    let mut decoder = FrameDecoder::default();
    decoder.push(&bytes, Vec::new()).expect("no descriptors");
    let frame = decoder.next_frame().expect("a frame").expect("a whole frame");
    let read: T = frame.decode().expect("what was written can be read");
    let value = |message: &T| serde_json::to_value(message).expect("a message is JSON");
    let (read, message): (Value, Value) = (value(&read), value(message));
    assert_eq!(read, message);
}
