//! `batch`: jobs and cron jobs.

use serde_json::{Value, json};

use super::cron::Schedule;
use super::field::{At, Faults, same};
use super::{pod, selector};
use crate::names;
use crate::selector::Selector;

/// A cron job's name leaves room for the time that its jobs' names end in.
const CRON_NAME_MAX: usize = 52;
const INDEXED_PARALLELISM_MAX: i64 = 100_000;

pub(super) fn content(kind: &str, root: &At<'_, '_>, faults: &mut Faults) {
    match kind {
        "Job" => job(root, faults),
        "CronJob" => cron_job(root, faults),
        _ => {}
    }
}

fn job(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    job_spec(&spec, faults);
    let at = spec.get("selector");
    if at.is_set() {
        selector::label_selector(&at, faults);
    } else {
        faults.required(&at, "");
    }
    let template = spec.get("template");
    let metadata = template.get("metadata");
    let labels = metadata.get("labels");
    if let Ok(parsed) = Selector::from_json(at.value)
        && at.is_set()
        && !parsed.matches(|key| labels.value.get(key)?.as_str())
    {
        faults.invalid(&labels, "`selector` does not match template `labels`");
    }
    let completions = spec.get("completions").int().unwrap_or_default();
    if spec.get("completionMode").text() == "Indexed" && completions > 0 {
        let metadata = root.get("metadata");
        let name = metadata.get("name");
        let hostname = format!("{}-{}", name.text(), completions - 1);
        if !names::dns1123_label(&hostname).is_empty() {
            faults.invalid(&name, &format!("will not able to create pod with invalid DNS label: {hostname}"));
        }
    }
}

fn job_spec(spec: &At<'_, '_>, faults: &mut Faults) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        faults.not_negative(&spec.get(field));
    }
    completion(spec, faults);
    let template = spec.get("template");
    pod::template(&template, faults);
    let pod = template.get("spec");
    let policy = pod.get("restartPolicy");
    let has_failure_policy = spec.get("podFailurePolicy").is_set();
    match policy.text() {
        "" | "Always" => faults.required(&policy, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if has_failure_policy => {
            faults.invalid(&policy, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" => {}
        // What is no restart policy at all was told with the template.
        _ => {}
    }
    let replacement = spec.get("podReplacementPolicy");
    if has_failure_policy {
        faults.one_of_or_none(&replacement, &["Failed"]);
    } else {
        faults.one_of_or_none(&replacement, &["Failed", "TerminatingOrFailed"]);
    }
}

fn completion(spec: &At<'_, '_>, faults: &mut Faults) {
    let mode = spec.get("completionMode");
    faults.one_of_or_none(&mode, &["NonIndexed", "Indexed"]);
    let (per_index, failed) = (spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes"));
    if failed.is_set() && !per_index.is_set() {
        faults.required(&per_index, "when maxFailedIndexes is specified");
    }
    if mode.text() != "Indexed" {
        for at in [per_index, failed] {
            if at.is_set() {
                faults.invalid(&at, "requires indexed completion mode");
            }
        }
        return;
    }
    let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
    if !completions.is_set() {
        faults.required(&completions, "when completion mode is Indexed");
    }
    if parallelism.int().is_some_and(|parallelism| parallelism > INDEXED_PARALLELISM_MAX) {
        let detail = format!(
            "must be less than or equal to {INDEXED_PARALLELISM_MAX} when completion mode is Indexed"
        );
        faults.invalid(&parallelism, &detail);
    }
    if failed.int().zip(completions.int()).is_some_and(|(failed, completions)| failed > completions) {
        faults.invalid(&failed, "must be less than or equal to completions");
    }
}

fn cron_job(root: &At<'_, '_>, faults: &mut Faults) {
    let metadata = root.get("metadata");
    let name = metadata.get("name");
    if name.text().len() > CRON_NAME_MAX {
        faults.invalid(&name, &names::too_long(CRON_NAME_MAX));
    }
    let spec = root.get("spec");
    let (schedule, zone) = (spec.get("schedule"), spec.get("timeZone"));
    if schedule.text().is_empty() {
        faults.required(&schedule, "");
    } else {
        if let Err(error) = schedule.text().parse::<Schedule>() {
            faults.invalid(&schedule, &error.to_string());
        }
        if schedule.text().contains("TZ") {
            let detail = if zone.is_set() {
                "cannot use both timeZone field and TZ or CRON_TZ in schedule"
            } else {
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            };
            faults.invalid(&schedule, detail);
        }
    }
    time_zone(&zone, faults);
    faults.one_of(&spec.get("concurrencyPolicy"), &["Allow", "Forbid", "Replace"]);
    for field in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        faults.not_negative(&spec.get(field));
    }
    let template = spec.get("jobTemplate");
    let job = template.get("spec");
    job_spec(&job, faults);
    if job.get("selector").is_set() {
        faults.invalid(&job.get("selector"), "`selector` will be auto-generated");
    }
    if job.get("manualSelector").is_true() {
        faults.unsupported(&job.get("manualSelector"), &["nil", "false"]);
    }
}

fn time_zone(zone: &At<'_, '_>, faults: &mut Faults) {
    if !zone.is_set() {
        return;
    }
    let text = zone.text();
    if text.is_empty() {
        faults.invalid(zone, "timeZone must be nil or non-empty string");
        return;
    }
    let is_part = |part: &str| {
        (1..=14).contains(&part.len())
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte))
    };
    if !text.split('/').all(is_part) {
        faults.invalid(zone, &format!("unknown time zone {text}"));
    }
    if text.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        faults.invalid(zone, detail);
    }
}

pub(super) fn update(kind: &str, root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    if kind != "Job" {
        return;
    }
    let (spec, old) = (root.get("spec"), before.get("spec"));
    for field in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex"] {
        faults.immutable(&spec.get(field), &old.get(field));
    }
    completions_update(&spec, &old, faults);
    let template = spec.get("template");
    let unstarted = old.get("suspend").is_true() && !before.get("status").get("startTime").is_set();
    let (now, then) = if unstarted {
        (schedulable(template.value), schedulable(&old.value["template"]))
    } else {
        (template.value.clone(), old.value["template"].clone())
    };
    if !same(&now, &then) {
        faults.invalid(&template, "field is immutable");
    }
}

/// An indexed job may grow and shrink, with its parallelism.
fn completions_update(spec: &At<'_, '_>, old: &At<'_, '_>, faults: &mut Faults) {
    let completions = spec.get("completions");
    if spec.get("completionMode").text() != "Indexed" {
        faults.immutable(&completions, &old.get("completions"));
    } else if !same(completions.value, old.get("completions").value)
        && completions.is_set()
        && completions.int() != spec.get("parallelism").int()
    {
        faults.invalid(&completions, "can only be modified in tandem with spec.parallelism");
    }
}

/// A template without what may change while its job is suspended and never ran.
fn schedulable(template: &Value) -> Value {
    let mut template = template.clone();
    for path in [
        "/spec/nodeSelector",
        "/spec/tolerations",
        "/spec/schedulingGates",
        "/metadata/labels",
        "/metadata/annotations",
    ] {
        if let Some(at) = template.pointer_mut(path) {
            *at = Value::Null;
        }
    }
    if let Some(affinity) = template.pointer_mut("/spec/affinity/nodeAffinity") {
        *affinity = Value::Null;
    }
    if template.pointer("/metadata").is_some_and(|metadata| same(metadata, &json!({}))) {
        template["metadata"] = Value::Null;
    }
    template
}
