//! A service's own database: JSON records by number or by name, durable when written.

use std::path::Path;

use anyhow::Context as _;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

const RECORDS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("records");

pub struct Records {
    database: Database,
}

impl Records {
    /// Opens the database of a service in its data directory.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join("records.redb");
        let database = Database::builder()
            .set_cache_size(1 << 20)
            .create(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let write = database.begin_write()?;
        write.open_table(RECORDS)?;
        write.commit()?;
        Ok(Records { database })
    }

    pub fn get<T: DeserializeOwned>(&self, key: &str) -> anyhow::Result<Option<T>> {
        let table = self.database.begin_read()?.open_table(RECORDS)?;
        let found = table.get(key)?;
        found.map(|record| Ok(serde_json::from_slice(record.value())?)).transpose()
    }

    /// Every record whose key starts with `prefix`, in the order of keys.
    pub fn list<T: DeserializeOwned>(&self, prefix: &str) -> anyhow::Result<Vec<T>> {
        let table = self.database.begin_read()?.open_table(RECORDS)?;
        let mut records = Vec::new();
        for entry in table.range(prefix..)? {
            let (key, record) = entry?;
            if !key.value().starts_with(prefix) {
                break;
            }
            records.push(serde_json::from_slice(record.value())?);
        }
        Ok(records)
    }

    /// Reads and writes in one transaction: `change` sees what is stored and says what is to be.
    pub fn change<R>(
        &self,
        change: impl FnOnce(&mut Transaction<'_>) -> anyhow::Result<R>,
    ) -> anyhow::Result<R> {
        let write = self.database.begin_write()?;
        let result = {
            let mut transaction = Transaction { table: write.open_table(RECORDS)? };
            change(&mut transaction)?
        };
        write.commit()?;
        Ok(result)
    }
}

/// An open transaction.
pub struct Transaction<'a> {
    table: redb::Table<'a, &'static str, &'static [u8]>,
}

impl Transaction<'_> {
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> anyhow::Result<Option<T>> {
        let found = self.table.get(key)?;
        found.map(|record| Ok(serde_json::from_slice(record.value())?)).transpose()
    }

    pub fn put(&mut self, key: &str, record: &impl Serialize) -> anyhow::Result<()> {
        self.table.insert(key, serde_json::to_vec(record)?.as_slice())?;
        Ok(())
    }

    pub fn remove(&mut self, key: &str) -> anyhow::Result<()> {
        self.table.remove(key)?;
        Ok(())
    }
}
