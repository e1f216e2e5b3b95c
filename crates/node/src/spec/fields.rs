//! The downward API: values of a pod's own fields and of its containers' resources.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::amounts;

/// What the downward API says about the node.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    pub host_ip: IpAddr,
    /// The pod's addresses; empty before it has any.
    pub pod_ips: Vec<IpAddr>,
    /// Allocatable CPU in millicores: stands in for a missing CPU limit.
    pub allocatable_cpu_millis: i64,
    /// Allocatable memory in bytes: stands in for a missing memory limit.
    pub allocatable_memory: i64,
    /// Allocatable local storage in bytes.
    pub allocatable_storage: i64,
}

/// A reference that names nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FieldError {
    #[error("unsupported fieldPath: {0}")]
    UnsupportedField(String),
    #[error("unsupported container resource : {0}")]
    UnsupportedResource(String),
    #[error("container {0} not found")]
    NoContainer(String),
    #[error("invalid divisor {0:?}")]
    Divisor(String),
}

/// The value of `fieldRef.fieldPath`.
pub fn pod_field(pod: &Pod, path: &str, node: &NodeFacts) -> Result<String, FieldError> {
    let spec = crate::pod::spec(pod);
    let join = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &pod.metadata.labels,
            "metadata.annotations" => &pod.metadata.annotations,
            _ => return Err(FieldError::UnsupportedField(path.to_owned())),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    match path {
        "metadata.name" => Ok(crate::pod::name(pod).to_owned()),
        "metadata.namespace" => Ok(crate::pod::namespace(pod).to_owned()),
        "metadata.uid" => Ok(crate::pod::uid(pod).to_owned()),
        "metadata.labels" => Ok(format_map(pod.metadata.labels.as_ref())),
        "metadata.annotations" => Ok(format_map(pod.metadata.annotations.as_ref())),
        "spec.nodeName" => Ok(spec.node_name.clone().unwrap_or_default()),
        "spec.serviceAccountName" => Ok(spec.service_account_name.clone().unwrap_or_default()),
        "status.hostIP" | "status.hostIPs" => Ok(node.host_ip.to_string()),
        "status.podIP" => Ok(node.pod_ips.first().map(IpAddr::to_string).unwrap_or_default()),
        "status.podIPs" => Ok(join(&node.pod_ips)),
        _ => Err(FieldError::UnsupportedField(path.to_owned())),
    }
}

/// Splits `path['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// One `key="value"` per line, sorted, with the value quoted as in Go.
fn format_map(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quote(value))).collect();
    lines.join("\n")
}

/// Go's `strconv.Quote`.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            other if (other as u32) < 0x20 || other == '\u{7f}' => {
                out.push_str(&format!("\\x{:02x}", other as u32));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// The value of a `resourceFieldRef`; `container` is the one that refers, where there is one.
pub fn resource_field(
    pod: &Pod,
    container: Option<&Container>,
    reference: &ResourceFieldSelector,
    node: &NodeFacts,
) -> Result<String, FieldError> {
    let named = reference.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        Some(name) => crate::pod::container(crate::pod::spec(pod), name)
            .ok_or_else(|| FieldError::NoContainer(name.to_owned()))?,
        None => container.ok_or_else(|| FieldError::NoContainer(String::new()))?,
    };
    let resources = container.resources.as_ref();
    let limit = |name: &str| resources.and_then(|all| all.limits.as_ref()).and_then(|all| all.get(name));
    let request = |name: &str| {
        resources.and_then(|all| all.requests.as_ref()).and_then(|all| all.get(name)).or_else(|| limit(name))
    };
    let divisor = reference.divisor.as_ref();
    match reference.resource.as_str() {
        "limits.cpu" => cpu(limit("cpu"), node.allocatable_cpu_millis, divisor),
        "requests.cpu" => cpu(request("cpu"), 0, divisor),
        "limits.memory" => bytes(limit("memory"), node.allocatable_memory, divisor),
        "requests.memory" => bytes(request("memory"), 0, divisor),
        "limits.ephemeral-storage" => bytes(limit("ephemeral-storage"), node.allocatable_storage, divisor),
        "requests.ephemeral-storage" => bytes(request("ephemeral-storage"), 0, divisor),
        other => match other.split_once('.') {
            Some(("limits", name)) if name.starts_with("hugepages-") => bytes(limit(name), 0, divisor),
            Some(("requests", name)) if name.starts_with("hugepages-") => bytes(request(name), 0, divisor),
            Some(_) | None => Err(FieldError::UnsupportedResource(other.to_owned())),
        },
    }
}

fn cpu(amount: Option<&Quantity>, otherwise: i64, divisor: Option<&Quantity>) -> Result<String, FieldError> {
    let millis = amount.map_or(otherwise, amounts::cpu_millis);
    divide(millis, divisor.map(amounts::cpu_millis), 1000, divisor)
}

fn bytes(
    amount: Option<&Quantity>,
    otherwise: i64,
    divisor: Option<&Quantity>,
) -> Result<String, FieldError> {
    divide(amount.map_or(otherwise, amounts::value), divisor.map(amounts::value), 1, divisor)
}

/// Rounds up. A divisor of zero is an unset one.
fn divide(
    amount: i64,
    by: Option<i64>,
    unset: i64,
    divisor: Option<&Quantity>,
) -> Result<String, FieldError> {
    let by = by.filter(|by| *by != 0).unwrap_or(unset);
    if by < 0 {
        return Err(FieldError::Divisor(divisor.map(|divisor| divisor.0.clone()).unwrap_or_default()));
    }
    Ok((amount.div_euclid(by) + i64::from(amount.rem_euclid(by) != 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> NodeFacts {
        NodeFacts {
            host_ip: [10, 0, 0, 9].into(),
            pod_ips: vec![[10, 0, 0, 1].into()],
            allocatable_cpu_millis: 4000,
            allocatable_memory: 1 << 30,
            allocatable_storage: 1 << 40,
        }
    }

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "1", "b": "x\"y\n"}},
            "spec": {"nodeName": "node", "serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "100Mi"}}}, {"name": "d"}]}
        }))
        .expect("a valid pod")
    }

    #[test]
    fn fields_of_the_pod() {
        let check = |path: &str, expected: Result<&str, ()>| {
            let got = pod_field(&pod(), path, &facts());
            assert_eq!(got.as_deref().map_err(|_| ()), expected, "{path}");
        };
        check("metadata.name", Ok("p"));
        check("metadata.labels['a']", Ok("1"));
        check("metadata.labels['none']", Ok(""));
        check("metadata.labels", Ok("a=\"1\"\nb=\"x\\\"y\\n\""));
        check("spec.nodeName", Ok("node"));
        check("status.podIP", Ok("10.0.0.1"));
        check("status.hostIPs", Ok("10.0.0.9"));
        check("spec.containers", Err(()));
        check("metadata.x['a']", Err(()));
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let pod = pod();
        let check = |container: &str, resource: &str, divisor: Option<&str>, expected: &str| {
            let reference = ResourceFieldSelector {
                container_name: Some(container.to_owned()),
                resource: resource.to_owned(),
                divisor: divisor.map(|divisor| Quantity(divisor.to_owned())),
            };
            let got = resource_field(&pod, None, &reference, &facts()).expect(resource);
            assert_eq!(got, expected, "{container} {resource} {divisor:?}");
        };
        check("c", "limits.cpu", None, "2");
        check("c", "limits.cpu", Some("1m"), "1500");
        check("c", "limits.cpu", Some("0"), "2");
        check("c", "requests.memory", Some("1Mi"), "100");
        check("c", "limits.memory", None, "104857600");
        check("d", "limits.cpu", None, "4");
        check("d", "limits.memory", Some("1Gi"), "1");
        check("d", "requests.cpu", None, "0");
    }
}
