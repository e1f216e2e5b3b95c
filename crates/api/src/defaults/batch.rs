//! `batch`: jobs and cron jobs.

use serde_json::{Map, Value, json};

use super::core::label_like_template;
use super::fields::{absent, each, object, set, set_text};
use super::pod;

pub(super) fn apply(kind: &str, root: &mut Map<String, Value>) {
    match kind {
        "Job" => job(root),
        "CronJob" => cron_job(root),
        _ => {}
    }
}

fn job(root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else { return };
    if absent(spec, "completions") && absent(spec, "parallelism") {
        set(spec, "completions", json!(1));
    }
    set(spec, "parallelism", json!(1));
    let limit = if absent(spec, "backoffLimitPerIndex") { 6 } else { i32::MAX };
    set(spec, "backoffLimit", json!(limit));
    set(spec, "completionMode", json!("NonIndexed"));
    set(spec, "suspend", json!(false));
    if let Some(policy) = object(spec, "podFailurePolicy") {
        each(policy, "rules", |rule| {
            each(rule, "onPodConditions", |pattern| set_text(pattern, "status", "True"));
        });
    }
    let replacement = if absent(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { "Failed" };
    set(spec, "podReplacementPolicy", json!(replacement));
    pod::template(spec, "template");
    let labels = spec.get("template").map(|template| template["metadata"]["labels"].clone());
    if let Some(labels @ Value::Object(_)) = labels {
        label_like_template(root, labels);
    }
}

fn cron_job(root: &mut Map<String, Value>) {
    let Some(spec) = object(root, "spec") else { return };
    set_text(spec, "concurrencyPolicy", "Allow");
    set(spec, "suspend", json!(false));
    set(spec, "successfulJobsHistoryLimit", json!(3));
    set(spec, "failedJobsHistoryLimit", json!(1));
    if let Some(job) = object(spec, "jobTemplate").and_then(|template| object(template, "spec")) {
        pod::template(job, "template");
    }
}
