//! From a service's name to where it is reached.

use std::sync::Arc;

use sampan_api::Gvr;
use serde_json::Value;

use crate::cache::Cache;
use crate::registry::Registry;

const SERVICES: Gvr = Gvr::new("", "v1", "services");

/// The services of the cluster.
#[derive(Clone)]
pub struct Services {
    cache: Arc<Cache>,
}

/// A port of a service.
#[derive(Clone)]
pub struct ServiceTarget {
    pub services: Services,
    pub namespace: String,
    pub name: String,
    pub port: u16,
}

/// Why a service leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    #[error("service {0:?} not found")]
    NotFound(String),
    #[error("no service port {port} found for service {name:?}")]
    NoPort { name: String, port: u16 },
    #[error("cannot route to service with ClusterIP \"None\"")]
    Headless,
    #[error("service {0:?} cannot be read")]
    Unreadable(String),
}

impl Services {
    /// The services of a registry, of which nothing else is kept.
    pub fn of(registry: &Registry) -> Self {
        let services = registry.resource(&SERVICES).expect("services are built in");
        Services { cache: services.cache }
    }
}

impl ServiceTarget {
    /// `name.namespace.svc`: the name that the service's certificate is for.
    pub fn host(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }

    /// Host and port to connect to: the cluster IP, or the name that the service stands for.
    pub fn resolve(&self) -> Result<(String, u16), ServiceError> {
        let found = self.services.cache.get(&format!("{}/{}", self.namespace, self.name));
        let found = found.ok_or_else(|| ServiceError::NotFound(self.name.clone()))?;
        let service: Value = found.decode().map_err(|_| ServiceError::Unreadable(self.name.clone()))?;
        address(&service, &self.name, self.port)
    }
}

fn address(service: &Value, name: &str, port: u16) -> Result<(String, u16), ServiceError> {
    let spec = &service["spec"];
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    if text("type") == "ExternalName" {
        return Ok((text("externalName"), port));
    }
    match text("clusterIP").as_str() {
        "" | "None" => return Err(ServiceError::Headless),
        _ => {}
    }
    let ports = spec["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !ports.iter().any(|one| one["port"].as_u64() == Some(u64::from(port))) {
        return Err(ServiceError::NoPort { name: name.to_owned(), port });
    }
    Ok((text("clusterIP"), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_leads_to_its_address() {
        let check = |spec: Value, expected: Result<(&str, u16), &str>| {
            let expected = expected.map(|(host, port)| (host.to_owned(), port)).map_err(str::to_owned);
            let found = address(&json!({"spec": spec}), "s", 443).map_err(|error| error.to_string());
            assert_eq!(found, expected);
        };
        let ports = json!([{"port": 80}, {"port": 443, "targetPort": 8443}]);
        check(json!({"type": "ClusterIP", "clusterIP": "10.0.0.9", "ports": ports}), Ok(("10.0.0.9", 443)));
        check(json!({"type": "NodePort", "clusterIP": "fd00::9", "ports": ports}), Ok(("fd00::9", 443)));
        check(json!({"type": "ExternalName", "externalName": "a.example"}), Ok(("a.example", 443)));
        check(
            json!({"type": "ClusterIP", "clusterIP": "None", "ports": ports}),
            Err("cannot route to service with ClusterIP \"None\""),
        );
        check(
            json!({"type": "ClusterIP", "clusterIP": "10.0.0.9", "ports": [{"port": 80}]}),
            Err("no service port 443 found for service \"s\""),
        );
    }
}
