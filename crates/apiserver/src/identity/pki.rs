//! The cluster's keys and certificates: made at the first start, reused at every other, renewed
//! before they expire.
//!
//! In the directory (0700) are files (0600): `ca.crt` and `ca.key` (ten years), `apiserver.pem`
//! and `admin.pem` (certificate and key in one file, thirty days, renewed when two thirds are
//! over), and `sa.key` (signs service-account tokens). `front-proxy-ca.crt`, its key and
//! `front-proxy-client.pem` are a second authority, whose one client may say for whom it asks. A file that is there and cannot be read is an
//! error that names it: nothing that somebody might still need is ever replaced by something new.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rcgen::{Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};

use super::authentication::FrontProxy;

mod certificate;
mod files;
mod kubeconfig;
mod serving;
#[cfg(test)]
mod tests;

pub(super) use certificate::is_signed_by;
pub use certificate::{CertificateError, ClientSubject, Facts, KeyedCertificate};
pub use files::FileError;
pub use kubeconfig::kubeconfig;
pub use serving::ServingCertificate;

use certificate::Purpose;
use files::PrivateDirectory;

/// The user of the admin kubeconfig.
pub const ADMIN: ClientSubject<'_> =
    ClientSubject { common_name: "kubernetes-admin", organization: Some(super::MASTERS_GROUP) };

const CA_CERTIFICATE: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const SERVING: &str = "apiserver.pem";
const ADMIN_CERTIFICATE: &str = "admin.pem";
const TOKEN_KEY: &str = "sa.key";
const FRONT_PROXY_CA: (&str, &str) = ("front-proxy-ca.crt", "front-proxy-ca.key");
const FRONT_PROXY_CLIENT: &str = "front-proxy-client.pem";

/// The name of the client whose word about users is taken.
pub const FRONT_PROXY_NAME: &str = "front-proxy-client";
const FRONT_PROXY: ClientSubject<'_> = ClientSubject { common_name: FRONT_PROXY_NAME, organization: None };

/// The longest sleep of [`Pki::keep_fresh`]: timers stand still while a machine is suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(6 * 3600);
/// The delay after a renewal that failed.
const RETRY: Duration = Duration::from_secs(60);

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

/// The cluster's identity.
pub struct Pki {
    config: PkiConfig,
    directory: PrivateDirectory,
    names: BTreeSet<String>,
    ca_pem: String,
    ca_der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    token_key: KeyPair,
    serving: Arc<ServingCertificate>,
    front_proxy_pem: String,
    front_proxy_der: CertificateDer<'static>,
    front_proxy_issuer: Issuer<'static, KeyPair>,
    front_proxy_client: Arc<ServingCertificate>,
    leaves: Mutex<Leaves>,
}

/// Certificates that are renewed while the server runs.
struct Leaves {
    serving: KeyedCertificate,
    admin: KeyedCertificate,
    front_proxy: KeyedCertificate,
}

impl Pki {
    /// Reads what is there, makes what is missing, renews what is due.
    pub fn ensure(config: PkiConfig, now: Timestamp) -> Result<Self, PkiError> {
        let directory = PrivateDirectory::open(&config.directory)?;
        let (ca_pem, ca_der, issuer) = ensure_authority(&directory, CA_CERTIFICATE, CA_KEY, now)?;
        let (certificate, key) = FRONT_PROXY_CA;
        let (front_proxy_pem, front_proxy_der, front_proxy_issuer) =
            ensure_authority(&directory, certificate, key, now)?;
        let purpose = Purpose::Client(FRONT_PROXY);
        let front_proxy = ensure_leaf(&directory, FRONT_PROXY_CLIENT, &front_proxy_issuer, &purpose, now)?;
        let token_key = ensure_key(&directory, TOKEN_KEY)?;
        let names = serving_names(&config);
        let serving = ensure_leaf(&directory, SERVING, &issuer, &Purpose::Server { names: &names }, now)?;
        let admin = ensure_leaf(&directory, ADMIN_CERTIFICATE, &issuer, &Purpose::Client(ADMIN), now)?;
        let pki = Pki {
            serving: Arc::new(ServingCertificate::new(&serving)?),
            front_proxy_client: Arc::new(ServingCertificate::new(&front_proxy)?),
            leaves: Mutex::new(Leaves { serving, admin, front_proxy }),
            front_proxy_pem,
            front_proxy_der,
            front_proxy_issuer,
            config,
            directory,
            names,
            ca_pem,
            ca_der,
            issuer,
            token_key,
        };
        pki.write_kubeconfig()?;
        Ok(pki)
    }

    /// The certificate authority in PEM: what pods and kubeconfigs trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The authority of clients that say for whom they ask, in PEM.
    pub fn front_proxy_ca_pem(&self) -> &str {
        &self.front_proxy_pem
    }

    /// Tells certificates of that authority apart from those of users.
    pub fn front_proxy(&self) -> FrontProxy {
        FrontProxy::new(self.front_proxy_issuer.key().public_key_raw())
    }

    /// The certificate with which this server asks aggregated ones; follows renewals.
    pub fn front_proxy_client(&self) -> Arc<ServingCertificate> {
        self.front_proxy_client.clone()
    }

    /// The key that signs service-account tokens.
    pub fn token_key(&self) -> &KeyPair {
        &self.token_key
    }

    /// The certificate that rustls serves; follows renewals.
    pub fn serving(&self) -> Arc<ServingCertificate> {
        self.serving.clone()
    }

    pub fn admin_kubeconfig(&self) -> &Path {
        &self.config.admin_kubeconfig
    }

    /// TLS for the API server: client certificates of this authority are verified, and not
    /// demanded. ALPN offers HTTP/2 and HTTP/1.1.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, PkiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.ca_der.clone())?;
        roots.add(self.front_proxy_der.clone())?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.serving());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Makes a client certificate for a component (`system:kube-scheduler`,
    /// `system:node:<name>` in `system:nodes`, …). It is not kept.
    pub fn issue_client(
        &self,
        subject: ClientSubject<'_>,
        now: Timestamp,
    ) -> Result<KeyedCertificate, PkiError> {
        Ok(certificate::issue(&self.issuer, &Purpose::Client(subject), now)?)
    }

    /// Renews what is due at `now` and says when the next certificate is.
    pub fn renew(&self, now: Timestamp) -> Result<Timestamp, PkiError> {
        let mut leaves = self.leaves.lock();
        if leaves.serving.facts.renew_at() <= now {
            let purpose = Purpose::Server { names: &self.names };
            let renewed = ensure_leaf(&self.directory, SERVING, &self.issuer, &purpose, now)?;
            self.serving.replace(&renewed)?;
            leaves.serving = renewed;
            tracing::info!(not_after = %leaves.serving.facts.not_after, "renewed the serving certificate");
        }
        let mut admin_renewed = false;
        if leaves.admin.facts.renew_at() <= now {
            let purpose = Purpose::Client(ADMIN);
            leaves.admin = ensure_leaf(&self.directory, ADMIN_CERTIFICATE, &self.issuer, &purpose, now)?;
            admin_renewed = true;
        }
        if leaves.front_proxy.facts.renew_at() <= now {
            let purpose = Purpose::Client(FRONT_PROXY);
            let renewed =
                ensure_leaf(&self.directory, FRONT_PROXY_CLIENT, &self.front_proxy_issuer, &purpose, now)?;
            self.front_proxy_client.replace(&renewed)?;
            leaves.front_proxy = renewed;
        }
        let due = [&leaves.serving, &leaves.admin, &leaves.front_proxy].map(|leaf| leaf.facts.renew_at());
        let next = due.into_iter().min().unwrap_or(now);
        drop(leaves);
        if admin_renewed {
            self.write_kubeconfig()?;
        }
        Ok(next)
    }

    /// Renews certificates for as long as it is polled.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            let now = Timestamp::now();
            let sleep = match self.renew(now) {
                Ok(next) => {
                    let seconds = next.as_second().saturating_sub(now.as_second()).max(1);
                    Duration::from_secs(seconds.unsigned_abs()).min(LONGEST_SLEEP)
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "certificates were not renewed"
                    );
                    RETRY
                }
            };
            tokio::time::sleep(sleep).await;
        }
    }

    /// Writes the admin kubeconfig where it is missing or differs.
    fn write_kubeconfig(&self) -> Result<(), PkiError> {
        let leaves = self.leaves.lock();
        let text = kubeconfig(&self.config.server_url, &self.ca_pem, ADMIN.common_name, &leaves.admin);
        let path = &self.config.admin_kubeconfig;
        if files::read(path)?.as_deref() != Some(&text) {
            files::write(path, &text)?;
        }
        Ok(())
    }
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

type Authority = (String, CertificateDer<'static>, Issuer<'static, KeyPair>);

fn ensure_authority(
    directory: &PrivateDirectory,
    certificate_name: &str,
    key_name: &str,
    now: Timestamp,
) -> Result<Authority, PkiError> {
    let path = directory.path(certificate_name);
    let stored = directory.read(certificate_name)?;
    if stored.is_some() && directory.read(key_name)?.is_none() {
        return Err(PkiError::KeyMissing { certificate: path, key: directory.path(key_name) });
    }
    // A key without a certificate is what a crash of the very first start leaves.
    let key = ensure_key(directory, key_name)?;
    let pem = match stored {
        Some(pem) => pem,
        None => {
            let name = if key_name == CA_KEY { "sampan-ca" } else { "front-proxy-ca" };
            let pem = certificate::authority(&key, name, now)?;
            directory.write(certificate_name, &pem)?;
            pem
        }
    };
    let corrupt = |source| PkiError::Corrupt { path: path.clone(), source };
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| corrupt(CertificateError::NoCertificate))?;
    let facts = certificate::check_authority(&der, &key).map_err(corrupt)?;
    if facts.not_after <= now {
        return Err(PkiError::AuthorityExpired { path, not_after: facts.not_after });
    }
    let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| corrupt(error.into()))?;
    Ok((pem, der, issuer))
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

/// Reuses a stored certificate unless it is due, of another authority, or for other names.
fn ensure_leaf(
    directory: &PrivateDirectory,
    name: &str,
    issuer: &Issuer<'static, KeyPair>,
    purpose: &Purpose<'_>,
    now: Timestamp,
) -> Result<KeyedCertificate, PkiError> {
    if let Some(text) = directory.read(name)? {
        let stored = KeyedCertificate::from_pem(&text)
            .map_err(|source| PkiError::Corrupt { path: directory.path(name), source })?;
        let names_match = match purpose {
            Purpose::Server { names } => stored.facts.names == **names,
            Purpose::Client(_) => true,
        };
        let ours = certificate::is_signed_by(&stored.der, issuer.key().public_key_raw());
        if ours && names_match && now < stored.facts.renew_at() {
            return Ok(stored);
        }
    }
    let certificate = certificate::issue(issuer, purpose, now)?;
    directory.write(name, &certificate.to_pem())?;
    Ok(certificate)
}
