use serde_json::{Value, json};

use super::*;
use jiff::tz::TimeZone;

fn cron(spec: Value, status: Value) -> CronJob {
    let mut spec = spec;
    spec["schedule"] = "0 * * * *".into();
    spec["jobTemplate"] = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}});
    let cron = json!({"metadata": {"name": "c", "namespace": "n", "uid": "c",
        "creationTimestamp": "2024-01-01T00:00:00Z"}, "spec": spec, "status": status});
    serde_json::from_value(cron).expect("a cron job")
}

/// A job by name and how it ended, if it did, at which minute.
fn job(name: &str, end: Option<&str>, minute: u32) -> Job {
    let at = format!("2024-01-01T00:{minute:02}:00Z");
    let conditions: Vec<Value> = end.iter().map(|end| json!({"type": end, "status": "True"})).collect();
    let completed = (end == Some("Complete")).then_some(&at);
    let job = json!({"metadata": {"name": name, "uid": name},
        "status": {"startTime": at, "completionTime": completed, "conditions": conditions}});
    serde_json::from_value(job).expect("a job")
}

fn active(names: &[&str]) -> Value {
    json!(names.iter().map(|name| json!({"name": name, "uid": name})).collect::<Vec<_>>())
}

fn planned(cron: &CronJob, jobs: &[Job], now: &str) -> Plan {
    let schedule = "0 * * * *".parse().expect("a schedule");
    plan(&Snapshot {
        cron,
        jobs,
        missing: &BTreeSet::from(["gone".to_owned()]),
        timetable: Ok(Timetable { schedule, zone: TimeZone::UTC }),
        now: now.parse().expect("a time"),
    })
}

/// `+time` creates a job for a time, `-name` deletes one; then the reasons of events.
fn steps(cron: &CronJob, jobs: &[Job], now: &str) -> Vec<String> {
    let plan = planned(cron, jobs, now);
    let mut steps: Vec<String> = plan.delete.iter().map(|(name, _)| format!("-{name}")).collect();
    steps.extend(plan.create.map(|(_, due)| format!("+{due}")));
    steps.extend(plan.events.into_iter().map(|(_, reason, _)| reason.to_owned()));
    steps
}

const BEGUN: &str = "2024-01-01T01:00:10Z";

#[test]
fn a_job_is_begun_when_it_is_due() {
    let cron = |status: Value| cron(json!({}), status);
    assert_eq!(steps(&cron(json!({})), &[], "2024-01-01T00:59:59Z"), [""; 0]);
    assert_eq!(steps(&cron(json!({})), &[], BEGUN), ["+2024-01-01T01:00:00Z"]);
    let done = json!({"lastScheduleTime": "2024-01-01T01:00:00Z"});
    assert_eq!(steps(&cron(done.clone()), &[], BEGUN), [""; 0]);
    let plan = planned(&cron(done), &[], BEGUN);
    assert_eq!(plan.again, Some(Duration::from_millis(3590 * 1000 + 100)));
    let plan = planned(&cron(json!({})), &[], BEGUN);
    let (job, due) = plan.create.expect("a job");
    assert_eq!(job.metadata.name.as_deref(), Some("c-28401180"));
    let annotations = job.metadata.annotations.as_ref().expect("annotations");
    assert_eq!(annotations[SCHEDULED_AT], "2024-01-01T01:00:00Z");
    let mut status = CronJobStatus::default();
    begun(&mut status, &job, due);
    assert_eq!(status.last_schedule_time, Some(Time(due)));
    assert_eq!(status.active.map(|active| active.len()), Some(1));
}

#[test]
fn what_was_missed_is_made_up_for_once_and_in_time() {
    let late = "2024-01-01T05:10:00Z";
    assert_eq!(steps(&cron(json!({}), json!({})), &[], late), ["+2024-01-01T05:00:00Z"]);
    let within = cron(json!({"startingDeadlineSeconds": 900}), json!({}));
    assert_eq!(steps(&within, &[], late), ["+2024-01-01T05:00:00Z"]);
    let over = cron(json!({"startingDeadlineSeconds": 300}), json!({}));
    assert_eq!(steps(&over, &[], late), [""; 0]);
    assert_eq!(
        steps(&cron(json!({}), json!({})), &[], "2024-02-01T00:00:00Z"),
        ["+2024-02-01T00:00:00Z", "TooManyMissedTimes"]
    );
    assert_eq!(steps(&cron(json!({"suspend": true}), json!({})), &[], late), [""; 0]);
}

#[test]
fn jobs_that_still_run_are_left_awaited_or_replaced() {
    let check = |policy: &str, expected: &[&str]| {
        let cron = cron(json!({"concurrencyPolicy": policy}), json!({"active": active(&["old"])}));
        assert_eq!(steps(&cron, &[job("old", None, 0)], BEGUN), expected, "{policy}");
    };
    check("Allow", &["+2024-01-01T01:00:00Z"]);
    check("Forbid", &["JobAlreadyActive"]);
    check("Replace", &["-old", "+2024-01-01T01:00:00Z"]);
}

#[test]
fn jobs_that_ended_are_counted_and_forgotten() {
    let limits = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0});
    let jobs = [
        job("second", Some("Complete"), 2),
        job("first", Some("Complete"), 1),
        job("bad", Some("Failed"), 3),
        job("runs", None, 4),
    ];
    let cron = cron(limits, json!({"active": active(&["second", "runs", "gone"])}));
    assert_eq!(
        steps(&cron, &jobs, "2024-01-01T00:30:00Z"),
        ["-first", "-bad", "SawCompletedJob", "MissingJob"]
    );
    let status = planned(&cron, &jobs, "2024-01-01T00:30:00Z").status;
    let names: Vec<_> = status.active.iter().flatten().filter_map(|active| active.name.as_deref()).collect();
    assert_eq!(names, ["runs"]);
    let last = status.last_successful_time.map(|time| time.0.to_string());
    assert_eq!(last.as_deref(), Some("2024-01-01T00:02:00Z"));
}
