//! The key file of a server: the seeds that it encrypts with when nobody configured anything else.
//!
//! JSON, readable by its owner only. The first key writes; further ones are there while a rotation
//! runs, or after one that was cut off. The file is replaced by renaming, so that a crash leaves the
//! old one or the new one, and a key is on disk before anything is encrypted with it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::aes_gcm::{GcmError, SEED_BYTES, Seed, random};
use super::provider::{Named, Provider};

/// The largest file that is read, in bytes.
const LIMIT: u64 = 64 << 10;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("cannot {action} the key file {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the key file {} can be read by others (mode {mode:o}); chmod 600 it", path.display())]
    Mode { path: PathBuf, mode: u32 },
    #[error("the key file {} is not valid: {reason}", path.display())]
    Invalid { path: PathBuf, reason: String },
    #[error(transparent)]
    Random(#[from] GcmError),
}

/// A key with its name.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    name: String,
    /// Base64.
    secret: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    keys: Vec<StoredKey>,
    /// Values may be stored in another way than with the first key.
    #[serde(default)]
    pending: bool,
}

/// The keys of a key file.
#[derive(Clone)]
pub struct KeyFile {
    path: PathBuf,
    keys: Vec<StoredKey>,
    pending: bool,
    /// Forgotten on disk. Events that watches have not read yet may still need them.
    retired: Vec<StoredKey>,
}

impl KeyFile {
    /// The keys in the file; `None` where there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, KeyFileError> {
        let failed = |source| KeyFileError::Io { action: "read", path: path.to_owned(), source };
        let invalid = |reason: String| KeyFileError::Invalid { path: path.to_owned(), reason };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Mode { path: path.to_owned(), mode });
        }
        let mut text = Vec::new();
        file.take(LIMIT + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > LIMIT {
            return Err(invalid(format!("it has more than {LIMIT} bytes")));
        }
        // What serde says of JSON can hold a piece of it; a key must not get into a log.
        let stored: Stored = serde_json::from_slice(&text)
            .map_err(|error| invalid(format!("line {} column {}", error.line(), error.column())))?;
        for key in &stored.keys {
            let plain = key.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            if key.name.is_empty() || !plain {
                return Err(invalid("a key's name is not of letters, digits and -".to_owned()));
            }
            if BASE64.decode(&key.secret).ok().and_then(|secret| Seed::new(&secret)).is_none() {
                return Err(invalid(format!("the key {:?} is not {SEED_BYTES} bytes in base64", key.name)));
            }
        }
        if stored.keys.is_empty() {
            return Err(invalid("it has no keys".to_owned()));
        }
        Ok(Some(KeyFile {
            path: path.to_owned(),
            keys: stored.keys,
            pending: stored.pending,
            retired: Vec::new(),
        }))
    }

    /// Makes a file with one new key.
    pub fn create(path: &Path) -> Result<Self, KeyFileError> {
        let file =
            KeyFile { path: path.to_owned(), keys: vec![new_key()?], pending: true, retired: Vec::new() };
        file.write()?;
        Ok(file)
    }

    /// Puts a new key before the others, and writes the file.
    pub fn with_new_key(&self) -> Result<Self, KeyFileError> {
        let mut file = self.clone();
        file.keys.insert(0, new_key()?);
        file.pending = true;
        file.write()?;
        Ok(file)
    }

    /// Forgets every key but the one that writes, with which everything is stored now, and writes the
    /// file.
    pub fn without_old_keys(&self) -> Result<Self, KeyFileError> {
        let mut file = self.clone();
        file.retired.extend(file.keys.drain(1..));
        file.pending = false;
        file.write()?;
        Ok(file)
    }

    /// Whether values may be stored in another way than with the first key.
    pub fn is_pending(&self) -> bool {
        self.pending || self.keys.len() > 1
    }

    /// The names of the keys; the first one writes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.name.as_str())
    }

    /// Tells keys apart without showing them; the first one writes.
    pub fn fingerprints(&self) -> Vec<String> {
        let fingerprint =
            |key: &StoredKey| super::sha256(format!("{}:{}\n", key.name, key.secret).as_bytes());
        self.keys.iter().map(|key| BASE64.encode(fingerprint(key))).collect()
    }

    /// What encrypts with these keys. It still reads what keys encrypted that this process forgot.
    pub fn provider(&self) -> Provider {
        let key = |stored: &StoredKey| {
            let secret = BASE64.decode(&stored.secret).ok()?;
            Some(Named { name: stored.name.clone(), key: Seed::new(&secret)? })
        };
        Provider::Local(self.keys.iter().chain(&self.retired).filter_map(key).collect())
    }

    fn write(&self) -> Result<(), KeyFileError> {
        let failed = |source| KeyFileError::Io { action: "write", path: self.path.clone(), source };
        let text = serde_json::to_vec_pretty(&Stored { keys: self.keys.clone(), pending: self.pending })
            .map_err(|error| failed(error.into()))?;
        replace(&self.path, &text).map_err(failed)
    }
}

fn new_key() -> Result<StoredKey, GcmError> {
    let name: [u8; 4] = random()?;
    let secret: [u8; SEED_BYTES] = random()?;
    let name = format!("{:08x}", u32::from_be_bytes(name));
    Ok(StoredKey { name, secret: BASE64.encode(secret) })
}

/// Puts a file that only its owner can read in its place, durably.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    // What a crash left.
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &str, mode: u32, expected: &str) {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("keys.json");
        std::fs::write(&path, content).expect("writes");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("is ours");
        let error = KeyFile::read(&path).err().expect("refused").to_string();
        assert!(error.contains(expected) && error.contains("keys.json"), "{error}");
        assert!(!error.contains("c2VjcmV0"), "no part of a key is told: {error}");
    }

    #[test]
    fn what_is_no_key_file_is_named() {
        check("{}", 0o644, "chmod 600");
        check("{\"keys\":[]}", 0o600, "no keys");
        check(
            "{\"keys\":[{\"name\":\"a\",\"secret\":\"c2VjcmV0\"}]}",
            0o600,
            "the key \"a\" is not 32 bytes",
        );
        check("{\"keys\":[{\"name\":\"a:b\",\"secret\":\"c2VjcmV0\"}]}", 0o600, "name");
        check("{\"keys\":[\"c2VjcmV0\"]}", 0o600, "line 1");
        check(&" ".repeat(70_000), 0o600, "more than");
    }

    #[test]
    fn keys_come_and_go() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let path = dir.path().join("keys.json");
        assert!(KeyFile::read(&path).expect("none").is_none());
        let first = KeyFile::create(&path).expect("makes one");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let both = first.with_new_key().expect("writes");
        let names: Vec<_> = both.names().collect();
        assert_eq!(names[1], first.names().next().expect("has one"));
        let read = KeyFile::read(&path).expect("valid").expect("there");
        assert_eq!(read.names().collect::<Vec<_>>(), names);
        assert!(read.is_pending());
        read.without_old_keys().expect("writes");
        let read = KeyFile::read(&path).expect("valid").expect("there");
        assert_eq!(read.names().collect::<Vec<_>>(), names[..1]);
        assert!(!read.is_pending());
    }
}
