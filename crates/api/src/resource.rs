//! The identity of a resource: group, version and plural name.

use std::borrow::Cow;
use std::fmt;

/// Group, version and (plural) resource name, as they stand in a request path.
///
/// The core group is the empty string.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvr {
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub resource: Cow<'static, str>,
}

impl Gvr {
    /// A built-in resource, usable in constants.
    pub const fn new(group: &'static str, version: &'static str, resource: &'static str) -> Self {
        Gvr {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            resource: Cow::Borrowed(resource),
        }
    }

    /// `group/version`, or `version` alone for the core group: the value of `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_string()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `resource.group`, or `resource` alone for the core group: how messages name a resource.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.resource.to_string()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    /// The request path of this resource: of the collection, of one namespace's, or of one object.
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(&self.resource);
        if let Some(name) = name {
            path.push('/');
            path.push_str(name);
        }
        path
    }
}

impl fmt::Display for Gvr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}/{}", self.resource, self.version, self.group)
    }
}

impl fmt::Debug for Gvr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_group() {
        let pods = Gvr::new("", "v1", "pods");
        assert_eq!(pods.path(Some("a"), Some("b")), "/api/v1/namespaces/a/pods/b");
        assert_eq!(pods.path(None, None), "/api/v1/pods");
        let deployments = Gvr::new("apps", "v1", "deployments");
        assert_eq!(deployments.path(Some("a"), None), "/apis/apps/v1/namespaces/a/deployments");
        assert_eq!(deployments.api_version(), "apps/v1");
        assert_eq!(deployments.qualified(), "deployments.apps");
    }
}
