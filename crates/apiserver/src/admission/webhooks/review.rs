//! `AdmissionReview`, v1 and v1beta1: the question and what is made of the answer.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sampan_api::Status;
use sampan_api::table::ResourceDef;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::{Attributes, Operation};
use super::hook::ReviewVersion;
use super::matching::Invocation;
use crate::admission::namespace_lifecycle::NAMESPACES;
use crate::registry::Context;

/// What a webhook said.
#[derive(Debug, Default)]
pub struct Verdict {
    pub allowed: bool,
    pub status: Option<Status>,
    /// JSON of a patch; empty for none.
    pub patch: Vec<u8>,
    pub patch_type: String,
    pub audit_annotations: BTreeMap<String, String>,
    pub warnings: Vec<String>,
}

/// An answer that is no verdict.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    #[error("the response is not an AdmissionReview: {0}")]
    Shape(String),
    #[error("webhook response was absent")]
    Absent,
    #[error("expected response.uid={expected:?}, got {got:?}")]
    Uid { expected: String, got: String },
    #[error("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {0}")]
    Type(String),
    #[error("webhook returned response.patch but not response.patchType")]
    NoPatchType,
    #[error("webhook returned response.patchType but not response.patch")]
    NoPatch,
    #[error("webhook returned invalid response.patchType of \"\"")]
    EmptyPatchType,
    #[error("validating webhook may not return response.patch")]
    ValidatingPatch,
    #[error("validating webhook may not return response.patchType")]
    ValidatingPatchType,
}

impl ReviewVersion {
    fn api_version(self) -> &'static str {
        match self {
            ReviewVersion::V1 => "admission.k8s.io/v1",
            ReviewVersion::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// The review that is sent. `object` and `old` are in the version of the invocation.
pub fn request(
    version: ReviewVersion,
    uid: &str,
    invocation: &Invocation,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
    context: &Context,
) -> Value {
    let def = &attributes.resource.def;
    let subresource = attributes.subresource;
    let namespace =
        if def.gvr == NAMESPACES { attributes.name } else { attributes.namespace.unwrap_or_default() };
    let mut request = Map::new();
    let mut set = |field: &str, value: Value| request.insert(field.to_owned(), value);
    set("uid", uid.into());
    set("kind", kind(&invocation.def, subresource));
    set("resource", resource(&invocation.def));
    set("requestKind", kind(def, subresource));
    set("requestResource", resource(def));
    let named = [
        ("subResource", subresource),
        ("requestSubResource", subresource),
        ("name", attributes.name),
        ("namespace", namespace),
    ];
    for (field, text) in named {
        if !text.is_empty() {
            set(field, text.into());
        }
    }
    set("operation", attributes.operation.as_str().into());
    set("userInfo", user_info(context));
    set("object", object.cloned().unwrap_or(Value::Null));
    set("oldObject", old.cloned().unwrap_or(Value::Null));
    set("dryRun", context.options.dry_run.into());
    set("options", options(attributes, context));
    json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "request": request})
}

fn kind(def: &ResourceDef, subresource: &str) -> Value {
    match def.subresource(subresource) {
        Some(one) => json!({"group": one.group, "version": one.version, "kind": one.kind}),
        None => json!({"group": def.gvr.group, "version": def.gvr.version, "kind": def.kind}),
    }
}

fn resource(def: &ResourceDef) -> Value {
    json!({"group": def.gvr.group, "version": def.gvr.version, "resource": def.gvr.resource})
}

/// `authentication.k8s.io/v1` UserInfo.
fn user_info(context: &Context) -> Value {
    let user = &context.user;
    let mut info = Map::new();
    let mut set = |field: &str, value: Value| info.insert(field.to_owned(), value);
    if !user.name.is_empty() {
        set("username", user.name.clone().into());
    }
    if !user.uid.is_empty() {
        set("uid", user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        set("groups", user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        set("extra", json!(user.extra));
    }
    Value::Object(info)
}

/// The options of the operation, as `meta.k8s.io/v1` has them.
fn options(attributes: &Attributes<'_>, context: &Context) -> Value {
    let kind = match attributes.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if context.options.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    if attributes.operation != Operation::Delete {
        if let Some(manager) = &context.options.field_manager {
            options["fieldManager"] = manager.clone().into();
        }
        return options;
    }
    let Some(asked) = attributes.deletion else { return options };
    if let Some(seconds) = asked.grace_period_seconds {
        options["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(policy) = asked.propagation_policy {
        options["propagationPolicy"] = policy.into();
    }
    if let Some(uid) = &asked.uid {
        options["preconditions"]["uid"] = uid.clone().into();
    }
    if let Some(revision) = asked.revision {
        options["preconditions"]["resourceVersion"] = revision.to_string().into();
    }
    options
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    response: Option<RawResponse>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct RawResponse {
    uid: String,
    allowed: bool,
    status: Option<Status>,
    patch: Option<RawPatch>,
    patch_type: Option<String>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

/// Bytes as Go's decoder takes them: base64, or an array of numbers, as kube-rs writes it.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawPatch {
    Base64(String),
    Bytes(Vec<u8>),
}

/// Reads an answer. `mutates`: whether it may carry a patch.
pub fn verdict(
    version: ReviewVersion,
    uid: &str,
    mutates: bool,
    answer: Value,
) -> Result<Verdict, ReviewError> {
    let shape = |error: &dyn std::fmt::Display| ReviewError::Shape(error.to_string());
    let answer: Answer = serde_json::from_value(answer).map_err(|error| shape(&error))?;
    let response = answer.response.ok_or(ReviewError::Absent)?;
    let patch = match response.patch {
        None => Vec::new(),
        Some(RawPatch::Base64(text)) => STANDARD.decode(text).map_err(|error| shape(&error))?,
        Some(RawPatch::Bytes(bytes)) => bytes,
    };
    let mut verdict = Verdict {
        allowed: response.allowed,
        status: response.status,
        patch: Vec::new(),
        patch_type: String::new(),
        audit_annotations: response.audit_annotations.unwrap_or_default(),
        warnings: response.warnings.unwrap_or_default(),
    };
    match version {
        ReviewVersion::V1 => {
            if response.uid != uid {
                return Err(ReviewError::Uid { expected: uid.to_owned(), got: response.uid });
            }
            if (answer.api_version.as_str(), answer.kind.as_str())
                != (version.api_version(), "AdmissionReview")
            {
                let (group, version) =
                    answer.api_version.split_once('/').unwrap_or(("", &answer.api_version));
                return Err(ReviewError::Type(format!("{group}/{version}, Kind={}", answer.kind)));
            }
            check_patch(mutates, !patch.is_empty(), response.patch_type.as_deref())?;
            verdict.patch = patch;
            verdict.patch_type = response.patch_type.unwrap_or_default();
        }
        // That version promised less: any uid and type will do, and a patch is a JSON patch.
        ReviewVersion::V1Beta1 if mutates && !patch.is_empty() => {
            verdict.patch = patch;
            verdict.patch_type = "JSONPatch".to_owned();
        }
        ReviewVersion::V1Beta1 => {}
    }
    Ok(verdict)
}

fn check_patch(mutates: bool, has_patch: bool, patch_type: Option<&str>) -> Result<(), ReviewError> {
    match (mutates, has_patch, patch_type) {
        (true, true, None) => Err(ReviewError::NoPatchType),
        (true, false, Some(_)) => Err(ReviewError::NoPatch),
        (true, true, Some("")) => Err(ReviewError::EmptyPatchType),
        (false, true, _) => Err(ReviewError::ValidatingPatch),
        (false, false, Some(_)) => Err(ReviewError::ValidatingPatchType),
        (true, true, Some(_)) | (_, false, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on a v1 response of uid `u`, or what is wrong with it.
    fn check(mutates: bool, response: Value, expected: Result<bool, &str>) {
        let answer =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        let got = verdict(ReviewVersion::V1, "u", mutates, answer).map(|verdict| verdict.allowed);
        assert_eq!(got.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{response}");
    }

    #[test]
    fn answers_of_v1_are_held_to_its_rules() {
        check(true, json!({"uid": "u", "allowed": true}), Ok(true));
        check(
            true,
            json!({"uid": "u", "allowed": true, "patch": "W10=", "patchType": "JSONPatch"}),
            Ok(true),
        );
        check(
            true,
            json!({"uid": "u", "allowed": true, "patch": [91, 93], "patchType": "JSONPatch"}),
            Ok(true),
        );
        check(
            true,
            json!({"uid": "u", "allowed": false, "status": {"message": "m", "code": 403}}),
            Ok(false),
        );
        check(true, json!({"uid": "v", "allowed": true}), Err("expected response.uid=\"u\", got \"v\""));
        check(
            true,
            json!({"uid": "u", "patch": "W10="}),
            Err("webhook returned response.patch but not response.patchType"),
        );
        check(
            true,
            json!({"uid": "u", "patchType": "JSONPatch"}),
            Err("webhook returned response.patchType but not response.patch"),
        );
        check(
            false,
            json!({"uid": "u", "patch": "W10="}),
            Err("validating webhook may not return response.patch"),
        );
        check(
            false,
            json!({"uid": "u", "patchType": ""}),
            Err("validating webhook may not return response.patchType"),
        );
        check(true, Value::Null, Err("webhook response was absent"));
        let untyped = verdict(ReviewVersion::V1, "u", true, json!({"response": {"uid": "u"}}));
        let message = "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=";
        assert_eq!(untyped.expect_err("no type").to_string(), message);
        assert!(matches!(verdict(ReviewVersion::V1, "u", true, json!([])), Err(ReviewError::Shape(_))));
    }

    #[test]
    fn answers_of_v1beta1_are_taken_as_they_come() {
        let answer = json!({"response": {"allowed": true, "patch": "W10="}});
        let verdict = verdict(ReviewVersion::V1Beta1, "u", true, answer).expect("a verdict");
        assert_eq!((verdict.allowed, verdict.patch_type.as_str()), (true, "JSONPatch"));
    }
}
