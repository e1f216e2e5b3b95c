//! The provider `kms`, version 2: a plugin behind a unix socket keeps the key that encrypts our keys.
//!
//! One seed is made, encrypted by the plugin once, and used for every value until the plugin's key id
//! changes; each value has a key of its own, derived from the seed. Stored with the value is the
//! encrypted seed, so that any server with the plugin can read it. Seeds that were decrypted are kept
//! in memory for a day, so that reading costs no calls.
//!
//! The plugin is asked for its status once a minute, and every ten seconds while it fails: upstream's
//! contract. While it fails, reading goes on with what is known, writing for three minutes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use super::aes_gcm::{GcmError, GcmKey, SEED_BYTES, Seed, random};

pub mod messages;

use crate::grpc::{CallError, Channel, Endpoint};
use messages::{EncryptedObject, KEY_ID_BYTES, ObjectError, Source, SourceType, Status};

pub(super) const PREFIX: &str = "k8s:enc:kms:v2:";
/// The longest answer, in bytes: a key and its annotations.
const ANSWER_BYTES: usize = 256 << 10;
const STATUS: &str = "/v2.KeyManagementService/Status";
const ENCRYPT: &str = "/v2.KeyManagementService/Encrypt";
const DECRYPT: &str = "/v2.KeyManagementService/Decrypt";
/// What a plugin answers as its version; before plugins were told to say `v2`, `v2beta1`.
const VERSIONS: [&str; 2] = ["v2", "v2beta1"];

const PROBE_GOOD: Duration = Duration::from_secs(60);
const PROBE_BAD: Duration = Duration::from_secs(10);
/// How long a seed is used for writing after the plugin last confirmed its key.
const WRITE_FOR: Duration = Duration::from_secs(3 * 60);
/// How long a decrypted seed is kept, and how many are.
const KEEP_FOR: Duration = Duration::from_secs(24 * 60 * 60);
const KEEP: usize = 1000;

/// Why a value was not encrypted or decrypted by the plugin's keys.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Value(#[from] GcmError),
    #[error("failed to decrypt DEK, error: {0}")]
    Decrypt(#[source] CallError),
    #[error("the plugin's answer is no message: {0}")]
    Answer(#[from] crate::grpc::wire::WireError),
    #[error("the plugin decrypted a key of {0} bytes, which is none")]
    KeyLength(usize),
    #[error("the plugin has not given a key yet: {0}")]
    NoKey(String),
    #[error("encryptedDEKSource with keyID hash {0:?} expired, since the plugin does not answer")]
    Expired(String),
}

/// Why the plugin is not healthy.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("failed to perform status section of the healthz check for KMS Provider {name}, error: {source}")]
    Status { name: String, source: CallError },
    #[error("kmsv2 Provider {name} is not healthy, error: {reason}")]
    Unhealthy { name: String, reason: String },
}

/// What decrypts the values of one source.
enum Opener {
    Key(Box<GcmKey>),
    Seed(Seed),
}

impl Opener {
    fn new(kind: SourceType, plain: &[u8]) -> Option<Self> {
        match kind {
            SourceType::AesGcmKey => GcmKey::new(plain).map(|key| Opener::Key(Box::new(key))),
            SourceType::HkdfSeed => Seed::new(plain).map(Opener::Seed),
        }
    }

    fn open(&self, data: &[u8], authenticated: &[u8]) -> Result<Vec<u8>, GcmError> {
        match self {
            Opener::Key(key) => key.open(data, authenticated),
            Opener::Seed(seed) => seed.open(data, authenticated),
        }
    }
}

/// What is written with.
struct Writer {
    seed: Arc<Opener>,
    source: Source,
    good_until: Instant,
}

/// Seeds by their sources, the oldest first out.
#[derive(Default)]
struct Known {
    openers: BTreeMap<Source, (Arc<Opener>, Instant)>,
    order: VecDeque<Source>,
}

impl Known {
    fn get(&self, source: &Source) -> Option<Arc<Opener>> {
        let (opener, since) = self.openers.get(source)?;
        (since.elapsed() < KEEP_FOR).then(|| opener.clone())
    }

    fn put(&mut self, source: Source, opener: Arc<Opener>) {
        if self.openers.insert(source.clone(), (opener, Instant::now())).is_none() {
            self.order.push_back(source);
        }
        while self.order.len() > KEEP
            && let Some(oldest) = self.order.pop_front()
        {
            self.openers.remove(&oldest);
        }
    }
}

/// One plugin.
pub struct KmsProvider {
    name: String,
    client: Channel,
    timeout: Duration,
    writer: RwLock<Option<Arc<Writer>>>,
    known: Mutex<Known>,
    /// What the last probe found.
    health: RwLock<Result<(), String>>,
}

impl KmsProvider {
    pub fn new(name: String, path: std::path::PathBuf, timeout: Duration) -> Self {
        KmsProvider {
            name,
            client: Channel::new(Endpoint::Unix(path), ANSWER_BYTES),
            timeout,
            writer: RwLock::new(None),
            known: Mutex::default(),
            health: RwLock::new(Err("not asked yet".to_owned())),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is wrong with the plugin.
    pub fn failure(&self) -> Option<String> {
        self.health.read().clone().err()
    }

    /// Asks for the plugin's status, and makes a new seed where its key has changed.
    pub async fn probe(&self) -> Result<(), String> {
        let health = self.ask().await.map_err(|error| error.to_string());
        self.health.write().clone_from(&health);
        health
    }

    /// Keeps asking for as long as it is polled.
    pub async fn keep_probing(&self) {
        loop {
            let delay = if self.failure().is_none() { PROBE_GOOD } else { PROBE_BAD };
            tokio::time::sleep(delay).await;
            let before = self.failure();
            match (self.probe().await, before) {
                (Err(error), None) => tracing::error!(provider = self.name, error, "the KMS plugin fails"),
                (Ok(()), Some(_)) => tracing::info!(provider = self.name, "the KMS plugin works again"),
                (Ok(()), None) | (Err(_), Some(_)) => {}
            }
        }
    }

    async fn ask(&self) -> Result<(), ProbeError> {
        let from = Instant::now();
        let answer = self.client.call(STATUS, &[], self.timeout).await;
        let answer = answer.map_err(|source| ProbeError::Status { name: self.name.clone(), source })?;
        let unhealthy = |reason| ProbeError::Unhealthy { name: self.name.clone(), reason };
        let status = Status::decode(&answer).map_err(|error| unhealthy(error.to_string()))?;
        if status.healthz != "ok" {
            return Err(unhealthy(format!("got unexpected healthz status: {}", status.healthz)));
        }
        if !VERSIONS.contains(&status.version.as_str()) {
            return Err(unhealthy(format!("expected KMSv2 API version v2, got {}", status.version)));
        }
        if status.key_id.is_empty() || status.key_id.len() > KEY_ID_BYTES {
            let length = status.key_id.len();
            return Err(unhealthy(format!("its key id has {length} bytes, of 1 to {KEY_ID_BYTES}")));
        }
        let good_until = from + WRITE_FOR;
        let current = self.writer.read().clone();
        let writer = match current {
            Some(current) if current.source.key_id == status.key_id => {
                Writer { seed: current.seed.clone(), source: current.source.clone(), good_until }
            }
            _ => self
                .new_seed(&status.key_id, good_until)
                .await
                .map_err(|error| unhealthy(error.to_string()))?,
        };
        *self.writer.write() = Some(Arc::new(writer));
        Ok(())
    }

    /// A seed that the plugin encrypted with the key that its status named.
    async fn new_seed(&self, key_id: &str, good_until: Instant) -> Result<Writer, SeedError> {
        let secret: [u8; SEED_BYTES] = random()?;
        let request = messages::encrypt_request(&secret, &uid()?);
        let answer = self.client.call(ENCRYPT, &request, self.timeout).await?;
        let source = messages::encrypt_response(&answer)?;
        source.check()?;
        if source.key_id != key_id {
            let (status, encrypt) = (key_id.to_owned(), source.key_id);
            return Err(SeedError::KeyId { status, encrypt });
        }
        let seed = Opener::new(SourceType::HkdfSeed, &secret).expect("of the right length");
        let seed = Arc::new(seed);
        self.known.lock().put(source.clone(), seed.clone());
        tracing::info!(provider = self.name, key_id = hash(key_id), "writing with a new seed");
        Ok(Writer { seed, source, good_until })
    }

    /// Appends the stored form of a value, without its prefix, to `out`.
    pub fn seal(&self, plain: &[u8], authenticated: &[u8], out: &mut Vec<u8>) -> Result<(), KmsError> {
        let writer = self.writer.read().clone();
        let Some(writer) = writer else {
            return Err(KmsError::NoKey(self.failure().unwrap_or_default()));
        };
        if Instant::now() > writer.good_until {
            return Err(KmsError::Expired(hash(&writer.source.key_id)));
        }
        let Opener::Seed(seed) = &*writer.seed else {
            return Err(KmsError::NoKey("it is no seed".to_owned()));
        };
        let mut data = Vec::new();
        seed.seal(plain, authenticated, &mut data)?;
        writer.source.encode(&data, out);
        Ok(())
    }

    /// The value of what is stored without its prefix, and whether it should be written anew.
    pub async fn open(&self, stored: &[u8], authenticated: &[u8]) -> Result<(Vec<u8>, bool), KmsError> {
        let object = EncryptedObject::decode(stored)?;
        let known = self.known.lock().get(&object.source);
        let opener = match known {
            Some(opener) => opener,
            None => self.decrypt(&object.source).await?,
        };
        let value = opener.open(&object.data, authenticated)?;
        let stale = self.writer.read().as_ref().is_some_and(|writer| {
            writer.source.key_id != object.source.key_id || writer.source.kind != object.source.kind
        });
        Ok((value, stale))
    }

    async fn decrypt(&self, source: &Source) -> Result<Arc<Opener>, KmsError> {
        let request = messages::decrypt_request(source, &uid()?);
        let answer = self.client.call(DECRYPT, &request, self.timeout).await.map_err(KmsError::Decrypt)?;
        let plain = messages::decrypt_response(&answer)?;
        let opener = Opener::new(source.kind, &plain).ok_or(KmsError::KeyLength(plain.len()))?;
        let opener = Arc::new(opener);
        self.known.lock().put(source.clone(), opener.clone());
        Ok(opener)
    }
}

/// Why there is no new seed.
#[derive(Debug, thiserror::Error)]
enum SeedError {
    #[error(transparent)]
    Random(#[from] GcmError),
    #[error("failed to encrypt DEK, error: {0}")]
    Call(#[from] CallError),
    #[error("the plugin's answer is no message: {0}")]
    Answer(#[from] crate::grpc::wire::WireError),
    #[error(transparent)]
    Source(#[from] ObjectError),
    #[error("failed to rotate DEK: status has key id {status:?} and encrypt has {encrypt:?}")]
    KeyId { status: String, encrypt: String },
}

/// How a key id is shown: it may say something about the key's owner.
fn hash(key_id: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, key_id.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A random UUID by which the plugin's log names a call.
fn uid() -> Result<String, GcmError> {
    let bytes: [u8; 16] = random()?;
    let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{number:032x}");
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}
