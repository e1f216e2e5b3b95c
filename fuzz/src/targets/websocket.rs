//! WebSocket sessions with Kubernetes' channels, and SPDY inside of one.

use crate::input;
use crate::session::{Kind, serve};

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    let kind = if choice % 2 == 0 { Kind::Exec } else { Kind::PortForward };
    let answer = serve(kind, true, usize::from(choice / 2), rest);
    frames(&answer);
}

/// What a server sends is whole frames, unmasked, final, of kinds that exist.
fn frames(mut bytes: &[u8]) {
    while let [first, second, rest @ ..] = bytes {
        assert_eq!(first & 0x70, 0, "no reserved bits");
        assert!(matches!(first & 0x0f, 0 | 1 | 2 | 8 | 9 | 10), "the kind of a frame: {first:02x}");
        assert_eq!(second & 0x80, 0, "a server does not mask");
        let (length, rest) = match second & 0x7f {
            126 => {
                rest.split_first_chunk().map(|(length, rest)| (u64::from(u16::from_be_bytes(*length)), rest))
            }
            127 => rest.split_first_chunk().map(|(length, rest)| (u64::from_be_bytes(*length), rest)),
            short => Some((u64::from(short), rest)),
        }
        .expect("a whole header");
        let length = usize::try_from(length).expect("a length");
        bytes = rest.get(length..).expect("a whole frame");
    }
    assert!(bytes.is_empty(), "a whole frame");
}
