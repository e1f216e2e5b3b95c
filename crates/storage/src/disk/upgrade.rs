//! Stores of earlier releases: values had no checksum, and in format 1 keys were texts to redb.

use redb::{Database, ReadableTable as _, TableDefinition, WriteTransaction};

use super::{ENTRIES, FORMAT, FORMAT_VERSION, META, Meta, Stamp, read_meta, text};
use crate::Entry;

const OLD: &str = "entries of an older format";
/// Entries that are copied between two looks at the old table.
const AT_ONCE: usize = 1024;

/// Brings a store of format 1 or 2 to the current one. All of it in one transaction: a crash leaves the old
/// format whole.
pub fn upgrade(database: &Database, format: u64) -> Result<Meta, redb::Error> {
    let transaction = database.begin_write()?;
    if format == 1 {
        let present = TableDefinition::<&str, &[u8]>::new("entries");
        let old = TableDefinition::<&str, &[u8]>::new(OLD);
        transaction.rename_table(present, old)?;
        let table = transaction.open_table(old)?;
        copy(&transaction, |from| {
            let entries = table.range(from..)?.take(AT_ONCE).map(|item| {
                let (key, stored) = item?;
                Stamp::decode_unchecked(key.value(), stored.value())
            });
            entries.collect()
        })?;
        drop(table);
        transaction.delete_table(old)?;
    } else {
        let old = TableDefinition::<&[u8], &[u8]>::new(OLD);
        transaction.rename_table(ENTRIES, old)?;
        let table = transaction.open_table(old)?;
        copy(&transaction, |from| {
            let entries = table.range(from.as_bytes()..)?.take(AT_ONCE).map(|item| {
                let (key, stored) = item?;
                Stamp::decode_unchecked(text(key.value())?, stored.value())
            });
            entries.collect()
        })?;
        drop(table);
        transaction.delete_table(old)?;
    }
    transaction.open_table(META)?.insert(FORMAT, FORMAT_VERSION)?;
    transaction.commit()?;
    Ok(read_meta(database)?.numbers)
}

/// Puts every entry into a new table. `next` reads those from a key on.
fn copy(
    transaction: &WriteTransaction,
    next: impl Fn(&str) -> Result<Vec<Entry>, redb::Error>,
) -> Result<(), redb::Error> {
    let mut entries = transaction.open_table(ENTRIES)?;
    let mut from = String::new();
    loop {
        let old = next(&from)?;
        let Some(last) = old.last() else { return Ok(()) };
        // The key after it: nothing lies between the two.
        from = format!("{}\0", last.key);
        for entry in old {
            let stored = Stamp::of(&entry).encode(&entry.key, &entry.value);
            entries.insert(entry.key.as_bytes(), stored.as_slice())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use redb::ReadableDatabase as _;

    use super::super::{Access, Disk, REVISION};
    use super::*;

    fn old_value(index: u64) -> Vec<u8> {
        let numbers = [index + 1, index + 1, 1].into_iter().flat_map(u64::to_le_bytes);
        numbers.chain(format!("value {index}").into_bytes()).collect()
    }

    fn check(format: u64, fill: impl FnOnce(&WriteTransaction)) {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("store");
        let old = Database::create(&path).expect("creates");
        let transaction = old.begin_write().expect("begins");
        fill(&transaction);
        {
            let mut meta = transaction.open_table(META).expect("opens");
            meta.insert(FORMAT, format).expect("inserts");
            meta.insert(REVISION, 3000).expect("inserts");
        }
        transaction.commit().expect("commits");
        drop(old);
        for _ in 0..2 {
            let access = Access { cache_bytes: 1 << 20, faults: None };
            let (disk, meta) = Disk::open(&path, access).expect("opens");
            assert_eq!(meta.revision, 3000);
            let read = disk.with("read", |database| {
                let entries = database.begin_read()?.open_table(ENTRIES)?;
                let entry = |item: Result<_, redb::StorageError>| {
                    let (key, stored): (redb::AccessGuard<'_, &[u8]>, redb::AccessGuard<'_, &[u8]>) = item?;
                    Stamp::decode(text(key.value())?, stored.value())
                };
                entries.iter()?.map(entry).collect::<Result<Vec<_>, _>>()
            });
            let read = read.expect("reads");
            assert_eq!(read.len(), 3000);
            for (index, entry) in read.iter().enumerate() {
                assert_eq!(entry.value, format!("value {index}"));
                assert_eq!((entry.revision, entry.version), (index as u64 + 1, 1));
            }
        }
    }

    #[test]
    fn stores_of_earlier_releases_get_checksums() {
        check(1, |transaction| {
            let table = TableDefinition::<&str, &[u8]>::new("entries");
            let mut entries = transaction.open_table(table).expect("opens");
            for index in 0..3000 {
                let key = format!("/{index:04}");
                entries.insert(key.as_str(), old_value(index).as_slice()).expect("inserts");
            }
        });
        check(2, |transaction| {
            let mut entries = transaction.open_table(ENTRIES).expect("opens");
            for index in 0..3000 {
                let key = format!("/{index:04}");
                entries.insert(key.as_bytes(), old_value(index).as_slice()).expect("inserts");
            }
        });
    }
}
