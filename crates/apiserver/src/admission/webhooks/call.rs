//! One call of one webhook, and what a failure or a denial means for the request.

use sampan_api::Status;
use serde_json::Value;

use super::super::Attributes;
use super::hook::{Hook, SideEffects};
use super::matching::Invocation;
use super::review::{self, ReviewError, Verdict};
use crate::registry::Context;
use crate::webhook::CallError;

/// Why a webhook did not allow a request.
#[derive(Debug)]
pub enum Refusal {
    /// It could not be asked: its failure policy decides.
    Failed(String),
    /// It said no, or the request cannot be put to it.
    Denied(Box<Status>),
}

/// Asks a webhook. Objects are in the version of the invocation.
pub async fn ask(
    hook: &Hook,
    invocation: &Invocation,
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    old: Option<&Value>,
    context: &Context,
    mutates: bool,
) -> Result<Verdict, Refusal> {
    if context.options.dry_run {
        match hook.side_effects {
            SideEffects::NoneOnDryRun => {}
            SideEffects::Unset => return Err(Refusal::Failed("Webhook SideEffects is nil".to_owned())),
            SideEffects::Some => {
                let message = format!("admission webhook {:?} does not support dry run", hook.name);
                return Err(Refusal::Denied(Box::new(Status::bad_request(message))));
            }
        }
    }
    let Some(version) = hook.review_version else {
        let why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        return Err(Refusal::Failed(format!("could not create admission objects: {why}")));
    };
    let webhook = hook
        .webhook
        .as_ref()
        .map_err(|error| Refusal::Failed(format!("could not get REST client: {error}")))?;
    let uid = uuid::Uuid::new_v4().to_string();
    let question = review::request(version, &uid, invocation, attributes, object, old, context);
    let failed = |error: CallError| Refusal::Failed(format!("failed to call webhook: {error}"));
    let answer = webhook.call(&question, hook.timeout).await.map_err(failed)?;
    let invalid = |error: ReviewError| Refusal::Failed(format!("received invalid webhook response: {error}"));
    review::verdict(version, &uid, mutates, answer).map_err(invalid)
}

/// What a client is told of a webhook that could not be asked and must be.
pub fn failure(hook: &Hook, reason: &str) -> Status {
    Status::internal(format!("failed calling webhook {:?}: {reason}", hook.name))
}

/// What a client is told of a denial: the webhook's own status, with its name.
pub fn denial(name: &str, status: Option<Status>) -> Status {
    let mut status = status.unwrap_or_else(|| Status::failure(0, "", ""));
    status.code = status.code.max(400);
    if matches!(status.status.as_str(), "" | "Success") {
        status.status = "Failure".to_owned();
    }
    let denied = format!("admission webhook {name:?} denied the request");
    status.message = match (status.message.as_str(), status.reason.as_str()) {
        ("", "") => format!("{denied} without explanation"),
        ("", why) | (why, _) => format!("{denied}: {why}"),
    };
    status
}

/// Keeps what a verdict says besides yes or no.
pub fn note(hook: &Hook, verdict: &mut Verdict, context: &mut Context) {
    for (key, value) in std::mem::take(&mut verdict.audit_annotations) {
        context.annotate(format!("{}/{key}", hook.name), value);
    }
    for warning in std::mem::take(&mut verdict.warnings) {
        if !context.warnings.contains(&warning) {
            context.warnings.push(warning);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_name_the_webhook_and_keep_its_status() {
        let check = |status: Option<Status>, code: u16, message: &str| {
            let denial = denial("a.b.c", status);
            assert_eq!((denial.code, denial.message.as_str()), (code, message));
            assert_eq!(denial.status, "Failure");
        };
        let denied = "admission webhook \"a.b.c\" denied the request";
        check(None, 400, &format!("{denied} without explanation"));
        check(Some(Status::success()), 400, &format!("{denied} without explanation"));
        check(Some(Status::failure(403, "Forbidden", "no")), 403, &format!("{denied}: no"));
        check(Some(Status::failure(200, "Because", "")), 400, &format!("{denied}: Because"));
    }
}
