//! A server that a kubeconfig file names, as the files of webhooks for tokens, authorisation and audit do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use sampan_client::kubeconfig::{Access, Credentials, KubeconfigError, Token};

use super::Webhook;
use crate::outgoing::{Client, ClientConfig, ClientIdentity, Protocols, TlsError, Trust};

/// The most bytes of a token file.
const MAX_TOKEN: u64 = 64 << 10;

/// A kubeconfig file that leads to no server.
#[derive(Debug, thiserror::Error)]
pub enum ConfiguredError {
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    #[error("{}: {url:?} is no URL of a server", path.display())]
    Url { path: PathBuf, url: String },
    #[error("{}: the client's certificate and key cannot be used", path.display())]
    Identity { path: PathBuf },
    #[error("{}", path.display())]
    Tls {
        path: PathBuf,
        #[source]
        source: TlsError,
    },
}

impl Webhook {
    /// The server of the file's current context.
    pub fn of_kubeconfig(path: &Path) -> Result<Self, ConfiguredError> {
        let access = Access::read(path, None)?;
        let parsed: Option<Uri> = access.server.parse().ok();
        if parsed.is_none_or(|url| url.host().is_none()) {
            return Err(ConfiguredError::Url { path: path.to_owned(), url: access.server });
        }
        let client = Client::new(ClientConfig {
            service: None,
            trust: access.certificate_authority.map_or(Trust::System, Trust::Bundle),
            identity: identity(path, &access.credentials)?,
            server_name: access.tls_server_name,
            protocols: Protocols::Any,
        });
        let client = client.map_err(|source| ConfiguredError::Tls { path: path.to_owned(), source })?;
        Ok(Webhook { client, url: access.server, token: access.credentials.token })
    }
}

fn identity(path: &Path, credentials: &Credentials) -> Result<Option<ClientIdentity>, ConfiguredError> {
    let Some((certificate, key)) = &credentials.certificate else { return Ok(None) };
    let made = || {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().ok()?;
        let key = PrivateKeyDer::from_pem_slice(key).ok()?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).ok()?;
        let certified = CertifiedKey::new(chain, key);
        let usable = !certified.cert.is_empty() && certified.keys_match().is_ok();
        usable.then(|| Arc::new(SingleCertAndKey::from(certified)) as ClientIdentity)
    };
    match made() {
        Some(identity) => Ok(Some(identity)),
        None => Err(ConfiguredError::Identity { path: path.to_owned() }),
    }
}

/// The token as it is now; a file is read each time, since its token is renewed.
pub(super) fn current(token: &Token) -> std::io::Result<String> {
    match token {
        Token::Fixed(token) => Ok(token.clone()),
        Token::File(path) => {
            use std::io::Read as _;
            let mut text = String::new();
            std::fs::File::open(path)?.take(MAX_TOKEN).read_to_string(&mut text)?;
            Ok(text.trim().to_owned())
        }
    }
}
