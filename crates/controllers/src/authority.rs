//! The cluster's certificate authority, as controllers use it.

use sampan_api::certificates::CertificateRequest;
use tokio::sync::watch;

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SignError(pub String);

/// Implemented by whoever holds the keys.
pub trait Authority: Send + Sync {
    /// The authorities that clients trust, in PEM.
    fn bundle(&self) -> String;
    /// Changes with the bundle.
    fn changes(&self) -> watch::Receiver<()>;
    /// Signs a request that somebody approved and whose signer takes it. Answers PEM.
    fn sign(
        &self,
        request: &CertificateRequest,
        usages: &[String],
        expiration_seconds: Option<i64>,
    ) -> Result<String, SignError>;
}
