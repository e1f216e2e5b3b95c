//! Short names for contents: equal for equal contents, in every run and version.

/// The letters of upstream's safe names: no vowels, nothing that looks like another one.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name of ten letters. Another number of `collisions` makes another name.
pub(crate) fn safe_name(content: &[u8], collisions: i32) -> String {
    // FNV-1a.
    let mut value = content
        .iter()
        .chain(collisions.to_le_bytes().iter().filter(|_| collisions > 0))
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
        });
    let mut name = String::new();
    for _ in 0..10 {
        name.push(char::from(ALPHABET[(value % 27) as usize]));
        value /= 27;
    }
    name
}
