//! What keeps pods running: deployments, sets and their revisions.

use super::{Printer, Row, containers_of, items, labels, number, selector, selector_text, text};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "Deployment" => deployment,
        "ReplicaSet" => replica_set,
        "ReplicationController" => replication_controller,
        "StatefulSet" => stateful_set,
        "DaemonSet" => daemon_set,
        "ControllerRevision" => controller_revision,
        _ => return None,
    })
}

fn deployment(row: &mut Row<'_>) {
    let (spec, status) = (row.spec(), row.status());
    row.name();
    row.text("Ready", format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"])));
    row.text("Up-to-date", number(&status["updatedReplicas"]));
    row.text("Available", number(&status["availableReplicas"]));
    row.age();
    containers_of(row, &spec["template"]);
    row.wide("Selector", selector_text(&spec["selector"]).unwrap_or_else(|| "<invalid>".to_owned()));
}

fn replicas(row: &mut Row<'_>) {
    let (spec, status) = (row.spec(), row.status());
    row.name();
    row.number("Desired", number(&spec["replicas"]));
    row.number("Current", number(&status["replicas"]));
    row.number("Ready", number(&status["readyReplicas"]));
    row.age();
    containers_of(row, &spec["template"]);
}

fn replica_set(row: &mut Row<'_>) {
    replicas(row);
    row.wide("Selector", selector(&row.spec()["selector"]));
}

fn replication_controller(row: &mut Row<'_>) {
    replicas(row);
    row.wide("Selector", labels(&row.spec()["selector"]));
}

fn stateful_set(row: &mut Row<'_>) {
    let (spec, status) = (row.spec(), row.status());
    row.name();
    row.text("Ready", format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"])));
    row.age();
    containers_of(row, &spec["template"]);
}

fn daemon_set(row: &mut Row<'_>) {
    let (spec, status) = (row.spec(), row.status());
    row.name();
    row.number("Desired", number(&status["desiredNumberScheduled"]));
    row.number("Current", number(&status["currentNumberScheduled"]));
    row.number("Ready", number(&status["numberReady"]));
    row.number("Up-to-date", number(&status["updatedNumberScheduled"]));
    row.number("Available", number(&status["numberAvailable"]));
    row.text("Node Selector", labels(&spec["template"]["spec"]["nodeSelector"]));
    row.age();
    containers_of(row, &spec["template"]);
    row.wide("Selector", selector(&spec["selector"]));
}

fn controller_revision(row: &mut Row<'_>) {
    let owners = items(&row.object["metadata"]["ownerReferences"]);
    let controller = owners.iter().find(|owner| owner["controller"] == true).map(|owner| {
        let group = text(&owner["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
        let dot = if group.is_empty() { "" } else { "." };
        format!("{}{dot}{group}/{}", text(&owner["kind"]).to_lowercase(), text(&owner["name"]))
    });
    row.name();
    row.text("Controller", controller.unwrap_or_else(|| "<none>".to_owned()));
    row.text("Revision", number(&row.object["revision"]));
    row.age();
}
