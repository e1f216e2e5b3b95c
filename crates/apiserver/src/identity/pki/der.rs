//! The few structures of DER (ITU-T X.690) that a certificate is written with.

/// A value with its tag and length.
pub fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    if let Ok(short) = u8::try_from(length)
        && short < 128
    {
        out.push(short);
    } else {
        let bytes = length.to_be_bytes();
        let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
        out.push(0x80 | significant.len() as u8);
        out.extend_from_slice(significant);
    }
    out.extend_from_slice(content);
    out
}

pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    value(0x30, &parts.concat())
}

/// The values of a set stand in the order of their encodings.
pub fn set(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    value(0x31, &parts.concat())
}

/// A part with a tag of its context around it.
pub fn explicit(tag: u8, content: &[u8]) -> Vec<u8> {
    value(0xa0 | tag, content)
}

/// A number that is not negative.
pub fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let significant = &bytes[zeros.min(bytes.len().saturating_sub(1))..];
    let mut content = Vec::new();
    // The first bit is the sign.
    if significant.first().is_none_or(|byte| *byte >= 0x80) {
        content.push(0);
    }
    content.extend_from_slice(significant);
    value(0x02, &content)
}

pub fn boolean(is: bool) -> Vec<u8> {
    value(0x01, &[if is { 0xff } else { 0 }])
}

pub fn octets(content: &[u8]) -> Vec<u8> {
    value(0x04, content)
}

/// Bits in whole bytes.
pub fn bits(content: &[u8]) -> Vec<u8> {
    value(0x03, &[&[0], content].concat())
}

/// Named bits, the first one being bit 0; those behind the last one that is set are left out.
pub fn flags(set: &[u8]) -> Vec<u8> {
    let Some(last) = set.iter().max() else { return value(0x03, &[0]) };
    let mut bytes = vec![0u8; usize::from(last / 8) + 1];
    for bit in set {
        bytes[usize::from(bit / 8)] |= 0x80 >> (bit % 8);
    }
    value(0x03, &[&[7 - last % 8], bytes.as_slice()].concat())
}

/// An object identifier.
pub fn identifier(arcs: &[u32]) -> Vec<u8> {
    let [first, second, rest @ ..] = arcs else { return value(0x06, &[]) };
    let mut content = Vec::new();
    for arc in [first * 40 + second].iter().chain(rest) {
        let groups = (32 - arc.leading_zeros()).div_ceil(7).max(1);
        for group in (0..groups).rev() {
            let seven = (arc >> (group * 7)) as u8 & 0x7f;
            content.push(if group > 0 { seven | 0x80 } else { seven });
        }
    }
    value(0x06, &content)
}

/// A text: of the restricted alphabet where it fits, as other makers of certificates do.
pub fn text(text: &str) -> Vec<u8> {
    let printable = |byte: u8| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte);
    value(if text.bytes().all(printable) { 0x13 } else { 0x0c }, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_standard_has_them() {
        assert_eq!(value(0x04, &[1]), [4, 1, 1]);
        assert_eq!(value(0x04, &[0; 127])[..2], [4, 127]);
        assert_eq!(value(0x04, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(value(0x04, &[0; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(unsigned(&[0, 0, 5]), [2, 1, 5]);
        assert_eq!(unsigned(&[0x80]), [2, 2, 0, 0x80]);
        assert_eq!(unsigned(&[0]), [2, 1, 0]);
        assert_eq!(unsigned(&[]), [2, 1, 0]);
        assert_eq!(flags(&[0]), [3, 2, 7, 0x80]);
        assert_eq!(flags(&[0, 2]), [3, 2, 5, 0xa0]);
        assert_eq!(flags(&[8]), [3, 3, 7, 0, 0x80]);
        assert_eq!(flags(&[]), [3, 1, 0]);
        assert_eq!(identifier(&[2, 5, 29, 37]), [6, 3, 0x55, 29, 37]);
        assert_eq!(identifier(&[1, 2, 840, 10045]), [6, 5, 0x2a, 0x86, 0x48, 0xce, 0x3d]);
        assert_eq!(text("ab c"), [0x13, 4, b'a', b'b', b' ', b'c']);
        assert_eq!(text("a_")[0], 0x0c);
    }
}
