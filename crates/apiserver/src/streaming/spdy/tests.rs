use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::frame::{self, Frame, FrameError};
use super::headers::{DICTIONARY, HeaderError, Reader, Writer};

#[test]
fn the_dictionary_is_the_standards() {
    // RFC 1950's Adler-32, as it stands in front of every SPDY/3 header stream.
    let (low, high) = DICTIONARY.iter().fold((1u32, 0u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65521;
        (low, (high + low) % 65521)
    });
    assert_eq!(high << 16 | low, 0xe3c6_a7c2);
}

#[test]
fn header_blocks_follow_one_another() {
    let mut writer = Writer::new().expect("a writer");
    let mut reader = Reader::new();
    let blocks: &[&[(&str, &str)]] = &[
        &[("streamtype", "error"), ("port", "80"), ("requestid", "0")],
        &[],
        &[("Streamtype", "data"), ("port", "80")],
    ];
    for pairs in blocks {
        let block = writer.write(pairs).expect("deflated");
        let expected: Vec<(String, String)> =
            pairs.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned())).collect();
        assert_eq!(reader.read(&block), Ok(expected));
    }
}

#[test]
fn header_blocks_are_bounded() {
    let read = |pairs: &[(&str, &str)]| {
        let block = Writer::new().expect("a writer").write(pairs).expect("deflated");
        Reader::new().read(&block)
    };
    let bomb = "a".repeat(10 << 20);
    assert_eq!(read(&[("a", &bomb)]), Err(HeaderError::TooLarge));
    assert_eq!(read(&vec![("a", ""); 129]), Err(HeaderError::TooMany));
    assert_eq!(Reader::new().read(b"not deflated"), Err(HeaderError::Inflate));
}

#[test]
fn what_is_not_spdy_is_refused() {
    let cases: [(&[u8], FrameError); 4] = [
        (&[0x80, 2, 0, 1, 0, 0, 0, 0], FrameError::Version(2)),
        (&[0x80, 3, 0, 1, 0, 0xff, 0, 0], FrameError::TooLong(0xff_0000)),
        (&[0, 0, 0, 1, 0, 0x20, 0, 0], FrameError::TooLong(0x20_0000)),
        (&[0x80, 3, 0, 6, 0, 0, 0, 1, 0], FrameError::TooShort { kind: 6, bytes: 1 }),
    ];
    for (bytes, error) in cases {
        assert_eq!(frame::parse(&mut BytesMut::from(bytes)), Err(error));
    }
}

fn frames() -> impl Strategy<Value = Frame> {
    let stream = 1u32..0x7fff_ffff;
    let bytes = || proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    prop_oneof![
        (stream.clone(), any::<bool>(), bytes()).prop_map(|(stream, fin, bytes)| Frame::Data {
            stream,
            fin,
            bytes
        }),
        (stream.clone(), any::<bool>(), bytes()).prop_map(|(stream, fin, headers)| Frame::SynStream {
            stream,
            fin,
            headers
        }),
        (stream.clone(), any::<bool>(), bytes()).prop_map(|(stream, fin, headers)| Frame::SynReply {
            stream,
            fin,
            headers
        }),
        (stream.clone(), any::<bool>(), bytes()).prop_map(|(stream, fin, headers)| Frame::Headers {
            stream,
            fin,
            headers
        }),
        (stream.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream { stream, status }),
        any::<u32>().prop_map(|id| Frame::Ping { id }),
        stream.prop_map(|last_stream| Frame::GoAway { last_stream }),
        (9u16..100).prop_map(|kind| Frame::Other { kind }),
    ]
}

proptest! {
    #[test]
    fn frames_survive_any_cut(sent in proptest::collection::vec(frames(), 1..8), cut in 1usize..40) {
        let mut wire = BytesMut::new();
        for one in &sent {
            frame::write(one, &mut wire);
        }
        let mut buffer = BytesMut::new();
        let mut received = Vec::new();
        for piece in wire.chunks(cut) {
            buffer.extend_from_slice(piece);
            while let Some(one) = frame::parse(&mut buffer).expect("our own frames") {
                received.push(one);
            }
        }
        prop_assert_eq!(received, sent);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::from(bytes.as_slice());
        while let Ok(Some(_)) = frame::parse(&mut buffer) {}
        let _ = Reader::new().read(&bytes);
    }
}
