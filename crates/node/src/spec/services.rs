//! The environment variables that announce services, as Docker links and Kubernetes name them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort};

/// The variables of the services that a pod in `namespace` sees.
///
/// `default/kubernetes` is always announced; the services of the pod's own namespace only with
/// `links`.
pub fn variables<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    namespace: &str,
    links: bool,
) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let (Some(of), Some(name)) = (&service.metadata.namespace, &service.metadata.name) else { continue };
        if cluster_ip(service).is_none() {
            continue;
        }
        let master = of == "default" && name == "kubernetes";
        if links && of == namespace {
            chosen.insert(name, service);
        } else if master {
            chosen.entry(name).or_insert(service);
        }
    }
    let mut variables = BTreeMap::new();
    for (name, service) in chosen {
        announce(&mut variables, name, service);
    }
    variables
}

fn cluster_ip(service: &Service) -> Option<&str> {
    let ip = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!ip.is_empty() && ip != "None").then_some(ip)
}

fn announce(variables: &mut BTreeMap<String, String>, name: &str, service: &Service) {
    let Some(ip) = cluster_ip(service) else { return };
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let prefix = variable_name(name);
    variables.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    variables.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|port_name| !port_name.is_empty()) {
            variables
                .insert(format!("{prefix}_SERVICE_PORT_{}", variable_name(port_name)), port.port.to_string());
        }
    }
    for (index, port) in ports.iter().enumerate() {
        link(variables, &prefix, ip, port, index == 0);
    }
}

/// What `docker --link` made.
fn link(variables: &mut BTreeMap<String, String>, prefix: &str, ip: &str, port: &ServicePort, first: bool) {
    let protocol = port.protocol.as_deref().filter(|protocol| !protocol.is_empty()).unwrap_or("TCP");
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let url = format!("{}://{host}:{}", protocol.to_ascii_lowercase(), port.port);
    if first {
        variables.insert(format!("{prefix}_PORT"), url.clone());
    }
    let base = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_ascii_uppercase());
    variables.insert(format!("{base}_PROTO"), protocol.to_ascii_lowercase());
    variables.insert(format!("{base}_PORT"), port.port.to_string());
    variables.insert(format!("{base}_ADDR"), ip.to_owned());
    variables.insert(base, url);
}

fn variable_name(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(namespace: &str, name: &str, ip: &str, ports: &[(&str, i32)]) -> Service {
        let ports: Vec<_> =
            ports.iter().map(|(name, port)| serde_json::json!({"name": name, "port": port})).collect();
        serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "ports": ports},
        }))
        .expect("a valid service")
    }

    #[test]
    fn services_are_announced_as_upstream_does() {
        let services = [
            service("default", "kubernetes", "10.0.0.1", &[("https", 443)]),
            service("a", "web-front", "10.0.0.2", &[("http", 80), ("", 81)]),
            service("a", "headless", "None", &[("", 80)]),
            service("b", "other", "10.0.0.3", &[("", 80)]),
        ];
        let all = variables(&services, "a", true);
        let check =
            |name: &str, value: &str| assert_eq!(all.get(name).map(String::as_str), Some(value), "{name}");
        check("KUBERNETES_SERVICE_HOST", "10.0.0.1");
        check("KUBERNETES_SERVICE_PORT_HTTPS", "443");
        check("KUBERNETES_PORT", "tcp://10.0.0.1:443");
        check("WEB_FRONT_SERVICE_PORT", "80");
        check("WEB_FRONT_PORT_81_TCP", "tcp://10.0.0.2:81");
        check("WEB_FRONT_PORT_81_TCP_PROTO", "tcp");
        check("WEB_FRONT_PORT_80_TCP_ADDR", "10.0.0.2");
        assert!(!all.keys().any(|name| name.starts_with("HEADLESS") || name.starts_with("OTHER")));
        let few = variables(&services, "a", false);
        assert!(
            few.keys().all(|name| name.starts_with("KUBERNETES_"))
                && few.contains_key("KUBERNETES_SERVICE_PORT")
        );
    }
}
