//! The messages of KMS v2's `KeyManagementService`, and what upstream stores of an encrypted object.

use std::collections::BTreeMap;

use crate::grpc::wire::{self, Fields, WireError};

/// The longest encrypted seed and key id, and the largest annotations, in bytes: upstream's bounds.
const SOURCE_BYTES: usize = 1 << 10;
pub const KEY_ID_BYTES: usize = 1 << 10;
const ANNOTATIONS_BYTES: usize = 32 << 10;

pub type Annotations = BTreeMap<String, Vec<u8>>;

/// How the plain source of an object's key becomes that key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceType {
    /// It is the key.
    AesGcmKey,
    /// It is a seed, and the object begins with what its key is derived from.
    HkdfSeed,
}

/// What is encrypted by whom: all but the data, equal for all objects under one seed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    pub key_id: String,
    pub encrypted: Vec<u8>,
    pub annotations: Annotations,
    pub kind: SourceType,
}

/// Upstream's `EncryptedObject`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedObject {
    pub data: Vec<u8>,
    pub source: Source,
}

/// Why stored bytes are no encrypted object, or an answer cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("unknown encryptedDEKSourceType: {0}")]
    SourceType(u64),
    #[error("encrypted data is empty")]
    NoData,
    #[error("failed to validate encrypted DEK source: encrypted DEK source is empty")]
    NoSource,
    #[error(
        "failed to validate encrypted DEK source: encrypted DEK source is {0} bytes, which exceeds the max size of {SOURCE_BYTES}"
    )]
    LongSource(usize),
    #[error("failed to validate key id: keyID is empty")]
    NoKeyId,
    #[error("failed to validate key id: keyID is {0} bytes, which exceeds the max size of {KEY_ID_BYTES}")]
    LongKeyId(usize),
    #[error(
        "failed to validate annotations: total size of annotations is {0}, which exceeds the max size of {ANNOTATIONS_BYTES}"
    )]
    Annotations(usize),
}

impl Source {
    pub fn check(&self) -> Result<(), ObjectError> {
        let annotations = self.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        if self.encrypted.is_empty() {
            Err(ObjectError::NoSource)
        } else if self.encrypted.len() > SOURCE_BYTES {
            Err(ObjectError::LongSource(self.encrypted.len()))
        } else if self.key_id.is_empty() {
            Err(ObjectError::NoKeyId)
        } else if self.key_id.len() > KEY_ID_BYTES {
            Err(ObjectError::LongKeyId(self.key_id.len()))
        } else if annotations > ANNOTATIONS_BYTES {
            Err(ObjectError::Annotations(annotations))
        } else {
            Ok(())
        }
    }

    /// Appends the encrypted object that has this source and `data`.
    pub fn encode(&self, data: &[u8], out: &mut Vec<u8>) {
        wire::put_bytes(out, 1, data);
        wire::put_bytes(out, 2, self.key_id.as_bytes());
        wire::put_bytes(out, 3, &self.encrypted);
        for (key, value) in &self.annotations {
            wire::put_entry(out, 4, key, value);
        }
        wire::put_number(out, 5, u64::from(self.kind == SourceType::HkdfSeed));
    }
}

impl EncryptedObject {
    pub fn decode(stored: &[u8]) -> Result<Self, ObjectError> {
        let mut data = Vec::new();
        let mut source = Source {
            key_id: String::new(),
            encrypted: Vec::new(),
            annotations: Annotations::new(),
            kind: SourceType::AesGcmKey,
        };
        for field in Fields::new(stored) {
            match field? {
                (1, value) => data = value.bytes(1)?.to_vec(),
                (2, value) => source.key_id = value.text(2)?.to_owned(),
                (3, value) => source.encrypted = value.bytes(3)?.to_vec(),
                (4, value) => source.annotations.extend([wire::entry(value.bytes(4)?)?]),
                (5, value) => {
                    source.kind = match value.varint(5)? {
                        0 => SourceType::AesGcmKey,
                        1 => SourceType::HkdfSeed,
                        other => return Err(ObjectError::SourceType(other)),
                    }
                }
                _ => {}
            }
        }
        if data.is_empty() {
            return Err(ObjectError::NoData);
        }
        source.check()?;
        Ok(EncryptedObject { data, source })
    }
}

/// `StatusResponse`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub version: String,
    pub healthz: String,
    pub key_id: String,
}

impl Status {
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let mut status = Status::default();
        for field in Fields::new(message) {
            match field? {
                (1, value) => status.version = value.text(1)?.to_owned(),
                (2, value) => status.healthz = value.text(2)?.to_owned(),
                (3, value) => status.key_id = value.text(3)?.to_owned(),
                _ => {}
            }
        }
        Ok(status)
    }
}

pub fn encrypt_request(plain: &[u8], uid: &str) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_bytes(&mut out, 1, plain);
    wire::put_bytes(&mut out, 2, uid.as_bytes());
    out
}

/// `EncryptResponse`, as the source of a seed.
pub fn encrypt_response(message: &[u8]) -> Result<Source, WireError> {
    let mut source = Source {
        key_id: String::new(),
        encrypted: Vec::new(),
        annotations: Annotations::new(),
        kind: SourceType::HkdfSeed,
    };
    for field in Fields::new(message) {
        match field? {
            (1, value) => source.encrypted = value.bytes(1)?.to_vec(),
            (2, value) => source.key_id = value.text(2)?.to_owned(),
            (3, value) => source.annotations.extend([wire::entry(value.bytes(3)?)?]),
            _ => {}
        }
    }
    Ok(source)
}

pub fn decrypt_request(source: &Source, uid: &str) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_bytes(&mut out, 1, &source.encrypted);
    wire::put_bytes(&mut out, 2, uid.as_bytes());
    wire::put_bytes(&mut out, 3, source.key_id.as_bytes());
    for (key, value) in &source.annotations {
        wire::put_entry(&mut out, 4, key, value);
    }
    out
}

/// The plain text of a `DecryptResponse`.
pub fn decrypt_response(message: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut plain = Vec::new();
    for field in Fields::new(message) {
        if let (1, value) = field? {
            plain = value.bytes(1)?.to_vec();
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        Source {
            key_id: "key-1".to_owned(),
            encrypted: vec![1, 2, 3],
            annotations: [("a.example.com".to_owned(), vec![4])].into(),
            kind: SourceType::HkdfSeed,
        }
    }

    #[test]
    fn an_object_is_upstreams_protobuf() {
        let mut out = Vec::new();
        source().encode(b"data", &mut out);
        let expected: Vec<u8> = [
            &b"\x0a\x04data\x12\x05key-1\x1a\x03\x01\x02\x03"[..],
            b"\x22\x12\x0a\x0da.example.com\x12\x01\x04\x28\x01",
        ]
        .concat();
        assert_eq!(out, expected);
        let object = EncryptedObject { data: b"data".to_vec(), source: source() };
        assert_eq!(EncryptedObject::decode(&out), Ok(object));
    }

    #[test]
    fn what_upstream_refuses_is_refused() {
        let check = |change: fn(&mut Source), data: &[u8], expected: ObjectError| {
            let mut source = source();
            change(&mut source);
            let mut out = Vec::new();
            source.encode(data, &mut out);
            assert_eq!(EncryptedObject::decode(&out), Err(expected));
        };
        check(|_| {}, b"", ObjectError::NoData);
        check(|source| source.encrypted.clear(), b"d", ObjectError::NoSource);
        check(|source| source.encrypted = vec![0; 1025], b"d", ObjectError::LongSource(1025));
        check(|source| source.key_id.clear(), b"d", ObjectError::NoKeyId);
        check(|source| source.key_id = "k".repeat(1025), b"d", ObjectError::LongKeyId(1025));
        let annotations =
            |source: &mut Source| source.annotations = [("a".to_owned(), vec![0; 32768])].into();
        check(annotations, b"d", ObjectError::Annotations(32769));
        assert_eq!(EncryptedObject::decode(b"\x28\x02"), Err(ObjectError::SourceType(2)));
    }
}
