//! Validating webhooks, all at once.

use std::sync::Arc;

use futures_util::future::join_all;
use sampan_api::Status;
use serde_json::Value;

use super::super::Attributes;
use super::call::{self, Refusal};
use super::hook::Hook;
use super::matching::{self, Invocation};
use crate::conversion;
use crate::registry::Context;

const FAILED_OPEN: &str = "failed-open.validating.webhook.admission.k8s.io/";

/// Asks every webhook that the request concerns. Of several refusals the first in order is told.
pub async fn validate(
    hooks: &[Arc<Hook>],
    attributes: &Attributes<'_>,
    object: Option<&Value>,
    context: &mut Context,
) -> Result<(), Status> {
    let mut concerned: Vec<(&Hook, Invocation)> = Vec::new();
    for hook in hooks {
        if let Some(invocation) = matching::invocation(hook, attributes, object, context)? {
            concerned.push((hook, invocation));
        }
    }
    let shared: &Context = context;
    let calls = concerned.iter().map(|(hook, invocation)| async move {
        let def = &attributes.resource.def;
        // Bodies of subresources have one version only.
        let shown = |object: &Value| {
            if object["kind"] == def.kind.as_ref() {
                conversion::convert(&def.gvr, &invocation.def.gvr, object.clone())
            } else {
                object.clone()
            }
        };
        let (object, old) = (object.map(shown), attributes.old.map(shown));
        call::ask(hook, invocation, attributes, object.as_ref(), old.as_ref(), shared, false).await
    });
    let answers = join_all(calls).await;
    let mut refused = None;
    for (at, ((hook, _), answer)) in concerned.iter().zip(answers).enumerate() {
        match answer {
            Ok(mut verdict) => {
                call::note(hook, &mut verdict, context);
                if !verdict.allowed {
                    refused.get_or_insert_with(|| call::denial(&hook.name, verdict.status));
                }
            }
            Err(Refusal::Denied(status)) => {
                refused.get_or_insert(*status);
            }
            Err(Refusal::Failed(reason)) if hook.ignores_failures => {
                tracing::warn!(webhook = hook.name, reason, "a validating webhook failed and is passed over");
                context.annotate(format!("{FAILED_OPEN}round_0_index_{at}"), hook.name.clone());
            }
            Err(Refusal::Failed(reason)) => {
                refused.get_or_insert_with(|| call::failure(hook, &reason));
            }
        }
    }
    refused.map_or(Ok(()), Err)
}
