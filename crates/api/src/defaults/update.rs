//! What the server keeps of an object when a change leaves it out.

use serde_json::{Map, Value};

use super::fields::{absent, empty, object, text};

/// Carries over from the stored object what the server allocated or alone may change, so that a
/// client can send back the manifest that it once wrote.
///
/// Runs after [`super::apply`] and before validation, on every change of the whole object (not of
/// a subresource).
pub fn prepare_update(group: &str, kind: &str, new: &mut Value, old: &Value) {
    let (Value::Object(new), Value::Object(old)) = (new, old) else { return };
    match (group, kind) {
        ("", "Namespace") => namespace(new, old),
        ("", "Service") => service(new, old),
        _ => {}
    }
}

/// Keeps a field of the stored object where the new one has none.
fn keep(new: &mut Map<String, Value>, old: &Map<String, Value>, field: &str) {
    if (absent(new, field) || text(new, field).is_empty() && new[field].is_string())
        && let Some(value) = old.get(field)
    {
        new.insert(field.to_owned(), value.clone());
    }
}

/// Finalizers of a namespace change only through its `finalize` subresource.
fn namespace(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    match old.get("spec") {
        Some(spec) => new.insert("spec".to_owned(), spec.clone()),
        None => new.remove("spec"),
    };
}

/// Addresses and node ports stay allocated while the type still needs them.
fn service(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    let (Some(spec), Some(Value::Object(old))) = (object(new, "spec"), old.get("spec")) else { return };
    let has_address = |spec: &Map<String, Value>| text(spec, "type") != "ExternalName";
    let has_node_ports =
        |spec: &Map<String, Value>| matches!(text(spec, "type"), "NodePort" | "LoadBalancer");
    let needs_health = |spec: &Map<String, Value>| {
        text(spec, "type") == "LoadBalancer" && text(spec, "externalTrafficPolicy") == "Local"
    };
    if has_address(spec) && has_address(old) {
        if text(spec, "clusterIP").is_empty() && empty(spec, "clusterIPs") {
            keep(spec, old, "clusterIP");
            if let Some(addresses) = old.get("clusterIPs") {
                spec.insert("clusterIPs".to_owned(), addresses.clone());
            }
        }
        keep(spec, old, "ipFamilies");
        keep(spec, old, "ipFamilyPolicy");
    }
    if has_node_ports(spec) && has_node_ports(old) {
        node_ports(spec, old);
    }
    if needs_health(spec) && needs_health(old) {
        keep(spec, old, "healthCheckNodePort");
    }
}

/// A port keeps its node port as long as its number and protocol do.
fn node_ports(spec: &mut Map<String, Value>, old: &Map<String, Value>) {
    let (Some(Value::Array(ports)), Some(Value::Array(old))) = (spec.get_mut("ports"), old.get("ports"))
    else {
        return;
    };
    let is_unset = |port: &Value| port["nodePort"].as_i64().unwrap_or_default() == 0;
    let mut taken: Vec<Value> = ports.iter().map(|port| port["nodePort"].clone()).collect();
    for port in ports.iter_mut().filter(|port| port.is_object() && is_unset(port)) {
        let kept = old
            .iter()
            .find(|old| old["port"] == port["port"] && old["protocol"] == port["protocol"] && !is_unset(old));
        if let Some(kept) = kept.map(|kept| kept["nodePort"].clone())
            && !taken.contains(&kept)
        {
            taken.push(kept.clone());
            port["nodePort"] = kept;
        }
    }
}
