//! What certificates a directory holds, for whoever wants to know when they expire.

use std::path::Path;

use jiff::Timestamp;
use x509_parser::pem::Pem;

use super::files::{self, FileError};

/// A certificate in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCertificate {
    pub file: String,
    pub subject: String,
    pub not_after: Timestamp,
}

/// The certificates in the files of a directory, in the order of names. What is none is passed over.
pub fn stored_certificates(directory: &Path) -> Result<Vec<StoredCertificate>, FileError> {
    let mut found = Vec::new();
    let mut paths: Vec<_> = files::list(directory)?;
    paths.sort();
    for path in paths {
        let Some(text) = files::read(&path)? else { continue };
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        for pem in Pem::iter_from_buffer(text.as_bytes()).flatten() {
            let Ok(certificate) = pem.parse_x509() else { continue };
            let Ok(not_after) = Timestamp::from_second(certificate.validity().not_after.timestamp()) else {
                continue;
            };
            let subject = certificate.subject().to_string();
            found.push(StoredCertificate { file: file.clone(), subject, not_after });
        }
    }
    Ok(found)
}
