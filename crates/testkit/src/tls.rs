//! Certificates for other projects' servers and their clients.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Files of PEM, for both sides.
#[derive(Clone, Debug)]
pub struct Tls {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Tls {
    /// An authority, and one certificate of it for both sides, in files of a directory that begin with a name.
    pub fn make(directory: &Path, name: &str, address: &str) -> Result<Tls> {
        let authority_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key)?;
        let issuer = Issuer::new(params, authority_key);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![address.to_owned()])?.signed_by(&key, &issuer)?;
        let tls = Tls {
            authority: directory.join(format!("{name}-ca.crt")),
            certificate: directory.join(format!("{name}.crt")),
            key: directory.join(format!("{name}.key")),
        };
        std::fs::write(&tls.authority, authority.pem())?;
        std::fs::write(&tls.certificate, certificate.pem())?;
        std::fs::write(&tls.key, key.serialize_pem())?;
        Ok(tls)
    }
}
