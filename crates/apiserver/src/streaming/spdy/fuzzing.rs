//! Doors to frames and header blocks, for the fuzz targets.

use bytes::{Bytes, BytesMut};

use super::frame;
use super::headers::{self, Pairs, Reader, Writer};

pub(in crate::streaming) fn rewrite(mut buffer: BytesMut) -> Option<Vec<u8>> {
    let mut out = BytesMut::new();
    while let Some(one) = frame::parse(&mut buffer).ok()? {
        frame::write(&one, &mut out);
    }
    Some(out.to_vec())
}

pub(in crate::streaming) fn read_headers(blocks: &[&[u8]]) -> Option<Vec<Pairs>> {
    let mut reader = Reader::new();
    blocks.iter().map(|block| reader.read(block).ok()).collect()
}

pub(in crate::streaming) fn read_plain_headers(block: &[u8]) -> Option<Pairs> {
    headers::parse(block).ok()
}

pub(in crate::streaming) fn write_headers(pairs: &[(String, String)]) -> Option<Bytes> {
    let pairs: Vec<(&str, &str)> =
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Writer::new().ok()?.write(&pairs).ok()
}
