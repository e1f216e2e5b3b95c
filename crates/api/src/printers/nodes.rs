//! The cluster itself: nodes, namespaces, events, leases, runtime classes, certificates.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Printer, Row, age, condition, duration, items, number, text, text_or};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "Node" => node,
        "Namespace" => namespace,
        "Event" => event,
        "Lease" => lease,
        "RuntimeClass" => runtime_class,
        "CertificateSigningRequest" => certificate_signing_request,
        "ComponentStatus" => component_status,
        _ => return None,
    })
}

fn node(row: &mut Row<'_>) {
    let (spec, status) = (row.spec(), row.status());
    let mut state = match condition(&status["conditions"], "Ready") {
        None => "Unknown".to_owned(),
        Some(ready) if ready["status"] == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
    };
    if spec["unschedulable"] == true {
        state.push_str(",SchedulingDisabled");
    }
    let labels = row.object["metadata"]["labels"].as_object();
    let roles: BTreeSet<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None => (key == "kubernetes.io/role").then(|| text(value)),
        })
        .filter(|role| !role.is_empty())
        .collect();
    let roles = roles.into_iter().collect::<Vec<_>>().join(",");
    let address = |kind: &str| {
        let found = items(&status["addresses"]).iter().find(|address| address["type"] == kind);
        found.map_or("<none>", |address| text(&address["address"])).to_owned()
    };
    let info = &status["nodeInfo"];
    row.name();
    row.text("Status", state);
    row.text("Roles", if roles.is_empty() { "<none>".to_owned() } else { roles });
    row.age();
    row.text("Version", text(&info["kubeletVersion"]));
    row.wide("Internal-IP", address("InternalIP"));
    row.wide("External-IP", address("ExternalIP"));
    row.wide("OS-Image", text_or(&info["osImage"], "<unknown>"));
    row.wide("Kernel-Version", text_or(&info["kernelVersion"], "<unknown>"));
    row.wide("Container-Runtime", text_or(&info["containerRuntimeVersion"], "<unknown>"));
}

fn namespace(row: &mut Row<'_>) {
    row.name();
    row.text("Status", text(&row.status()["phase"]));
    row.age();
}

/// Both groups' events: `v1` and `events.k8s.io` name the same fields differently.
fn event(row: &mut Row<'_>) {
    let event = row.object;
    let either = |core: &str, other: &str| -> &Value {
        if event[core].is_null() { &event[other] } else { &event[core] }
    };
    let first = match either("firstTimestamp", "deprecatedFirstTimestamp") {
        Value::Null => age(&event["eventTime"], row.now),
        time => age(time, row.now),
    };
    let series = &event["series"];
    let (last, count) = if series.is_object() {
        (age(&series["lastObservedTime"], row.now), number(&series["count"]))
    } else {
        let last = match either("lastTimestamp", "deprecatedLastTimestamp") {
            Value::Null => first.clone(),
            time => age(time, row.now),
        };
        (last, number(either("count", "deprecatedCount")).max(1))
    };
    let about = either("involvedObject", "regarding");
    let mut target = text(&about["kind"]).to_lowercase();
    if let Some(name) = about["name"].as_str().filter(|name| !name.is_empty()) {
        target = format!("{target}/{name}");
    }
    let source = either("source", "deprecatedSource");
    let controller = text(either("reportingComponent", "reportingController"));
    let mut origin = text_or(&source["component"], controller).to_owned();
    let instance = text_or(&source["host"], text(&event["reportingInstance"]));
    if !instance.is_empty() {
        origin = format!("{origin}, {instance}");
    }
    row.text("Last Seen", last);
    row.text("Type", text(&event["type"]));
    row.text("Reason", text(&event["reason"]));
    row.text("Object", target);
    row.wide("Subobject", text(&about["fieldPath"]));
    row.wide("Source", origin);
    row.text("Message", text(either("message", "note")).trim());
    row.wide("First Seen", first);
    row.wide("Count", count);
    row.push("Name", "string", "name", 1, text(&event["metadata"]["name"]).into());
}

fn lease(row: &mut Row<'_>) {
    row.name();
    row.text("Holder", text(&row.spec()["holderIdentity"]));
    row.age();
}

fn runtime_class(row: &mut Row<'_>) {
    row.name();
    row.text("Handler", text(&row.object["handler"]));
    row.age();
}

fn certificate_signing_request(row: &mut Row<'_>) {
    let (spec, status) = (row.spec(), row.status());
    let has = |kind: &str| condition(&status["conditions"], kind).is_some();
    let mut state = match () {
        () if has("Denied") => "Denied".to_owned(),
        () if has("Approved") => "Approved".to_owned(),
        () => "Pending".to_owned(),
    };
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !text(&status["certificate"]).is_empty() {
        state.push_str(",Issued");
    }
    row.name();
    row.age();
    row.text("SignerName", text_or(&spec["signerName"], "<none>"));
    row.text("Requestor", text(&spec["username"]));
    row.text("RequestedDuration", spec["expirationSeconds"].as_i64().map_or("<none>".to_owned(), duration));
    row.text("Condition", state);
}

fn component_status(row: &mut Row<'_>) {
    let healthy = condition(&row.object["conditions"], "Healthy").unwrap_or(&Value::Null);
    row.name();
    row.text(
        "Status",
        match text(&healthy["status"]) {
            _ if healthy.is_null() => "Unknown",
            "True" => "Healthy",
            _ => "Unhealthy",
        },
    );
    row.text("Message", text(&healthy["message"]));
    row.text("Error", text(&healthy["error"]));
}
