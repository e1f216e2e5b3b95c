//! The cluster's keys and certificates: made at the first start, reused at every other, renewed
//! before they expire, exchanged while connections are open, and rotated by command.
//!
//! In the directory (0700) are files (0600): `ca.crt` and `ca.key`, the authority of the server and of
//! clients (ten years); `front-proxy-ca.crt` and its key, a second authority, whose one client may say for
//! whom it asks; `apiserver.pem`, `front-proxy-client.pem` and `admin.pem` (certificate and key in one file),
//! renewed when about two thirds of their life are over; and `sa.key`, which signs service-account tokens.
//! What a rotation adds for a while is told by [`authority`] and [`token_keys`]. A file that is there and
//! cannot be read is an error that names it: nothing that somebody might still need is ever replaced by
//! something new.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use parking_lot::Mutex;
use rcgen::{Issuer, KeyPair};
use rustls::server::VerifierBuilderError;
use tokio::sync::watch;

use super::authentication::FrontProxy;

mod authority;
mod certificate;
mod der;
mod files;
mod kubeconfig;
mod serving;
mod signing;
mod stored;
#[cfg(test)]
mod tests;
mod token_keys;
mod trust;

pub(super) use certificate::is_signed_by;
pub use certificate::{CertificateError, ClientSubject, Facts, KeyedCertificate};
pub use files::{FileError, PrivateDirectory};
pub use kubeconfig::kubeconfig;
pub use serving::ServingCertificate;
pub use signing::{Grant, SigningError};
pub use stored::{StoredCertificate, stored_certificates};
pub use token_keys::TokenKeys;
pub use trust::Trust;

use authority::{Names, Rotation};
use certificate::Purpose;

/// The user of the admin kubeconfig.
pub const ADMIN: ClientSubject<'_> =
    ClientSubject { common_name: "kubernetes-admin", organization: Some(super::MASTERS_GROUP) };

const AUTHORITY: Names =
    Names { certificate: "ca.crt", key: "ca.key", next: "ca-next.pem", common_name: "sampan-ca" };
const FRONT_PROXY_AUTHORITY: Names = Names {
    certificate: "front-proxy-ca.crt",
    key: "front-proxy-ca.key",
    next: "front-proxy-ca-next.pem",
    common_name: "front-proxy-ca",
};
const SERVING: &str = "apiserver.pem";
const ADMIN_CERTIFICATE: &str = "admin.pem";
const FRONT_PROXY_CLIENT: &str = "front-proxy-client.pem";

/// The name of the client whose word about users is taken.
pub const FRONT_PROXY_NAME: &str = "front-proxy-client";
const FRONT_PROXY: ClientSubject<'_> = ClientSubject { common_name: FRONT_PROXY_NAME, organization: None };

/// The longest sleep of [`Pki::keep_fresh`]: timers stand still while a machine is suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(6 * 3600);
/// The delay after a renewal that failed.
const RETRY: Duration = Duration::from_secs(60);

/// How long certificates live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// Those that the server itself shows: to its clients, and to aggregated servers.
    pub own: Duration,
    /// The administrator's, which people copy to where no renewal reaches it.
    pub admin: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        Lives { own: Duration::from_secs(24 * 3600), admin: Duration::from_secs(365 * 24 * 3600) }
    }
}

/// Where the key material is and what it must be valid for.
#[derive(Clone, Debug)]
pub struct PkiConfig {
    pub directory: PathBuf,
    /// Where the admin kubeconfig is written.
    pub admin_kubeconfig: PathBuf,
    /// The server's URL in the admin kubeconfig.
    pub server_url: String,
    /// The cluster IPs of the `kubernetes` service.
    pub service_addresses: Vec<IpAddr>,
    /// Further DNS names and addresses that the server is reached by.
    pub extra_names: Vec<String>,
    pub lives: Lives,
}

/// Key material could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} is damaged or not ours; restore it, or move it away to have it made anew", path.display())]
    Corrupt {
        path: PathBuf,
        #[source]
        source: CertificateError,
    },
    #[error("{} is there but its key {} is missing", certificate.display(), key.display())]
    KeyMissing { certificate: PathBuf, key: PathBuf },
    #[error("the certificate authority {} expired on {not_after}", path.display())]
    AuthorityExpired { path: PathBuf, not_after: Timestamp },
    #[error(transparent)]
    Issue(#[from] CertificateError),
    #[error("the serving key cannot be used for TLS")]
    Tls(#[from] rustls::Error),
    #[error("the certificate authority cannot verify clients")]
    Verifier(#[from] VerifierBuilderError),
}

/// A step of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationStep {
    /// The next one is made and trusted beside the first.
    Begin,
    /// The first one is dropped.
    Finish,
}

/// Which keys there are, as digests of their public halves, the newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprints {
    pub authorities: Vec<String>,
    pub front_proxy_authorities: Vec<String>,
    pub token_keys: Vec<String>,
}

/// The cluster's identity.
pub struct Pki {
    config: PkiConfig,
    directory: PrivateDirectory,
    names: BTreeSet<String>,
    serving: Arc<ServingCertificate>,
    front_proxy_client: Arc<ServingCertificate>,
    front_proxy: FrontProxy,
    keys: Mutex<Keys>,
    trust: watch::Sender<Arc<Trust>>,
    /// Changes with what others trust.
    changes: watch::Sender<()>,
}

/// What changes while the server runs.
struct Keys {
    clients: Rotation,
    front_proxies: Rotation,
    tokens: TokenKeys,
    serving: KeyedCertificate,
    admin: KeyedCertificate,
    front_proxy: KeyedCertificate,
}

impl Pki {
    /// Reads what is there, makes what is missing, renews what is due.
    pub fn ensure(config: PkiConfig, now: Timestamp) -> Result<Self, PkiError> {
        let directory = PrivateDirectory::open(&config.directory)?;
        let clients = Rotation::ensure(&directory, AUTHORITY, now)?;
        let front_proxies = Rotation::ensure(&directory, FRONT_PROXY_AUTHORITY, now)?;
        let tokens = TokenKeys::ensure(&directory)?;
        let names = serving_names(&config);
        let leaves = Leaves { directory: &directory, names: &names, lives: config.lives, now };
        let serving = leaves.serving(&clients)?;
        let admin = leaves.admin(&clients)?;
        let front_proxy = leaves.front_proxy(&front_proxies)?;
        let current = Arc::new(ServingCertificate::new(&serving)?);
        let trust = Trust::new(&clients, &front_proxies, current.clone())?;
        let pki = Pki {
            serving: current,
            front_proxy_client: Arc::new(ServingCertificate::new(&front_proxy)?),
            front_proxy: FrontProxy::new(front_proxies.all().map(|authority| authority.public_key())),
            keys: Mutex::new(Keys { clients, front_proxies, tokens, serving, admin, front_proxy }),
            trust: watch::Sender::new(Arc::new(trust)),
            changes: watch::Sender::new(()),
            config,
            directory,
            names,
        };
        pki.write_kubeconfig()?;
        Ok(pki)
    }

    /// The authorities of the server and of clients, in PEM: what pods and kubeconfigs trust.
    pub fn bundle(&self) -> String {
        self.keys.lock().clients.bundle()
    }

    /// The authorities of clients that say for whom they ask, in PEM.
    pub fn front_proxy_bundle(&self) -> String {
        self.keys.lock().front_proxies.bundle()
    }

    /// The keys that a cluster's servers must have in common.
    pub fn fingerprints(&self) -> Fingerprints {
        let keys = self.keys.lock();
        let of = |rotation: &Rotation| {
            let mut found: Vec<String> = rotation.all().map(|one| fingerprint(one.public_key())).collect();
            found.reverse();
            found
        };
        let tokens = [Some(&keys.tokens.signing), keys.tokens.previous.as_ref()];
        Fingerprints {
            authorities: of(&keys.clients),
            front_proxy_authorities: of(&keys.front_proxies),
            token_keys: tokens.into_iter().flatten().map(|key| fingerprint(key.public_key_raw())).collect(),
        }
    }

    /// Changes with the bundles.
    pub fn bundle_changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Tells certificates of front proxies apart from those of users; follows rotations.
    pub fn front_proxy(&self) -> FrontProxy {
        self.front_proxy.clone()
    }

    /// The certificate with which this server asks aggregated ones; follows renewals.
    pub fn front_proxy_client(&self) -> Arc<ServingCertificate> {
        self.front_proxy_client.clone()
    }

    /// The keys of service-account tokens.
    pub fn with_token_keys<T>(&self, read: impl FnOnce(&TokenKeys) -> T) -> T {
        read(&self.keys.lock().tokens)
    }

    /// The certificate that rustls serves; follows renewals.
    pub fn serving(&self) -> Arc<ServingCertificate> {
        self.serving.clone()
    }

    pub fn admin_kubeconfig(&self) -> &Path {
        &self.config.admin_kubeconfig
    }

    /// How clients are verified, now and after each rotation.
    pub fn trust(&self) -> watch::Receiver<Arc<Trust>> {
        self.trust.subscribe()
    }

    /// Makes a client certificate for a component. It is not kept.
    pub fn issue_client(
        &self,
        subject: ClientSubject<'_>,
        now: Timestamp,
    ) -> Result<KeyedCertificate, PkiError> {
        let keys = self.keys.lock();
        let issuer = &keys.clients.newest().issuer;
        Ok(certificate::issue(issuer, &Purpose::Client(subject), self.config.lives.own, now)?)
    }

    /// Signs a request that somebody approved, as its object says. Answers PEM.
    pub fn sign_request(&self, grant: &Grant<'_>, now: Timestamp) -> Result<String, SigningError> {
        let authority = self.keys.lock().clients.newest().clone();
        let der = signing::sign(grant, &authority.der, authority.issuer.key(), now)?;
        Ok(certificate::to_pem("CERTIFICATE", &der))
    }

    /// Renews what is due at `now` and says when the next certificate is.
    pub fn renew(&self, now: Timestamp) -> Result<Timestamp, PkiError> {
        let mut keys = self.keys.lock();
        let leaves = Leaves { directory: &self.directory, names: &self.names, lives: self.config.lives, now };
        let serving = leaves.serving(&keys.clients)?;
        if serving.der != keys.serving.der {
            self.serving.replace(&serving)?;
            tracing::info!(not_after = %serving.facts.not_after, "renewed the serving certificate");
            keys.serving = serving;
        }
        let front_proxy = leaves.front_proxy(&keys.front_proxies)?;
        if front_proxy.der != keys.front_proxy.der {
            self.front_proxy_client.replace(&front_proxy)?;
            keys.front_proxy = front_proxy;
        }
        keys.admin = leaves.admin(&keys.clients)?;
        let due = [&keys.serving, &keys.admin, &keys.front_proxy].map(|leaf| leaf.facts.renew_at());
        let next = due.into_iter().min().unwrap_or(now);
        drop(keys);
        self.write_kubeconfig()?;
        Ok(next)
    }

    /// Renews certificates for as long as it is polled.
    pub async fn keep_fresh(self: Arc<Self>) {
        let mut rotated = self.trust();
        loop {
            let now = Timestamp::now();
            let sleep = match self.renew(now) {
                Ok(next) => {
                    let left = Duration::try_from(next.duration_since(now)).unwrap_or_default();
                    left.clamp(Duration::from_millis(100), LONGEST_SLEEP)
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "certificates were not renewed"
                    );
                    RETRY.min(self.config.lives.own / 20)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                // Other certificates are due at other times.
                _ = rotated.changed() => {}
            }
        }
    }

    /// Takes a step in the rotation of both authorities.
    pub fn rotate_authorities(&self, step: RotationStep, now: Timestamp) -> Result<(), PkiError> {
        let mut keys = self.keys.lock();
        let Keys { clients, front_proxies, .. } = &mut *keys;
        for rotation in [&mut *clients, &mut *front_proxies] {
            match step {
                RotationStep::Begin => rotation.begin(&self.directory, now)?,
                RotationStep::Finish => rotation.finish(&self.directory)?,
            }
        }
        let trust = Trust::new(&keys.clients, &keys.front_proxies, self.serving.clone())?;
        self.front_proxy.replace(keys.front_proxies.all().map(|authority| authority.public_key()));
        drop(keys);
        match step {
            // Both are trusted before anybody shows a certificate of the new one.
            RotationStep::Begin => {
                self.trust.send_replace(Arc::new(trust));
                self.renew(now)?;
            }
            // The server shows the new one's certificate before the old one's clients are let go.
            RotationStep::Finish => {
                self.renew(now)?;
                self.trust.send_replace(Arc::new(trust));
            }
        }
        self.changes.send_replace(());
        Ok(())
    }

    /// Takes a step in the rotation of the key that signs tokens.
    pub fn rotate_token_key(&self, step: RotationStep) -> Result<(), PkiError> {
        let mut keys = self.keys.lock();
        match step {
            RotationStep::Begin => keys.tokens.begin(&self.directory),
            RotationStep::Finish => keys.tokens.finish(&self.directory),
        }
    }

    /// Writes the admin kubeconfig where it is missing or differs.
    fn write_kubeconfig(&self) -> Result<(), PkiError> {
        let keys = self.keys.lock();
        let bundle = keys.clients.bundle();
        let text = kubeconfig(&self.config.server_url, &bundle, ADMIN.common_name, &keys.admin);
        let path = &self.config.admin_kubeconfig;
        if files::read(path)?.as_deref() != Some(&text) {
            files::write(path, &text)?;
        }
        Ok(())
    }
}

fn fingerprint(public_key: &[u8]) -> String {
    STANDARD.encode(sampan_storage::encryption::sha256(public_key))
}

fn serving_names(config: &PkiConfig) -> BTreeSet<String> {
    let fixed = [
        "localhost",
        "127.0.0.1",
        "::1",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let addresses = config.service_addresses.iter().map(IpAddr::to_string);
    // Addresses are compared with what the certificate says, in canonical form.
    let extra = config.extra_names.iter().map(|name| match name.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => name.to_ascii_lowercase(),
    });
    fixed.map(str::to_owned).into_iter().chain(addresses).chain(extra).collect()
}

fn ensure_key(directory: &PrivateDirectory, name: &str) -> Result<KeyPair, PkiError> {
    match directory.read(name)? {
        Some(text) => certificate::read_key_pem(&text)
            .map_err(|source| PkiError::Corrupt { path: directory.path(name), source }),
        None => {
            let key = KeyPair::generate().map_err(CertificateError::Make)?;
            directory.write(name, &key.serialize_pem())?;
            Ok(key)
        }
    }
}

/// The certificates of this server, as they are to be at a time.
struct Leaves<'a> {
    directory: &'a PrivateDirectory,
    names: &'a BTreeSet<String>,
    lives: Lives,
    now: Timestamp,
}

impl Leaves<'_> {
    /// Of the first authority until a rotation ends: clients may know no other one.
    fn serving(&self, clients: &Rotation) -> Result<KeyedCertificate, PkiError> {
        let purpose = Purpose::Server { names: self.names };
        self.ensure(SERVING, &clients.first.issuer, &purpose, self.lives.own)
    }

    fn admin(&self, clients: &Rotation) -> Result<KeyedCertificate, PkiError> {
        self.ensure(ADMIN_CERTIFICATE, &clients.newest().issuer, &Purpose::Client(ADMIN), self.lives.admin)
    }

    /// Of the first authority until a rotation ends: aggregated servers may know no other one.
    fn front_proxy(&self, front_proxies: &Rotation) -> Result<KeyedCertificate, PkiError> {
        let purpose = Purpose::Client(FRONT_PROXY);
        self.ensure(FRONT_PROXY_CLIENT, &front_proxies.first.issuer, &purpose, self.lives.own)
    }

    /// Reuses a stored certificate unless it is due, of another authority, for other names, or for longer
    /// than it may be.
    fn ensure(
        &self,
        name: &str,
        issuer: &Issuer<'static, KeyPair>,
        purpose: &Purpose<'_>,
        life: Duration,
    ) -> Result<KeyedCertificate, PkiError> {
        if let Some(text) = self.directory.read(name)? {
            let stored = KeyedCertificate::from_pem(&text)
                .map_err(|source| PkiError::Corrupt { path: self.directory.path(name), source })?;
            let names_match = match purpose {
                Purpose::Server { names } => stored.facts.names == **names,
                Purpose::Client(_) => true,
            };
            let ours = is_signed_by(&stored.der, issuer.key().public_key_raw());
            let fresh = self.now < stored.facts.renew_at() && stored.facts.lives_at_most(life);
            if ours && names_match && fresh {
                return Ok(stored);
            }
        }
        let certificate = certificate::issue(issuer, purpose, life, self.now)?;
        self.directory.write(name, &certificate.to_pem())?;
        Ok(certificate)
    }
}
