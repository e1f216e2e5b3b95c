//! Users that a front proxy tells of: another API server, or whoever has a certificate of the
//! request-header authority, authenticated them and puts their names into headers.

use std::sync::Arc;

use http::HeaderMap;
use jiff::Timestamp;
use parking_lot::RwLock;
use percent_encoding::percent_decode_str;
use rustls::pki_types::CertificateDer;

use super::ClientCertificate;
use crate::identity::pki::{FRONT_PROXY_NAME, is_signed_by};
use crate::identity::{ANONYMOUS, AUTHENTICATED_GROUP, User};

const EXTRA: &str = "x-remote-extra-";

/// The authorities of front proxies: one, and two while it is rotated. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct FrontProxy {
    public_keys: Arc<RwLock<Vec<Vec<u8>>>>,
}

impl FrontProxy {
    /// The keys are the authorities', as uncompressed points.
    pub fn new<'a>(public_keys: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let proxies = FrontProxy::default();
        proxies.replace(public_keys);
        proxies
    }

    pub fn replace<'a>(&self, public_keys: impl IntoIterator<Item = &'a [u8]>) {
        *self.public_keys.write() = public_keys.into_iter().map(<[u8]>::to_vec).collect();
    }

    /// Whether a certificate, whose chain is verified, is a front proxy's.
    pub fn issued(&self, certificate: &CertificateDer<'_>) -> bool {
        self.public_keys.read().iter().any(|key| is_signed_by(certificate, key))
    }
}

/// The user of the headers; none where the certificate is not the proxy's, or nobody is named.
pub(super) fn user(proxy: &ClientCertificate, headers: &HeaderMap, now: Timestamp) -> Option<User> {
    if proxy.user(now).ok()?.name != FRONT_PROXY_NAME {
        return None;
    }
    let texts = |name: &str| -> Vec<String> {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.filter(|text| !text.is_empty()).map(str::to_owned).collect()
    };
    let name = texts("x-remote-user").into_iter().next()?;
    let mut user = User { name, ..User::default() };
    user.uid = texts("x-remote-uid").into_iter().next().unwrap_or_default();
    for group in texts("x-remote-group") {
        user.add_group(&group);
    }
    if user.name != ANONYMOUS {
        user.add_group(AUTHENTICATED_GROUP);
    }
    for name in headers.keys() {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let Ok(key) = percent_decode_str(key).decode_utf8() else { continue };
        user.extra.insert(key.to_ascii_lowercase(), texts(name.as_str()));
    }
    Some(user)
}
