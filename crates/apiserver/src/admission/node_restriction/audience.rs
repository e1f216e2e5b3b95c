//! The audiences that a pod's volumes name: of tokens in projected volumes, and of the drivers of its
//! volumes.

use sampan_api::Gvr;
use serde_json::Value;

use crate::registry::Registry;

const CLAIMS: Gvr = Gvr::new("", "v1", "persistentvolumeclaims");
const VOLUMES: Gvr = Gvr::new("", "v1", "persistentvolumes");
const DRIVERS: Gvr = Gvr::new("storage.k8s.io", "v1", "csidrivers");

fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether a volume of the pod names an audience; the empty one is the API server's own.
pub fn is_referenced(registry: &Registry, pod: &Value, audience: &str) -> bool {
    let tokens = items(&pod["spec"]["volumes"])
        .iter()
        .flat_map(|volume| items(&volume["projected"]["sources"]))
        .map(|source| &source["serviceAccountToken"]);
    let named =
        |token: &&Value| token.is_object() && token["audience"].as_str().unwrap_or_default() == audience;
    tokens.clone().any(|token| named(&token))
        || items(&pod["spec"]["volumes"])
            .iter()
            .filter_map(|volume| driver(registry, pod, volume))
            .any(|driver| wants(registry, &driver, audience))
}

/// The driver of a volume of a pod.
fn driver(registry: &Registry, pod: &Value, volume: &Value) -> Option<String> {
    if let Some(driver) = volume["csi"]["driver"].as_str() {
        return Some(driver.to_owned());
    }
    let metadata = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
    let claim = match volume["persistentVolumeClaim"]["claimName"].as_str() {
        Some(claim) => claim.to_owned(),
        None if volume["ephemeral"].is_object() => {
            format!("{}-{}", metadata("name"), volume["name"].as_str()?)
        }
        None => return None,
    };
    let claim = find(registry, &CLAIMS, &format!("{}/{claim}", metadata("namespace")))?;
    let bound = find(registry, &VOLUMES, claim["spec"]["volumeName"].as_str()?)?;
    bound["spec"]["csi"]["driver"].as_str().map(str::to_owned)
}

fn wants(registry: &Registry, driver: &str, audience: &str) -> bool {
    find(registry, &DRIVERS, driver).is_some_and(|driver| {
        let requests = items(&driver["spec"]["tokenRequests"]);
        requests.iter().any(|request| request["audience"].as_str().unwrap_or_default() == audience)
    })
}

fn find(registry: &Registry, gvr: &Gvr, key: &str) -> Option<Value> {
    registry.find(gvr, key)?.decode().ok()
}
