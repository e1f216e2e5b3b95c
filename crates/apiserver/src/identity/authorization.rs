//! May this user do this: role-based access control as in `rbac.authorization.k8s.io/v1`, and for nodes
//! what their pods need.
//!
//! Pure: [`Rbac`] and [`NodeAuthorizer`] are indexes that are fed objects and answer questions.

use sampan_api::Status;
use sampan_api::resource::Gvr;
use sampan_api::selector::FieldSelector;
use sampan_api::status::StatusDetails;

use super::User;

pub mod bootstrap;
pub mod configuration;
pub mod node;
mod objects;
mod rbac;
mod rules;
#[cfg(test)]
mod tests;
pub mod webhook;

pub use node::{NodeAuthorizer, NodeDecision};
pub use objects::{AggregationRule, GROUP, RbacKind, RbacObjectError, rules_of};
pub use rbac::{Rbac, everything};
pub use rules::{PolicyRule, covers};

/// What a request wants to do. Empty strings where something does not apply.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a User,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or the
    /// HTTP method in lower case for paths that are no resource.
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    /// The plural; empty for paths that are no resource.
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// The path, where it is no resource.
    pub path: &'a str,
    /// What a list, a watch or the deletion of a collection is limited to.
    pub field_selector: Option<&'a FieldSelector>,
}

impl<'a> Attributes<'a> {
    /// A request on a path that is no resource.
    pub fn path(user: &'a User, verb: &'a str, path: &'a str) -> Self {
        let empty = "";
        Attributes {
            user,
            verb,
            group: empty,
            version: empty,
            resource: empty,
            subresource: empty,
            namespace: empty,
            name: empty,
            path,
            field_selector: None,
        }
    }

    /// The value that a field of what is selected must have.
    pub fn selects(&self, field: &str) -> Option<&'a str> {
        self.field_selector.and_then(|selector| selector.exact(field))
    }

    pub fn is_resource(&self) -> bool {
        !self.resource.is_empty()
    }

    /// The answer to a request that is not allowed.
    pub fn forbidden(&self, reason: &str) -> Status {
        let mut why = escape_html(&self.denial());
        if !reason.is_empty() {
            why.push_str(": ");
            why.push_str(reason);
        }
        if !self.is_resource() {
            let mut status = Status::failure(403, "Forbidden", format!("forbidden: {why}"));
            status.details = Some(StatusDetails::default());
            return status;
        }
        let gvr = Gvr {
            group: self.group.to_owned().into(),
            version: self.version.to_owned().into(),
            resource: self.resource.to_owned().into(),
        };
        Status::forbidden(&gvr, self.name, why)
    }

    fn denial(&self) -> String {
        let (user, verb) = (&self.user.name, self.verb);
        if !self.is_resource() {
            return format!("User {user:?} cannot {verb} path {:?}", self.path);
        }
        let resource = match self.subresource {
            "" => self.resource.to_owned(),
            subresource => format!("{}/{subresource}", self.resource),
        };
        let scope = match self.namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!("User {user:?} cannot {verb} resource {resource:?} in API group {:?} {scope}", self.group)
    }
}

/// Messages must not look like HTML to a browser.
fn escape_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Whether a request may go on, and what decided it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow { reason: String },
    Deny { reason: String },
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        match self {
            Decision::Allow { .. } => true,
            Decision::Deny { .. } => false,
        }
    }
}

/// Why a user may not write a role, or bind one: it grants rights that the user does not hold.
pub fn escalation_message(user: &User, missing: &[PolicyRule]) -> String {
    let mut lines: Vec<String> = missing.iter().map(rules::compact).collect();
    lines.sort();
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        lines.join("\n")
    )
}
