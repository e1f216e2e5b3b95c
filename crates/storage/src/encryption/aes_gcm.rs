//! AES-GCM as upstream stores it.
//!
//! - [`GcmKey`]: 12 random bytes of nonce, the ciphertext, 16 bytes of tag. A key may be used for 2³²
//!   values at most, so it is rotated by hand long before.
//! - [`Seed`]: 32 random bytes, then as above under a key that HKDF-SHA256 (expand only) derives from
//!   the seed and those bytes. Every value has a key of its own, so there is no bound to count to.
//!
//! What is authenticated besides the value is the key that it is stored under: a value that somebody
//! moves to another key cannot be read there.

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};

/// Bytes that a derived key is derived from, and of a seed.
pub const INFO_BYTES: usize = 32;
pub const SEED_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// Why a value was not encrypted or decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GcmError {
    /// In the words of Go's library, which upstream shows.
    #[error("cipher: message authentication failed")]
    Authentication,
    #[error("the stored data was shorter than the required size")]
    Short,
    #[error("the system has no random bytes")]
    Random,
}

/// One AES key.
pub struct GcmKey(LessSafeKey);

impl GcmKey {
    /// Of 16 or 32 bytes.
    pub fn new(secret: &[u8]) -> Option<Self> {
        let algorithm = match secret.len() {
            16 => &AES_128_GCM,
            32 => &AES_256_GCM,
            _ => return None,
        };
        UnboundKey::new(algorithm, secret).ok().map(|key| GcmKey(LessSafeKey::new(key)))
    }

    /// Appends the stored form of a value to `out`.
    pub fn seal(&self, plain: &[u8], authenticated: &[u8], out: &mut Vec<u8>) -> Result<(), GcmError> {
        let nonce: [u8; NONCE_LEN] = random()?;
        out.reserve(NONCE_LEN + plain.len() + TAG_BYTES);
        out.extend_from_slice(&nonce);
        let at = out.len();
        out.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(authenticated), &mut out[at..])
            .map_err(|_| GcmError::Authentication)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    pub fn open(&self, stored: &[u8], authenticated: &[u8]) -> Result<Vec<u8>, GcmError> {
        let (nonce, sealed) = stored.split_first_chunk::<NONCE_LEN>().ok_or(GcmError::Short)?;
        let mut out = sealed.to_vec();
        let length = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(authenticated), &mut out)
            .map_err(|_| GcmError::Authentication)?
            .len();
        out.truncate(length);
        Ok(out)
    }
}

/// What keys are derived from, one for each value.
pub struct Seed(hkdf::Prk);

impl Seed {
    /// Of [`SEED_BYTES`] or more.
    pub fn new(secret: &[u8]) -> Option<Self> {
        (secret.len() >= SEED_BYTES).then(|| Seed(hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, secret)))
    }

    /// Appends the stored form of a value to `out`.
    pub fn seal(&self, plain: &[u8], authenticated: &[u8], out: &mut Vec<u8>) -> Result<(), GcmError> {
        let info: [u8; INFO_BYTES] = random()?;
        out.extend_from_slice(&info);
        self.derive(&info)?.seal(plain, authenticated, out)
    }

    pub fn open(&self, stored: &[u8], authenticated: &[u8]) -> Result<Vec<u8>, GcmError> {
        let (info, rest) = stored.split_first_chunk::<INFO_BYTES>().ok_or(GcmError::Short)?;
        self.derive(info)?.open(rest, authenticated)
    }

    fn derive(&self, info: &[u8; INFO_BYTES]) -> Result<GcmKey, GcmError> {
        let info: &[&[u8]] = &[info];
        let derived = self.0.expand(info, &AES_256_GCM).map_err(|_| GcmError::Short)?;
        Ok(GcmKey(LessSafeKey::new(UnboundKey::from(derived))))
    }
}

/// Random bytes of the system.
pub fn random<const N: usize>() -> Result<[u8; N], GcmError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| GcmError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_opened_at_its_place_only() {
        for (key, seed) in [(&[1; 16][..], &[2; 32]), (&[1; 32], &[2; 32])] {
            let key = GcmKey::new(key).expect("a size of AES");
            let seed = Seed::new(seed).expect("long enough");
            for plain in [&b""[..], b"x", &[7; 5000]] {
                let (mut by_key, mut by_seed) = (Vec::new(), Vec::new());
                key.seal(plain, b"/a", &mut by_key).expect("seals");
                seed.seal(plain, b"/a", &mut by_seed).expect("seals");
                assert_eq!((by_key.len(), by_seed.len()), (plain.len() + 28, plain.len() + 60));
                assert_eq!(key.open(&by_key, b"/a").expect("opens"), plain);
                assert_eq!(seed.open(&by_seed, b"/a").expect("opens"), plain);
                assert_eq!(key.open(&by_key, b"/b"), Err(GcmError::Authentication));
                assert_eq!(seed.open(&by_seed, b"/b"), Err(GcmError::Authentication));
                for at in [0, by_key.len() / 2, by_key.len() - 1] {
                    let mut bent = by_key.clone();
                    bent[at] ^= 1;
                    assert_eq!(key.open(&bent, b"/a"), Err(GcmError::Authentication));
                }
                for cut in 0..by_seed.len() {
                    assert!(seed.open(&by_seed[..cut], b"/a").is_err());
                }
            }
        }
        assert!(GcmKey::new(&[0; 24]).is_none());
        assert!(Seed::new(&[0; 31]).is_none());
    }

    #[test]
    fn keys_are_derived_as_upstream_documents() {
        let seed: Vec<u8> = (0..32).collect();
        let info: Vec<u8> = (100..132).collect();
        let prk = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &seed);
        // RFC 5869, 2.3: T(1) = HMAC(PRK, info | 0x01).
        let block = [info.as_slice(), &[1]].concat();
        let derived = ring::hmac::sign(&prk, &block);
        let mut stored = info.clone();
        GcmKey::new(derived.as_ref()).expect("32 bytes").seal(b"value", b"/k", &mut stored).expect("seals");
        assert_eq!(Seed::new(&seed).expect("32 bytes").open(&stored, b"/k").expect("opens"), b"value");
    }
}
