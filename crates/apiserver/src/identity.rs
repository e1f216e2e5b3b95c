//! Who is asking, and may they: the cluster's keys and certificates, authentication of requests,
//! and role-based access control.
//!
//! Nothing here knows routes, storage or caches. What a decision needs of the cluster's objects
//! comes in through [`authentication::BoundObjects`] and [`authorization::Rbac`].

use std::collections::BTreeMap;

pub mod authentication;
pub mod authorization;
pub mod cache;
pub mod faults;
pub mod pki;

/// `system:anonymous`: the name of a request without credentials.
pub const ANONYMOUS: &str = "system:anonymous";
/// The group of requests without credentials.
pub const UNAUTHENTICATED_GROUP: &str = "system:unauthenticated";
/// The group of every request with valid credentials.
pub const AUTHENTICATED_GROUP: &str = "system:authenticated";
/// The group that may do everything, whatever the roles say.
pub const MASTERS_GROUP: &str = "system:masters";
/// The group of every service account.
pub const SERVICE_ACCOUNTS_GROUP: &str = "system:serviceaccounts";
/// The group of every node.
pub const NODES_GROUP: &str = "system:nodes";
/// What a node's user name starts with; its name follows.
pub const NODE_PREFIX: &str = "system:node:";
/// What a service account's user name starts with; `namespace:name` follows.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// `authentication.k8s.io/v1` `UserInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A component in this process, or a test: a name and its groups, authenticated.
    pub fn component(name: &str, groups: &[&str]) -> Self {
        let mut user = User { name: name.to_owned(), ..User::default() };
        user.groups = groups.iter().map(|group| (*group).to_owned()).collect();
        user.add_group(AUTHENTICATED_GROUP);
        user
    }

    /// The user of a request without credentials.
    pub fn anonymous() -> Self {
        User { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED_GROUP.to_owned()], ..User::default() }
    }

    /// A service account with its groups.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        User {
            name: service_account_user_name(namespace, name),
            uid: uid.to_owned(),
            groups: vec![
                SERVICE_ACCOUNTS_GROUP.to_owned(),
                service_accounts_group(namespace),
                AUTHENTICATED_GROUP.to_owned(),
            ],
            extra: BTreeMap::new(),
        }
    }

    /// A node.
    pub fn node(name: &str) -> Self {
        User::component(&format!("{NODE_PREFIX}{name}"), &[NODES_GROUP])
    }

    /// The name of the node that this user is; empty where its user name holds none.
    pub fn node_name(&self) -> Option<&str> {
        self.name.strip_prefix(NODE_PREFIX).filter(|_| self.is_in(NODES_GROUP))
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|candidate| candidate == group)
    }

    /// Adds a group unless the user is in it already.
    pub fn add_group(&mut self, group: &str) {
        if !self.is_in(group) {
            self.groups.push(group.to_owned());
        }
    }
}

/// `system:serviceaccount:<namespace>:<name>`.
pub fn service_account_user_name(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// `system:serviceaccounts:<namespace>`.
pub fn service_accounts_group(namespace: &str) -> String {
    format!("{SERVICE_ACCOUNTS_GROUP}:{namespace}")
}

/// Namespace and name of a service account, from its user name.
pub fn split_service_account(user_name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user_name.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    let valid = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
    valid.then_some((namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_account_names_split_only_when_whole() {
        assert_eq!(split_service_account("system:serviceaccount:a:b"), Some(("a", "b")));
        for name in
            ["system:serviceaccount:a", "system:serviceaccount::b", "system:serviceaccount:a:", "a:b", ""]
        {
            assert_eq!(split_service_account(name), None, "{name}");
        }
        assert_eq!(split_service_account("system:serviceaccount:a:b:c"), None);
    }
}
