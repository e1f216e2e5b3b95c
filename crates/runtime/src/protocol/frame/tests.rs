use proptest::prelude::*;

use super::*;
use crate::protocol::{Call, Request};

#[derive(Debug, PartialEq)]
enum Outcome {
    Frames(usize),
    Magic,
    TooLong,
    TooManyFds,
    MissingFds,
}

fn outcome(bytes: &[u8], step: usize) -> Outcome {
    let mut decoder = FrameDecoder::default();
    let mut frames = 0;
    for chunk in bytes.chunks(step) {
        decoder.push(chunk, Vec::new()).expect("no descriptors are pushed");
        loop {
            match decoder.next_frame() {
                Ok(Some(_)) => frames += 1,
                Ok(None) => break,
                Err(FrameError::Magic(_)) => return Outcome::Magic,
                Err(FrameError::TooLong(_)) => return Outcome::TooLong,
                Err(FrameError::TooManyFds(_)) => return Outcome::TooManyFds,
                Err(FrameError::MissingFds { .. }) => return Outcome::MissingFds,
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    Outcome::Frames(frames)
}

/// However the bytes arrive.
fn check(name: &str, bytes: &[u8], expected: Outcome) {
    assert_eq!(outcome(bytes, bytes.len().max(1)), expected, "{name}, at once");
    assert_eq!(outcome(bytes, 1), expected, "{name}, byte by byte");
}

#[test]
fn streams_end_as_their_bytes_say() {
    let call: Call = Call { id: 1, request: Request::Start { id: "a".into() } };
    let one = encode(&call, 0).expect("small");
    check("nothing", &[], Outcome::Frames(0));
    check("one", &one, Outcome::Frames(1));
    check("two and a half", &[&one[..], &one, &one[..one.len() / 2]].concat(), Outcome::Frames(2));
    check("http", b"GET / HTTP/1.1\r\n", Outcome::Magic);
    check("another format", &[b'S', b'P', 9, 0, 0, 0, 0, 0], Outcome::Magic);
    check("oversized", &[b'S', b'P', 1, 0, 0xff, 0xff, 0xff, 0xff], Outcome::TooLong);
    check("one byte too long", &[b'S', b'P', 1, 0, 0, 0x40, 0, 1], Outcome::TooLong);
    check("many descriptors", &[b'S', b'P', 1, 4, 0, 0, 0, 0], Outcome::TooManyFds);
    check("promised descriptors", &[b'S', b'P', 1, 1, 0, 0, 0, 0], Outcome::MissingFds);
}

#[test]
fn what_is_too_long_is_not_sent() {
    let call: Call = Call { id: 1, request: Request::Start { id: "a".repeat(MAX_BODY) } };
    assert!(matches!(encode(&call, 0), Err(FrameError::TooLong(_))));
    assert!(matches!(encode(&(), MAX_FDS + 1), Err(FrameError::TooManyFds(_))));
}

#[test]
fn unknown_messages_are_errors() {
    for body in ["", "{}", "null", r#"{"id":1,"request":{"Fly":{}}}"#, r#"{"id":-1,"request":"Hello"}"#] {
        let frame = Frame { body: body.into(), fds: Vec::new() };
        assert!(matches!(frame.decode::<Call>(), Err(FrameError::Body(_))), "{body}");
    }
}

proptest! {
    #[test]
    fn any_bytes_end_in_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64),
                                           honest in any::<bool>()) {
        let mut decoder = FrameDecoder::default();
        if honest {
            decoder.push(&MAGIC, Vec::new()).expect("no descriptors");
        }
        decoder.push(&bytes, Vec::new()).expect("no descriptors");
        while let Ok(Some(frame)) = decoder.next_frame() {
            let _decoded = frame.decode::<Call>();
        }
    }

    #[test]
    fn what_is_encoded_is_decoded(ids in proptest::collection::vec(any::<u64>(), 0..8), step in 1usize..64) {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| encode(id, 0).expect("small")).collect();
        let (mut decoder, mut decoded) = (FrameDecoder::default(), Vec::new());
        for chunk in bytes.chunks(step) {
            decoder.push(chunk, Vec::new()).expect("no descriptors");
            while let Some(frame) = decoder.next_frame().expect("honest frames") {
                decoded.push(frame.decode::<u64>().expect("a number"));
            }
        }
        prop_assert_eq!(decoded, ids);
    }
}
