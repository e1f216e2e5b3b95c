//! `metav1.Status`: what a client is told when a request did not succeed.
//!
//! Reasons, codes and message texts are the ones of Kubernetes' API server, since clients match on
//! them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::resource::Gvr;

/// An answer that is not the object asked for. Also the error type of every API client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    #[serde(default)]
    pub kind: StatusKind,
    #[serde(default = "v1")]
    pub api_version: String,
    #[serde(default)]
    pub metadata: StatusMetadata,
    /// `Success` or `Failure`.
    #[serde(default)]
    pub status: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<StatusDetails>,
    /// The HTTP status code; not shown where it is 0.
    #[serde(default, skip_serializing_if = "no_code")]
    pub code: u16,
}

fn no_code(code: &u16) -> bool {
    *code == 0
}

fn v1() -> String {
    "v1".to_owned()
}

/// The constant `"Status"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum StatusKind {
    #[default]
    Status,
}

/// `metav1.ListMeta` of a status; only ever empty or a continue token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusMetadata {
    #[serde(rename = "continue", default, skip_serializing_if = "String::is_empty")]
    pub continue_token: String,
}

/// `metav1.StatusDetails`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusDetails {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// `metav1.StatusCause`: one field and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Status {
    /// A failure with a code, a reason of `metav1.StatusReason` and a message.
    pub fn failure(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Status {
            kind: StatusKind::Status,
            api_version: v1(),
            metadata: StatusMetadata::default(),
            status: "Failure".to_owned(),
            message: message.into(),
            reason: reason.to_owned(),
            details: None,
            code,
        }
    }

    /// A success without an object, as deletion answers.
    pub fn success() -> Self {
        Status { status: "Success".to_owned(), ..Status::failure(200, "", "") }
    }

    fn of(mut self, gvr: &Gvr, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.name = name.to_owned();
        details.group = gvr.group.to_string();
        details.kind = gvr.resource.to_string();
        self
    }

    pub fn not_found(gvr: &Gvr, name: &str) -> Self {
        Status::failure(404, "NotFound", format!("{} \"{name}\" not found", gvr.qualified())).of(gvr, name)
    }

    /// No route, group, version or resource answers this path.
    pub fn no_such_route() -> Self {
        let mut status = Status::failure(404, "NotFound", "the server could not find the requested resource");
        status.details = Some(StatusDetails::default());
        status
    }

    pub fn already_exists(gvr: &Gvr, name: &str) -> Self {
        Status::failure(409, "AlreadyExists", format!("{} \"{name}\" already exists", gvr.qualified()))
            .of(gvr, name)
    }

    pub fn conflict(gvr: &Gvr, name: &str, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", gvr.qualified());
        Status::failure(409, "Conflict", message).of(gvr, name)
    }

    /// The write was based on an older revision than the stored one.
    pub fn modified(gvr: &Gvr, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(gvr, name, why)
    }

    /// Validation found these faults; `kind` is the object's kind.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let texts: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let faults = match texts.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let qualified = if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") };
        let mut status =
            Status::failure(422, "Invalid", format!("{qualified} \"{name}\" is invalid: {faults}"));
        status.details = Some(StatusDetails {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            causes,
            ..StatusDetails::default()
        });
        status
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Status::failure(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Self {
        Status::failure(401, "Unauthorized", "Unauthorized")
    }

    pub fn forbidden(gvr: &Gvr, name: &str, why: impl fmt::Display) -> Self {
        let what = if name.is_empty() { String::new() } else { format!(" \"{name}\"") };
        Status::failure(403, "Forbidden", format!("{}{what} is forbidden: {why}", gvr.qualified()))
            .of(gvr, name)
    }

    pub fn method_not_allowed(gvr: &Gvr, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind \"{}\"", gvr.qualified());
        Status::failure(405, "MethodNotAllowed", message).of(gvr, "")
    }

    /// The asked revision has left the history window.
    pub fn expired(message: impl Into<String>) -> Self {
        Status::failure(410, "Expired", message)
    }

    pub fn unsupported_media_type(accepted: &str) -> Self {
        Status::failure(
            415,
            "UnsupportedMediaType",
            format!(
                "the body of the request was in an unknown format - accepted media types include: {accepted}"
            ),
        )
    }

    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Status::failure(413, "RequestEntityTooLarge", message)
    }

    pub fn internal(message: impl fmt::Display) -> Self {
        Status::failure(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Status::failure(503, "ServiceUnavailable", message)
    }

    pub fn timeout(message: impl Into<String>) -> Self {
        Status::failure(504, "Timeout", message)
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Status::failure(429, "TooManyRequests", message);
        status.details = Some(StatusDetails { retry_after_seconds, ..StatusDetails::default() });
        status
    }

    pub fn is_not_found(&self) -> bool {
        self.code == 404
    }

    pub fn is_conflict(&self) -> bool {
        self.code == 409 && self.reason == "Conflict"
    }

    pub fn is_already_exists(&self) -> bool {
        self.code == 409 && self.reason == "AlreadyExists"
    }

    pub fn is_expired(&self) -> bool {
        self.code == 410
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            write!(f, "{} ({})", self.reason, self.code)
        } else {
            f.write_str(&self.message)
        }
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_kubernetes() {
        let deployments = Gvr::new("apps", "v1", "deployments");
        assert_eq!(Status::not_found(&deployments, "x").to_string(), "deployments.apps \"x\" not found");
        let cause = |field: &str| Cause {
            reason: "FieldValueRequired".into(),
            message: "Required value".into(),
            field: field.into(),
        };
        assert_eq!(
            Status::invalid("apps", "Deployment", "x", vec![cause("spec.a"), cause("spec.b")]).to_string(),
            "Deployment.apps \"x\" is invalid: [spec.a: Required value, spec.b: Required value]"
        );
        assert_eq!(
            Status::invalid("", "Pod", "x", vec![cause("spec.a")]).to_string(),
            "Pod \"x\" is invalid: spec.a: Required value"
        );
    }

    #[test]
    fn survives_the_wire() {
        let status = Status::not_found(&Gvr::new("", "v1", "pods"), "x");
        let json = serde_json::to_string(&status).expect("serialises");
        assert_eq!(serde_json::from_str::<Status>(&json).expect("parses"), status);
    }
}
