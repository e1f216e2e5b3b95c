//! Backups: what is one is read as it was written, and nothing else is one.

use sampan_storage::Entry;
use sampan_storage::backup::{Encoder, File, Record, verify};

use crate::input;

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    if choice % 2 == 0 {
        // Checksums refuse nearly everything, and what they let pass has to be whole.
        if let Ok(summary) = verify(rest, |_| {}) {
            assert_eq!(summary.bytes, rest.len() as u64);
        }
        return;
    }
    let mut records = Vec::new();
    let mut encoder = Encoder::new(u64::MAX, u64::from(choice));
    let mut keys: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').filter(|key| !key.is_empty()).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let Some(key) = input::text(key).filter(|key| key.len() <= 4096) else { continue };
        let entry = Entry {
            key: key.into(),
            value: rest.to_vec().into(),
            revision: u64::from(choice),
            create_revision: 1,
            version: 1,
        };
        encoder.entry(&entry);
        records.push(Record::Entry(entry));
    }
    let file = File { path: "file".to_owned(), content: rest.to_vec() };
    encoder.file(&file);
    records.push(Record::File(file));
    let mut backup = encoder.finish();
    let mut read = Vec::new();
    verify(&*backup, |record| read.push(record.clone())).expect("what is written is a backup");
    assert_eq!(read, records);
    // One byte that is another, wherever.
    let at = usize::from(choice) * 257 % backup.len();
    backup[at] ^= choice;
    verify(&*backup, |_| {}).expect_err("it is damaged");
}
