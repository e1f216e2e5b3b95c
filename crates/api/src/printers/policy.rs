//! Scaling, disruption, priority and fairness.

use serde_json::Value;

use super::{Printer, Row, condition, items, number, scalar, some_of, text, text_or};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "HorizontalPodAutoscaler" => horizontal_pod_autoscaler,
        "PodDisruptionBudget" => pod_disruption_budget,
        "PriorityClass" => priority_class,
        "FlowSchema" => flow_schema,
        "PriorityLevelConfiguration" => priority_level_configuration,
        _ => return None,
    })
}

fn horizontal_pod_autoscaler(row: &mut Row<'_>) {
    let (spec, status) = (row.spec(), row.status());
    let target = &spec["scaleTargetRef"];
    row.name();
    row.text("Reference", format!("{}/{}", text(&target["kind"]), text(&target["name"])));
    row.text("Targets", metrics(spec, status));
    row.text("MinPods", spec["minReplicas"].as_i64().map_or("<unset>".to_owned(), |least| least.to_string()));
    row.text("MaxPods", number(&spec["maxReplicas"]));
    row.text("Replicas", number(&status["currentReplicas"]));
    row.age();
}

fn metrics(spec: &Value, status: &Value) -> String {
    // Version 1 knows one metric.
    if let Some(percent) = spec["targetCPUUtilizationPercentage"].as_i64() {
        let current = status["currentCPUUtilizationPercentage"].as_i64();
        let current = current.map_or("<unknown>".to_owned(), |current| format!("{current}%"));
        return format!("cpu: {current}/{percent}%");
    }
    let statuses = items(&status["currentMetrics"]);
    let all: Vec<String> = items(&spec["metrics"])
        .iter()
        .enumerate()
        .map(|(at, metric)| metric_text(metric, statuses.get(at).unwrap_or(&Value::Null)))
        .collect();
    if all.is_empty() { "<none>".to_owned() } else { some_of(&all, 2, ", ") }
}

fn metric_text(metric: &Value, status: &Value) -> String {
    let key = match text(&metric["type"]) {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".to_owned(),
    };
    let (source, target) = (&metric[key], &metric[key]["target"]);
    let current = &status[key]["current"];
    let measured = |value: &Value| if value.is_null() { "<unknown>".to_owned() } else { scalar(value) };
    let average = || format!("{}/{}", measured(&current["averageValue"]), scalar(&target["averageValue"]));
    let by_average = !target["averageValue"].is_null();
    match key {
        "pods" => average(),
        "external" | "object" if by_average => format!("{} (avg)", average()),
        "external" | "object" => format!("{}/{}", measured(&current["value"]), scalar(&target["value"])),
        _ if by_average => format!("{}: {}", text(&source["name"]), average()),
        _ => {
            let percent = |value: &Value, none: &str| {
                value.as_i64().map_or_else(|| none.to_owned(), |percent| format!("{percent}%"))
            };
            let current = percent(&current["averageUtilization"], "<unknown>");
            let target = percent(&target["averageUtilization"], "<auto>");
            format!("{}: {current}/{target}", text(&source["name"]))
        }
    }
}

fn pod_disruption_budget(row: &mut Row<'_>) {
    let spec = row.spec();
    let bound = |value: &Value| if value.is_null() { "N/A".to_owned() } else { scalar(value) };
    row.name();
    row.text("Min Available", bound(&spec["minAvailable"]));
    row.text("Max Unavailable", bound(&spec["maxUnavailable"]));
    row.number("Allowed Disruptions", number(&row.status()["disruptionsAllowed"]));
    row.age();
}

fn priority_class(row: &mut Row<'_>) {
    row.name();
    row.number("Value", number(&row.object["value"]));
    row.flag("Global-Default", row.object["globalDefault"] == true);
    row.age();
    row.text("PreemptionPolicy", text(&row.object["preemptionPolicy"]));
}

fn flow_schema(row: &mut Row<'_>) {
    let spec = row.spec();
    let dangling = condition(&row.status()["conditions"], "Dangling");
    row.name();
    row.text("PriorityLevel", text(&spec["priorityLevelConfiguration"]["name"]));
    row.text("MatchingPrecedence", number(&spec["matchingPrecedence"]));
    row.text("DistinguisherMethod", text_or(&spec["distinguisherMethod"]["type"], "<none>"));
    row.age();
    row.text("MissingPL", dangling.map_or("?", |one| text(&one["status"])));
}

fn priority_level_configuration(row: &mut Row<'_>) {
    let spec = row.spec();
    let limited = &spec["limited"];
    let queuing = &limited["limitResponse"]["queuing"];
    let or_none = |value: &Value| if value.is_null() { "<none>".into() } else { Value::from(number(value)) };
    row.name();
    row.text("Type", text(&spec["type"]));
    row.text("NominalConcurrencyShares", or_none(&limited["nominalConcurrencyShares"]));
    row.text("Queues", or_none(&queuing["queues"]));
    row.text("HandSize", or_none(&queuing["handSize"]));
    row.text("QueueLengthLimit", or_none(&queuing["queueLengthLimit"]));
    row.age();
}
