//! Jobs.

use super::text_or;
use super::{
    Printer, Row, age, containers_of, count, duration, has_condition, number, seconds, selector, text,
};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "Job" => job,
        "CronJob" => cron_job,
        _ => return None,
    })
}

fn job(row: &mut Row<'_>) {
    let (spec, status) = (row.spec(), row.status());
    let has = |kind: &str| has_condition(&status["conditions"], kind);
    let state = match () {
        () if has("Complete") => "Complete",
        () if has("Failed") => "Failed",
        () if row.is_terminating() => "Terminating",
        () if has("Suspended") => "Suspended",
        () if has("FailureTarget") => "FailureTarget",
        () if has("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    };
    let succeeded = number(&status["succeeded"]);
    let completions = match (spec["completions"].as_i64(), number(&spec["parallelism"])) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism @ 2..) => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let took = match (seconds(&status["startTime"]), seconds(&status["completionTime"])) {
        (None, _) => String::new(),
        (Some(start), None) => duration(row.now.as_second().saturating_sub(start)),
        (Some(start), Some(end)) => duration(end.saturating_sub(start)),
    };
    row.name();
    row.text("Status", state);
    row.text("Completions", completions);
    row.text("Duration", took);
    row.age();
    containers_of(row, &spec["template"]);
    row.wide("Selector", selector(&spec["selector"]));
}

fn cron_job(row: &mut Row<'_>) {
    let (spec, status) = (row.spec(), row.status());
    let last = &status["lastScheduleTime"];
    row.name();
    row.text("Schedule", text(&spec["schedule"]));
    row.text("Timezone", text_or(&spec["timeZone"], "<none>"));
    row.push(
        "Suspend",
        "boolean",
        "",
        0,
        match spec["suspend"].as_bool() {
            Some(true) => "True".into(),
            Some(false) => "False".into(),
            None => "<unset>".into(),
        },
    );
    row.number("Active", count(&status["active"]));
    row.text("Last Schedule", if last.is_null() { "<none>".to_owned() } else { age(last, row.now) });
    row.age();
    containers_of(row, &spec["jobTemplate"]["spec"]["template"]);
    row.wide("Selector", selector(&spec["jobTemplate"]["spec"]["selector"]));
}
