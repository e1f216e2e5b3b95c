//! What stands before each value: when it was written, and a checksum.
//!
//! 28 bytes, all numbers little-endian: revision (`u64`), revision of creation (`u64`), version (`u64`),
//! and the CRC-32 (IEEE) of the key, those 24 bytes and the value.

use bytes::Bytes;
use crc32fast::Hasher;

use crate::{Entry, Revision};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub revision: Revision,
    pub create_revision: Revision,
    pub version: u64,
}

impl Stamp {
    /// Bytes of the numbers, and with the checksum.
    pub const NUMBERS: usize = 24;
    const BYTES: usize = Self::NUMBERS + 4;

    pub fn of(entry: &Entry) -> Self {
        Stamp { revision: entry.revision, create_revision: entry.create_revision, version: entry.version }
    }

    /// The stored form of a value.
    pub fn encode(self, key: &str, value: &[u8]) -> Vec<u8> {
        let mut stored = Vec::with_capacity(Self::BYTES + value.len());
        for number in [self.revision, self.create_revision, self.version] {
            stored.extend_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(key, &stored, value);
        stored.extend_from_slice(&sum.to_le_bytes());
        stored.extend_from_slice(value);
        stored
    }

    /// The entry that a stored value is.
    pub fn decode(key: &str, stored: &[u8]) -> Result<Entry, redb::Error> {
        let parts = stored.split_at_checked(Self::NUMBERS).and_then(|(numbers, rest)| {
            let (sum, value) = rest.split_first_chunk::<4>()?;
            Some((numbers, u32::from_le_bytes(*sum), value))
        });
        let Some((numbers, sum, value)) = parts else {
            return Err(redb::Error::Corrupted(format!("the value of {key} is cut short")));
        };
        if checksum(key, numbers, value) != sum {
            return Err(redb::Error::Corrupted(format!("the value of {key} is not what was written")));
        }
        Ok(Self::entry(key, numbers, value))
    }

    /// The entry of a value without a checksum, as formats 1 and 2 had it.
    pub fn decode_unchecked(key: &str, stored: &[u8]) -> Result<Entry, redb::Error> {
        match stored.split_at_checked(Self::NUMBERS) {
            Some((numbers, value)) => Ok(Self::entry(key, numbers, value)),
            None => Err(redb::Error::Corrupted(format!("the value of {key} is cut short"))),
        }
    }

    fn entry(key: &str, numbers: &[u8], value: &[u8]) -> Entry {
        let number = |index: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&numbers[index * 8..index * 8 + 8]);
            u64::from_le_bytes(bytes)
        };
        Entry {
            key: key.into(),
            value: Bytes::copy_from_slice(value),
            revision: number(0),
            create_revision: number(1),
            version: number(2),
        }
    }
}

fn checksum(key: &str, numbers: &[u8], value: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    for part in [key.as_bytes(), numbers, value] {
        hasher.update(part);
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_found() {
        let stamp = Stamp { revision: 7, create_revision: 3, version: 2 };
        let stored = stamp.encode("/a", b"value");
        let entry = Stamp::decode("/a", &stored).expect("as written");
        assert_eq!((Stamp::of(&entry), &*entry.value), (stamp, &b"value"[..]));
        assert!(Stamp::decode("/b", &stored).is_err(), "another key's value");
        for bit in 0..stored.len() * 8 {
            let mut bent = stored.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert!(Stamp::decode("/a", &bent).is_err(), "bit {bit}");
        }
        for cut in 0..stored.len() {
            assert!(Stamp::decode("/a", &stored[..cut]).is_err(), "cut to {cut}");
        }
    }
}
