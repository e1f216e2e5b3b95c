//! Why a pull failed, and what a node makes of it.

use std::io;
use std::time::Duration;

use crate::digest::Digest;
use crate::manifest::ManifestError;
use crate::store::{InstallError, StoreError};

/// Why bytes did not get through.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("{0:?} is no usable address")]
    Address(String),
    #[error("cannot connect to {origin}")]
    Connect { origin: String, source: io::Error },
    #[error("TLS handshake with {origin}")]
    Tls { origin: String, source: io::Error },
    #[error("cannot set up TLS")]
    TlsSetup(#[source] rustls::Error),
    #[error("{origin} did not answer within {}s", timeout.as_secs())]
    Timeout { origin: String, timeout: Duration },
    #[error("the connection to {origin} broke")]
    Broken { origin: String, source: hyper::Error },
    #[error("{origin} ended its answer early")]
    Short { origin: String },
    #[error("{0} may not be asked in plain HTTP")]
    Plain(String),
    #[error("{0} redirects too often")]
    Redirects(String),
}

/// Why an image was not pulled.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("{what}: not found: {message}")]
    NotFound { what: String, message: String },
    #[error("{what}: {message}")]
    Unauthorized { what: String, message: String },
    #[error("{what}: too many requests: {message}")]
    RateLimited { what: String, message: String, retry_after_seconds: Option<u64> },
    #[error("{what}: unexpected status {status}: {message}")]
    Status { what: String, status: u16, message: String },
    #[error("{what}: the answer has more than {max} bytes")]
    TooLarge { what: String, max: u64 },
    #[error("{what}: the content's digest is {actual}, not {expected}")]
    Digest { what: String, expected: Digest, actual: Digest },
    #[error("{what}: the content has more than the {expected} bytes that the manifest says")]
    Size { what: String, expected: u64 },
    #[error("{what}: the login server's answer is malformed")]
    Token { what: String },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullErrorKind {
    /// The repository, tag or digest does not exist.
    NotFound,
    /// Credentials are missing or not sufficient. Registries answer so for what does not exist, too.
    Unauthorized,
    /// The registry asks to come back later.
    RateLimited,
    /// The registry was not reached or failed itself.
    Network,
    /// What came is not what was asked for.
    Verification,
    /// The image is intact and this machine cannot run it.
    Unusable,
    /// This machine's disk or store failed.
    Store,
}

impl PullError {
    pub fn kind(&self) -> PullErrorKind {
        match self {
            PullError::Transport(_) | PullError::Status { .. } | PullError::Token { .. } => {
                PullErrorKind::Network
            }
            PullError::NotFound { .. } => PullErrorKind::NotFound,
            PullError::Unauthorized { .. } => PullErrorKind::Unauthorized,
            PullError::RateLimited { .. } => PullErrorKind::RateLimited,
            PullError::TooLarge { .. } | PullError::Digest { .. } | PullError::Size { .. } => {
                PullErrorKind::Verification
            }
            PullError::Manifest(_) => PullErrorKind::Unusable,
            PullError::Install(error) => match error {
                InstallError::Store(_) => PullErrorKind::Store,
                InstallError::Layer { .. } => PullErrorKind::Verification,
                InstallError::Config { .. }
                | InstallError::ConfigSize { .. }
                | InstallError::LayerCount { .. }
                | InstallError::Platform { .. }
                | InstallError::Limit(_) => PullErrorKind::Unusable,
            },
            PullError::Store(_) => PullErrorKind::Store,
        }
    }

    /// Whether the same request may succeed a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            PullError::Transport(error) => match error {
                TransportError::Connect { .. }
                | TransportError::Timeout { .. }
                | TransportError::Broken { .. }
                | TransportError::Short { .. } => true,
                TransportError::Address(_)
                | TransportError::Tls { .. }
                | TransportError::TlsSetup(_)
                | TransportError::Plain(_)
                | TransportError::Redirects(_) => false,
            },
            PullError::Status { status, .. } => *status >= 500,
            PullError::NotFound { .. }
            | PullError::Unauthorized { .. }
            | PullError::RateLimited { .. }
            | PullError::TooLarge { .. }
            | PullError::Digest { .. }
            | PullError::Size { .. }
            | PullError::Token { .. }
            | PullError::Manifest(_)
            | PullError::Install(_)
            | PullError::Store(_) => false,
        }
    }

    /// The error and all its causes in one line, as events and container statuses show it.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            let next = error.to_string();
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            source = error.source();
        }
        text
    }
}
