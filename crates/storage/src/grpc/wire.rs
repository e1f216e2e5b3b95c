//! As much of protobuf's wire format as the messages of KMS v2 and etcd need: varints, and fields of bytes.

/// Why bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the message is cut short")]
    Short,
    #[error("a number has more than 64 bits")]
    Varint,
    #[error("field {0} has another type")]
    Type(u32),
    #[error("the message has a field without a valid tag")]
    Tag,
    #[error("field {0} is not UTF-8")]
    Text(u32),
}

/// One field as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Of a type that no message here has.
    Fixed,
}

impl<'a> Value<'a> {
    pub fn bytes(self, field: u32) -> Result<&'a [u8], WireError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) | Value::Fixed => Err(WireError::Type(field)),
        }
    }

    pub fn text(self, field: u32) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| WireError::Text(field))
    }

    pub fn varint(self, field: u32) -> Result<u64, WireError> {
        match self {
            Value::Varint(number) => Ok(number),
            Value::Bytes(_) | Value::Fixed => Err(WireError::Type(field)),
        }
    }
}

/// The fields of a message, in its order.
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn new(message: &'a [u8]) -> Self {
        Fields(message)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], WireError> {
        let count = usize::try_from(count).map_err(|_| WireError::Short)?;
        let (taken, rest) = self.0.split_at_checked(count).ok_or(WireError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(WireError::Varint)
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), WireError> {
        let tag = self.varint()?;
        let field = u32::try_from(tag >> 3).ok().filter(|field| *field > 0).ok_or(WireError::Tag)?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(WireError::Tag),
        };
        Ok((field, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a field of bytes; one without any is left out, as proto3 does.
pub fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_present(out, field, bytes);
    }
}

/// Appends a field of bytes or a message, also when it is empty.
pub fn put_present(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a number; zero is left out, as proto3 does.
pub fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        put_varint(out, u64::from(field) << 3);
        put_varint(out, number);
    }
}

/// Appends one entry of a `map<string, bytes>`.
pub fn put_entry(out: &mut Vec<u8>, field: u32, key: &str, value: &[u8]) {
    let mut entry = Vec::new();
    put_present(&mut entry, 1, key.as_bytes());
    put_present(&mut entry, 2, value);
    put_present(out, field, &entry);
}

/// Reads one entry of a `map<string, bytes>`.
pub fn entry(message: &[u8]) -> Result<(String, Vec<u8>), WireError> {
    let (mut key, mut value) = (String::new(), Vec::new());
    for field in Fields::new(message) {
        match field? {
            (1, text) => key = text.text(1)?.to_owned(),
            (2, bytes) => value = bytes.bytes(2)?.to_vec(),
            _ => {}
        }
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_written() {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, &[9; 300]);
        put_bytes(&mut message, 2, b"");
        put_number(&mut message, 5, 1 << 40);
        put_entry(&mut message, 16, "k", b"v");
        let fields: Vec<_> = Fields::new(&message).collect::<Result<_, _>>().expect("a message");
        assert_eq!(fields[0], (1, Value::Bytes(&[9; 300])));
        assert_eq!(fields[1], (5, Value::Varint(1 << 40)));
        assert_eq!(entry(fields[2].1.bytes(16).expect("bytes")), Ok(("k".to_owned(), b"v".to_vec())));
        assert_eq!(fields.len(), 3);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let check = |message: &[u8], expected: WireError| {
            assert_eq!(Fields::new(message).last(), Some(Err(expected)), "{message:?}");
        };
        check(&[0x0a], WireError::Short);
        check(&[0x0a, 2, 1], WireError::Short);
        check(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], WireError::Short);
        check(&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], WireError::Varint);
        check(&[0x00, 1], WireError::Tag);
        check(&[0x0b], WireError::Tag);
        check(&[0x09, 1], WireError::Short);
        assert_eq!(Value::Fixed.bytes(1), Err(WireError::Type(1)));
        assert_eq!(Value::Bytes(&[0xff]).text(1), Err(WireError::Text(1)));
    }
}
