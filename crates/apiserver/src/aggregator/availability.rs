//! Whether a remote server answers: the condition `Available` of its APIService.

use bytes::Bytes;
use jiff::Timestamp;
use sampan_api::{Gvr, Status};
use sampan_client::PatchKind;
use serde_json::{Value, json};

use super::remote::Remote;
use super::{APISERVICES, context};
use crate::registry::{Body, Part, Place, Registry, timestamp};

/// What a look at a remote server found.
pub struct Look {
    pub available: bool,
    /// Whether what the server says of itself, or whether it answers, is new.
    pub changed: bool,
}

/// A condition without its time of transition.
struct Found {
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// The condition of what this server answers itself.
pub fn local(now: Timestamp) -> Value {
    let found = Found {
        status: "True",
        reason: "Local",
        message: "Local APIServices are always available".to_owned(),
    };
    found.condition(now)
}

/// Looks at a remote server and writes what it found.
pub async fn look(registry: &Registry, remote: &Remote) -> Look {
    let (found, documents_changed) = match reachable(registry, remote) {
        Err(found) => (found, false),
        Ok(()) => match remote.read_documents().await {
            Ok(changed) => {
                (Found { status: "True", reason: "Passed", message: "all checks passed".to_owned() }, changed)
            }
            Err(message) => (Found { status: "False", reason: "FailedDiscoveryCheck", message }, false),
        },
    };
    let available = found.status == "True";
    let turned = remote.set_available(available);
    let condition = found.condition(Timestamp::now());
    let stored = registry.get(&APISERVICES, None, &remote.name).ok().and_then(|object| object.decode().ok());
    if stored.is_some_and(|value: Value| value["spec"] == remote.spec && differs(&value, &condition)) {
        super::log_failure(&remote.name, write(registry, &remote.name, condition).await);
    }
    Look { available, changed: documents_changed || turned }
}

impl Found {
    fn condition(&self, now: Timestamp) -> Value {
        json!({"type": "Available", "status": self.status, "reason": self.reason, "message": self.message,
            "lastTransitionTime": timestamp(now)})
    }
}

/// Whether an APIService's condition says something else.
pub fn differs(object: &Value, condition: &Value) -> bool {
    match available_condition(object) {
        Some(known) => ["status", "reason", "message"].iter().any(|field| known[*field] != condition[*field]),
        None => true,
    }
}

pub fn available_condition(object: &Value) -> Option<&Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition["type"] == "Available")
}

/// Puts the condition into the APIService's status. Its time stays while its status does.
pub async fn write(registry: &Registry, name: &str, mut condition: Value) -> Result<(), Status> {
    let resource = registry.resource(&APISERVICES)?;
    let stored: Value = registry.get(&APISERVICES, None, name)?.decode().map_err(Status::internal)?;
    if let Some(known) = available_condition(&stored).filter(|known| known["status"] == condition["status"]) {
        condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
    }
    let others = stored.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let mut conditions: Vec<Value> = others.filter(|one| one["type"] != "Available").cloned().collect();
    conditions.push(condition);
    let patch = json!({"status": {"conditions": conditions}});
    let place = Place { namespace: None, name, part: Part::Status };
    let body = Body::json(Bytes::from(patch.to_string()));
    registry.patch(&resource, place, PatchKind::Merge, &body, &mut context()).await.map(|_| ())
}

/// What the cluster's own objects say about the way to a server.
fn reachable(registry: &Registry, remote: &Remote) -> Result<(), Found> {
    let target = &remote.target;
    let (name, namespace, port) = (&target.name, &target.namespace, target.port);
    let no = |reason: &'static str, message: String| Found { status: "False", reason, message };
    let get = |resource: &'static str| -> Option<Value> {
        let object = registry.get(&Gvr::new("", "v1", resource), Some(namespace), name).ok()?;
        object.decode().ok()
    };
    let Some(service) = get("services") else {
        return Err(no("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
    };
    if service["spec"]["type"].as_str().is_some_and(|kind| kind != "ClusterIP") {
        return Ok(());
    }
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let Some(found) = ports.into_iter().find(|one| one["port"].as_u64() == Some(u64::from(port))) else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Err(no("ServicePortError", message));
    };
    let port_name = found["name"].as_str().unwrap_or_default();
    let Some(endpoints) = get("endpoints") else {
        let message = format!("cannot find endpoints for service/{name} in {namespace:?}");
        return Err(no("EndpointsNotFound", message));
    };
    let mut subsets = endpoints["subsets"].as_array().into_iter().flatten();
    let has_endpoint = subsets.any(|subset| {
        let mut ports = subset["ports"].as_array().into_iter().flatten();
        subset["addresses"].as_array().is_some_and(|addresses| !addresses.is_empty())
            && ports.any(|port| port["name"].as_str().unwrap_or_default() == port_name)
    });
    if has_endpoint {
        return Ok(());
    }
    let message = format!(
        "endpoints for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
    );
    Err(no("MissingEndpoints", message))
}
