//! Acting as somebody else: the `Impersonate-*` headers.
//!
//! Reading them grants nothing: the caller asks the authorizer for every one of
//! [`Impersonation::targets`] under the real user before it acts as [`Impersonation::user`].

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::identity::{
    ANONYMOUS, AUTHENTICATED_GROUP, SERVICE_ACCOUNTS_GROUP, UNAUTHENTICATED_GROUP, User,
    service_accounts_group, split_service_account,
};

const USER: &str = "impersonate-user";
const UID: &str = "impersonate-uid";
const GROUP: &str = "impersonate-group";
const EXTRA_PREFIX: &str = "impersonate-extra-";

/// Headers that do not say whom to act as.
#[derive(Debug, thiserror::Error)]
pub enum ImpersonationError {
    #[error("requested impersonation without impersonating a user")]
    NoUser,
    #[error("the header {0} is not UTF-8")]
    NotText(String),
}

/// Whom a request wants to act as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impersonation {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// One right that is needed: the verb `impersonate` on this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImpersonationTarget {
    pub group: &'static str,
    pub version: &'static str,
    pub resource: &'static str,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

impl Impersonation {
    /// Reads the headers; `None` where there are none of them.
    pub fn read(headers: &HeaderMap) -> Result<Option<Self>, ImpersonationError> {
        let mut wanted = Impersonation::default();
        let mut present = false;
        for (name, value) in headers {
            let name = name.as_str();
            if !name.starts_with("impersonate-") {
                continue;
            }
            let text = || {
                let text = std::str::from_utf8(value.as_bytes());
                text.map(str::to_owned).map_err(|_| ImpersonationError::NotText(name.to_owned()))
            };
            match name {
                USER => wanted.user = text()?,
                UID => wanted.uid = text()?,
                GROUP => wanted.groups.push(text()?),
                _ => match name.strip_prefix(EXTRA_PREFIX) {
                    Some(key) => wanted.extra.entry(unescape(key)).or_default().push(text()?),
                    None => continue,
                },
            }
            present = true;
        }
        match (present, wanted.user.is_empty()) {
            (false, _) => Ok(None),
            (true, true) => Err(ImpersonationError::NoUser),
            (true, false) => Ok(Some(wanted)),
        }
    }

    /// Everything that the real user must be allowed to impersonate.
    pub fn targets(&self) -> Vec<ImpersonationTarget> {
        let core = |resource, namespace: &str, name: &str| ImpersonationTarget {
            group: "",
            version: "v1",
            resource,
            subresource: String::new(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let authentication = |resource, subresource: &str, name: &str| ImpersonationTarget {
            group: "authentication.k8s.io",
            subresource: subresource.to_owned(),
            ..core(resource, "", name)
        };
        let mut targets = vec![match split_service_account(&self.user) {
            Some((namespace, name)) => core("serviceaccounts", namespace, name),
            None => core("users", "", &self.user),
        }];
        targets.extend(self.groups.iter().map(|group| core("groups", "", group)));
        for (key, values) in &self.extra {
            targets.extend(values.iter().map(|value| authentication("userextras", key, value)));
        }
        if !self.uid.is_empty() {
            targets.push(authentication("uids", "", &self.uid));
        }
        targets
    }

    /// The user to act as.
    pub fn user(self) -> User {
        let mut user = User { name: self.user, uid: self.uid, groups: self.groups, extra: self.extra };
        if let Some((namespace, _)) = split_service_account(&user.name)
            && user.groups.is_empty()
        {
            user.groups = vec![SERVICE_ACCOUNTS_GROUP.to_owned(), service_accounts_group(namespace)];
        }
        if user.name == ANONYMOUS {
            user.add_group(UNAUTHENTICATED_GROUP);
        } else if !user.is_in(UNAUTHENTICATED_GROUP) {
            user.add_group(AUTHENTICATED_GROUP);
        }
        user
    }
}

/// Extra keys may hold what header names may not, percent-encoded. One that does not decode is
/// taken as it is.
fn unescape(key: &str) -> String {
    match percent_encoding::percent_decode_str(key).decode_utf8() {
        Ok(decoded) => decoded.to_lowercase(),
        Err(_) => key.to_lowercase(),
    }
}
