//! Certificate signing requests: those of nodes are approved, approved ones are signed, and old ones go.
//!
//! What each signer takes is in [`sampan_api::certificates`]; how it signs is the authority's business.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestStatus,
};
use sampan_api::certificates::{CertificateRequest, KUBELET_CLIENT};
use sampan_api::{Gvr, Status};
use sampan_client::{DeleteOptions, InformerEvent, Target, WorkQueue};
use serde_json::{Value, json};

use crate::Shared;
use crate::controller::{Controller, subjects};
use crate::view::Kind;

mod plan;
#[cfg(test)]
mod tests;

use plan::{Step, remaining};

const REVIEWS: Gvr = Gvr::new("authorization.k8s.io", "v1", "subjectaccessreviews");

/// Keys are names of requests.
pub(crate) struct Signing;
pub(crate) struct Approving;
pub(crate) struct Cleaner;

fn applied(kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
    if kind == Kind::CertificateSigningRequest && !matches!(event, InformerEvent::Deleted(_)) {
        // The subject is the new state, whatever it was before.
        subjects(event).take(1).for_each(|request| queue.add(request.header.name.to_string()));
    }
}

fn find(shared: &Shared, key: &str) -> Option<CertificateSigningRequest> {
    shared.view.get(Kind::CertificateSigningRequest, key)
}

fn condition(kind: &str, reason: &str, message: &str) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: None,
        last_transition_time: None,
    }
}

fn status_of(request: &mut CertificateSigningRequest) -> &mut CertificateSigningRequestStatus {
    request.status.get_or_insert_default()
}

fn read(request: &CertificateSigningRequest) -> Result<CertificateRequest, Status> {
    CertificateRequest::from_pem(&request.spec.request.0).map_err(Status::internal)
}

#[async_trait]
impl Controller for Signing {
    fn name(&self) -> &'static str {
        "certificatesigningrequest-signing"
    }

    fn affected(&self, _: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        applied(kind, event, queue);
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some(mut request) = find(shared, key) else { return Ok(None) };
        let api = shared.client.all::<CertificateSigningRequest>();
        match plan::signing(&request) {
            Step::Nothing => return Ok(None),
            Step::Fail(why) => {
                let failed = condition("Failed", "SignerValidationFailure", &why);
                status_of(&mut request).conditions.get_or_insert_default().push(failed);
            }
            Step::Sign(asked) => {
                let seconds = request.spec.expiration_seconds.map(i64::from);
                let signed = shared.config.authority.sign(
                    &asked,
                    request.spec.usages.as_deref().unwrap_or_default(),
                    seconds,
                );
                let pem = signed.map_err(|why| Status::internal(format!("error auto signing csr: {why}")))?;
                status_of(&mut request).certificate = Some(ByteString(pem.into_bytes()));
            }
        }
        api.update_status(&request).await.map(|_| None)
    }
}

#[async_trait]
impl Controller for Approving {
    fn name(&self) -> &'static str {
        "certificatesigningrequest-approving"
    }

    fn affected(&self, _: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        applied(kind, event, queue);
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some(mut request) = find(shared, key) else { return Ok(None) };
        if plan::is_decided(&request) || request.spec.signer_name != KUBELET_CLIENT {
            return Ok(None);
        }
        let asked = read(&request)?;
        for (right, message) in plan::rights(&request, &asked) {
            if may(shared, &request, right).await? {
                let approved = condition("Approved", "AutoApproved", message);
                status_of(&mut request).conditions.get_or_insert_default().push(approved);
                let gvr = Kind::CertificateSigningRequest.gvr();
                let target = Target { gvr, namespace: None, name: key, subresource: Some("approval") };
                let body = serde_json::to_vec(&request).map_err(Status::internal)?;
                shared.client.backend().update(target, body.into()).await?;
                return Ok(None);
            }
        }
        // It is asked again when the request changes; whoever grants the right may also approve by hand.
        Ok(None)
    }
}

/// Whether the requester has a right on requests, asked as upstream's approver asks.
async fn may(shared: &Shared, request: &CertificateSigningRequest, right: &str) -> Result<bool, Status> {
    let spec = &request.spec;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
        "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
        "resourceAttributes": {"group": "certificates.k8s.io", "resource": "certificatesigningrequests",
            "verb": "create", "subresource": right, "version": "*"}}});
    let target = Target { gvr: &REVIEWS, namespace: None, name: "", subresource: None };
    let answer = shared.client.backend().create(target, review.to_string().into()).await?;
    let answer: Value = answer.decode().map_err(Status::internal)?;
    Ok(answer["status"]["allowed"] == true)
}

#[async_trait]
impl Controller for Cleaner {
    fn name(&self) -> &'static str {
        "certificatesigningrequest-cleaner"
    }

    fn affected(&self, _: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        applied(kind, event, queue);
    }

    /// Upstream looks at all of them every hour; here each one's deadline brings it back.
    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some(request) = find(shared, key) else { return Ok(None) };
        match remaining(&request, Timestamp::now()) {
            Some(Duration::ZERO) => {
                let options = DeleteOptions { uid: request.metadata.uid, ..DeleteOptions::default() };
                shared.client.all::<CertificateSigningRequest>().delete(key, &options).await?;
                Ok(None)
            }
            later => Ok(later),
        }
    }
}
