//! Tags, varints and lengths, and how to pass over what is not known.

use super::ProtobufError;

/// How a field's value lies on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Length = 2,
    StartGroup = 3,
    EndGroup = 4,
    Fixed32 = 5,
}

/// Reads one message from its start to its end.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The number and wire type of the next field; None at the end of the message.
    pub(super) fn tag(&mut self, message: &'static str) -> Result<Option<(u32, Wire)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        // Only the low 32 bits count, as in Kubernetes' decoder.
        let number = (key >> 3) as i32;
        let wire = wire(key)?;
        if wire == Wire::EndGroup {
            return Err(ProtobufError::EndGroup { message });
        }
        match u32::try_from(number) {
            Ok(number) if number > 0 => Ok(Some((number, wire))),
            Ok(_) | Err(_) => Err(ProtobufError::Tag { message, number, wire: key & 7 }),
        }
    }

    pub(super) fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(ProtobufError::Truncated)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Overflow)
    }

    pub(super) fn fixed64(&mut self) -> Result<u64, ProtobufError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// The content of a field of wire type 2.
    pub(super) fn length(&mut self, wire: Wire, field: &'static str) -> Result<&'a [u8], ProtobufError> {
        wire.check(Wire::Length, field)?;
        self.bytes()
    }

    fn bytes(&mut self) -> Result<&'a [u8], ProtobufError> {
        let length = i64::try_from(self.varint()?).map_err(|_| ProtobufError::Length)?;
        let length = usize::try_from(length).map_err(|_| ProtobufError::Truncated)?;
        let (content, rest) = self.rest.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.rest = rest;
        Ok(content)
    }

    /// Passes over the value of a field, a group with everything in it included.
    pub(super) fn skip(&mut self, mut at: Wire) -> Result<(), ProtobufError> {
        let mut open = 0_usize;
        loop {
            match at {
                Wire::Varint => drop(self.varint()?),
                Wire::Fixed64 => drop(self.fixed64()?),
                Wire::Length => drop(self.bytes()?),
                Wire::StartGroup => open += 1,
                Wire::EndGroup => open = open.checked_sub(1).ok_or(ProtobufError::StrayEndGroup)?,
                Wire::Fixed32 => {
                    self.rest = self.rest.get(4..).ok_or(ProtobufError::Truncated)?;
                }
            }
            if open == 0 {
                return Ok(());
            }
            at = wire(self.varint()?)?;
        }
    }
}

fn wire(key: u64) -> Result<Wire, ProtobufError> {
    Ok(match key & 7 {
        0 => Wire::Varint,
        1 => Wire::Fixed64,
        2 => Wire::Length,
        3 => Wire::StartGroup,
        4 => Wire::EndGroup,
        5 => Wire::Fixed32,
        wire => return Err(ProtobufError::IllegalWire { wire }),
    })
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn put_tag(out: &mut Vec<u8>, number: u32, wire: Wire) {
    put_varint(out, u64::from(number) << 3 | wire as u64);
}

/// A field of wire type 2.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    put_tag(out, number, Wire::Length);
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}
