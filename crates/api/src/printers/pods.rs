//! Pods and templates of pods.

use serde_json::Value;

use super::{Printer, Row, age, condition, has_condition, items, labels, number, text, text_or};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "Pod" => pod,
        "PodTemplate" => pod_template,
        _ => return None,
    })
}

fn pod_template(row: &mut Row<'_>) {
    let template = &row.object["template"];
    let all = |key: &str| {
        let containers = items(&template["spec"]["containers"]).iter();
        containers.map(|one| text(&one[key])).collect::<Vec<_>>().join(",")
    };
    row.name();
    row.text("Containers", all("name"));
    row.text("Images", all("image"));
    row.text("Pod Labels", labels(&template["metadata"]["labels"]));
}

/// What the containers' statuses add up to.
struct Summary {
    reason: String,
    ready: usize,
    restarts: i64,
    /// When the last container that ran before ended, in seconds since 1970, with its text.
    last_restart: Option<(i64, Value)>,
}

impl Summary {
    fn count_restarts(&mut self, container: &Value) {
        self.restarts += number(&container["restartCount"]);
        let finished = &container["lastState"]["terminated"]["finishedAt"];
        if let Some(seconds) = super::seconds(finished)
            && self.last_restart.as_ref().is_none_or(|(last, _)| *last < seconds)
        {
            self.last_restart = Some((seconds, finished.clone()));
        }
    }
}

fn pod(row: &mut Row<'_>) {
    let (spec, status) = (row.spec(), row.status());
    let side_cars =
        items(&spec["initContainers"]).iter().filter(|one| one["restartPolicy"] == "Always").count();
    let total = items(&spec["containers"]).len() + side_cars;
    let Summary { reason, ready, restarts, last_restart } = summary(row);

    row.name();
    row.text("Ready", format!("{ready}/{total}"));
    row.text("Status", reason);
    row.text(
        "Restarts",
        match last_restart {
            Some((_, time)) if restarts != 0 => format!("{restarts} ({} ago)", age(&time, row.now)),
            Some(_) | None => restarts.to_string(),
        },
    );
    row.age();
    row.wide("IP", text_or(&status["podIPs"][0]["ip"], "<none>"));
    row.wide("Node", text_or(&spec["nodeName"], "<none>"));
    row.wide("Nominated Node", text_or(&status["nominatedNodeName"], "<none>"));
    let gates = items(&spec["readinessGates"]);
    let open = gates.iter().filter(|gate| has_condition(&status["conditions"], text(&gate["conditionType"])));
    row.wide(
        "Readiness Gates",
        match gates.len() {
            0 => "<none>".to_owned(),
            all => format!("{}/{all}", open.count()),
        },
    );
}

fn summary(row: &Row<'_>) -> Summary {
    let (spec, status) = (row.spec(), row.status());
    let conditions = &status["conditions"];
    let mut reason = text_or(&status["reason"], text(&status["phase"])).to_owned();
    if condition(conditions, "PodScheduled").is_some_and(|one| one["reason"] == "SchedulingGated") {
        "SchedulingGated".clone_into(&mut reason);
    }
    let mut init = Summary { reason, ready: 0, restarts: 0, last_restart: None };
    let mut side_cars = Summary { reason: String::new(), ready: 0, restarts: 0, last_restart: None };
    let is_initializing = initialization(spec, status, &mut init, &mut side_cars);

    let mut summary = init;
    if !is_initializing || has_condition(conditions, "Initialized") {
        (summary.restarts, summary.last_restart) = (side_cars.restarts, side_cars.last_restart);
        let has_running = containers(status, &mut summary);
        if summary.reason == "Completed" && has_running {
            let is_ready = has_condition(conditions, "Ready");
            (if is_ready { "Running" } else { "NotReady" }).clone_into(&mut summary.reason);
        }
    }
    if row.is_terminating() {
        if status["reason"] == "NodeLost" {
            "Unknown".clone_into(&mut summary.reason);
        } else if !matches!(text(&status["phase"]), "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut summary.reason);
        }
    }
    summary
}

/// How far the init containers are; false when they are all done.
fn initialization(spec: &Value, status: &Value, all: &mut Summary, side_cars: &mut Summary) -> bool {
    for (at, container) in items(&status["initContainerStatuses"]).iter().enumerate() {
        let is_side_car = items(&spec["initContainers"])
            .iter()
            .any(|one| one["name"] == container["name"] && one["restartPolicy"] == "Always");
        all.count_restarts(container);
        if is_side_car {
            side_cars.count_restarts(container);
        }
        let state = &container["state"];
        let (terminated, waiting) = (&state["terminated"], text(&state["waiting"]["reason"]));
        if terminated.is_object() && number(&terminated["exitCode"]) == 0 {
            continue;
        }
        if is_side_car && container["started"] == true {
            all.ready += usize::from(container["ready"] == true);
            continue;
        }
        all.reason = if terminated.is_object() {
            format!("Init:{}", ending(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{at}/{}", items(&spec["initContainers"]).len())
        };
        return true;
    }
    false
}

/// Goes through the containers from the last to the first, so that the first one's state counts;
/// true when one runs and is ready.
fn containers(status: &Value, summary: &mut Summary) -> bool {
    let mut has_running = false;
    for container in items(&status["containerStatuses"]).iter().rev() {
        summary.count_restarts(container);
        let state = &container["state"];
        let waiting = text(&state["waiting"]["reason"]);
        if !waiting.is_empty() {
            waiting.clone_into(&mut summary.reason);
        } else if state["terminated"].is_object() {
            summary.reason = ending(&state["terminated"]);
        } else if container["ready"] == true && state["running"].is_object() {
            has_running = true;
            summary.ready += 1;
        }
    }
    has_running
}

fn ending(terminated: &Value) -> String {
    match (text(&terminated["reason"]), number(&terminated["signal"])) {
        ("", 0) => format!("ExitCode:{}", number(&terminated["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}
