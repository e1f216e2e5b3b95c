//! What is to be done about a request: pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use sampan_api::certificates::{self, CertificateRequest, SIGNERS};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// How long a request that nobody decides stays.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// What the signer does.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    Nothing,
    Fail(String),
    Sign(CertificateRequest),
}

fn conditions(request: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    let status = request.status.as_ref();
    status.and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

/// Whether there is a condition of this type, whatever its status.
fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    conditions(request).iter().any(|condition| condition.type_ == kind)
}

fn certificate(request: &CertificateSigningRequest) -> Option<&[u8]> {
    let status = request.status.as_ref()?;
    status.certificate.as_ref().map(|pem| pem.0.as_slice()).filter(|pem| !pem.is_empty())
}

/// Whether nobody has to approve it any more.
pub fn is_decided(request: &CertificateSigningRequest) -> bool {
    certificate(request).is_some() || has(request, "Approved") || has(request, "Denied")
}

pub fn signing(request: &CertificateSigningRequest) -> Step {
    let signer = request.spec.signer_name.as_str();
    let approved = has(request, "Approved") && !has(request, "Denied") && !has(request, "Failed");
    if !approved || certificate(request).is_some() || !SIGNERS.contains(&signer) {
        return Step::Nothing;
    }
    match CertificateRequest::from_pem(&request.spec.request.0) {
        // It was checked when it was created: nothing that is tried again would help.
        Err(error) => Step::Fail(error.to_string()),
        Ok(asked) => {
            let usages = certificates::usages(request.spec.usages.iter().flatten().map(String::as_str));
            match certificates::fault(signer, &asked, &usages) {
                Some(why) => Step::Fail(why),
                None => Step::Sign(asked),
            }
        }
    }
}

/// The rights of which one makes a request approved, each with what is then said.
pub fn rights(
    request: &CertificateSigningRequest,
    asked: &CertificateRequest,
) -> Vec<(&'static str, &'static str)> {
    let usages = certificates::usages(request.spec.usages.iter().flatten().map(String::as_str));
    if !certificates::is_kubelet_client(asked, &usages) {
        return Vec::new();
    }
    let mut rights = Vec::new();
    if request.spec.username.as_deref() == Some(asked.common_name()) {
        let message = "Auto approving self kubelet client certificate after SubjectAccessReview.";
        rights.push(("selfnodeclient", message));
    }
    rights.push(("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."));
    rights
}

/// How much longer a request stays; nothing where only a change brings its end.
pub fn remaining(request: &CertificateSigningRequest, now: Timestamp) -> Option<Duration> {
    let issued = certificate(request);
    let after = |since: Timestamp, life: SignedDuration| since.saturating_add(life).ok();
    let created = request.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let mut ends: Vec<Timestamp> = Vec::new();
    if conditions(request).is_empty() {
        ends.extend(created.and_then(|created| after(created, PENDING)));
    }
    for condition in conditions(request) {
        let counts = match condition.type_.as_str() {
            "Approved" => issued.is_some(),
            "Denied" | "Failed" => true,
            _ => false,
        };
        if !counts {
            continue;
        }
        ends.extend(condition.last_update_time.as_ref().and_then(|time| after(time.0, HOUR)));
        if condition.type_ == "Approved" {
            let expiry = issued.and_then(certificates::not_after);
            ends.extend(expiry.and_then(|seconds| Timestamp::from_second(seconds).ok()));
        }
    }
    let end = ends.into_iter().min()?;
    Some(end.duration_since(now).try_into().unwrap_or(Duration::ZERO))
}
