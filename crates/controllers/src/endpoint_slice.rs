//! Endpoint slices: where the pods of a service answer.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use sampan_api::Status;
use sampan_api::object::ObjectRef;
use sampan_client::{DeleteOptions, InformerEvent, WorkQueue};

use crate::Shared;
use crate::controller::{Controller, subjects};
use crate::expectations::Expectations;
use crate::namespace::refused_by_terminating_namespace;
use crate::pods::controller_reference;
use crate::service_pods::{self, ServicePod, ServiceSelectors, selected_pods, selecting_service};
use crate::slice_packing::{Changes, HEADLESS, MANAGED_BY, SERVICE_NAME, SliceTemplate, Wanted, plan};
use crate::view::Kind;

const MANAGER: &str = "endpointslice-controller.k8s.io";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Keys are services.
#[derive(Default)]
pub(crate) struct EndpointSlices {
    selectors: ServiceSelectors,
    expectations: Expectations,
}

#[async_trait]
impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpointslice"
    }

    fn affected(&self, _: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        self.selectors.follow(kind, event, queue);
        if kind == Kind::EndpointSlice {
            note_seen(&self.expectations, event, MANAGER);
            subjects(event).filter_map(|slice| service_of(slice, MANAGER)).for_each(|key| queue.add(key));
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let service =
            selecting_service(shared, key).filter(|service| service.metadata.deletion_timestamp.is_none());
        let (Some(service), Some((namespace, name))) = (service, key.split_once('/')) else {
            self.expectations.forget(key);
            return Ok(None);
        };
        if !self.expectations.are_met(key) {
            return Ok(None);
        }
        let zones = |node: &str| {
            let node = shared.view.of(Kind::Node).get(node)?;
            node.header.label(ZONE).map(str::to_owned)
        };
        let wanted = wanted(&service, &selected_pods(shared, namespace, &service), zones);
        let existing = slices_of(shared, namespace, name, MANAGER);
        let changes = plan(&template(&service, namespace, name), existing, wanted);
        execute(shared, &self.expectations, key, namespace, changes).await
    }
}

/// The key of the service that a slice of a manager belongs to.
pub(crate) fn service_of(slice: &ObjectRef, manager: &str) -> Option<String> {
    let service = slice.header.label(SERVICE_NAME)?;
    (slice.header.label(MANAGED_BY) == Some(manager)).then(|| format!("{}/{service}", slice.header.namespace))
}

/// Takes note of a slice that the view shows for the first time, or no longer.
pub(crate) fn note_seen(expectations: &Expectations, event: &InformerEvent, manager: &str) {
    match event {
        InformerEvent::Applied { old: None, new } => {
            if let Some(key) = service_of(new, manager) {
                expectations.created(&key);
            }
        }
        InformerEvent::Deleted(old) => {
            if let Some(key) = service_of(old, manager) {
                expectations.deleted(&key, &old.header.uid);
            }
        }
        InformerEvent::Applied { old: Some(_), .. } | InformerEvent::Synced => {}
    }
}

/// The slices of a service that a manager made.
pub(crate) fn slices_of(
    shared: &Shared,
    namespace: &str,
    service: &str,
    manager: &str,
) -> Vec<EndpointSlice> {
    shared.view.list(Kind::EndpointSlice, namespace, |slice| {
        slice.header.label(SERVICE_NAME) == Some(service) && slice.header.label(MANAGED_BY) == Some(manager)
    })
}

fn template(service: &Service, namespace: &str, name: &str) -> SliceTemplate {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if service_pods::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), name.to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    SliceTemplate {
        namespace: namespace.to_owned(),
        service: name.to_owned(),
        owner: controller_reference("v1", "Service", &service.metadata),
        labels,
        annotations: None,
    }
}

/// The endpoints that a service should have. `zone` is asked for the zone of a node.
fn wanted(service: &Service, pods: &[ServicePod], zone: impl Fn(&str) -> Option<String>) -> Wanted {
    let ports = service_pods::ports(service);
    let families = service_pods::families(service);
    let mut wanted = Wanted::new();
    let mut zones: HashMap<&str, Option<String>> = HashMap::new();
    for pod in pods.iter().filter(|pod| !pod.has_ended()) {
        let resolved = pod.target_ports(ports);
        for family in &families {
            let Some(address) = pod.address(*family) else { continue };
            let node = pod.node_name();
            let zone = node.and_then(|node| zones.entry(node).or_insert_with(|| zone(node)).clone());
            let endpoint = endpoint(service, pod, address, zone);
            wanted.entry((*family, resolved.clone())).or_default().push(endpoint);
        }
    }
    if wanted.is_empty() {
        wanted.insert((families[0], Vec::new()), Vec::new());
    }
    wanted
}

fn endpoint(service: &Service, pod: &ServicePod, address: &str, zone: Option<String>) -> Endpoint {
    let (serving, terminating) = (pod.is_ready(), pod.is_terminating());
    let ready = service_pods::publishes_not_ready(service) || (serving && !terminating);
    let name = service.metadata.name.as_deref().unwrap_or_default();
    Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: pod.hostname_in(name).map(str::to_owned),
        node_name: pod.node_name().map(str::to_owned),
        target_ref: Some(pod.reference()),
        zone,
        ..Endpoint::default()
    }
}

/// Writes the changes of one service's slices, all at once.
pub(crate) async fn execute(
    shared: &Shared,
    expectations: &Expectations,
    key: &str,
    namespace: &str,
    changes: Changes,
) -> Result<Option<Duration>, Status> {
    let api = &shared.client.namespaced::<EndpointSlice>(namespace);
    expectations.expect_creations(key, changes.create.len());
    let create = async |slice: EndpointSlice| match api.create(&slice).await {
        Ok(_) => Ok(()),
        Err(status) => {
            expectations.created(key);
            if refused_by_terminating_namespace(&status) { Ok(()) } else { Err(status) }
        }
    };
    let delete = async |(name, uid): (String, String)| {
        expectations.expect_deletion(key, &uid);
        let options = DeleteOptions { uid: Some(uid.clone()), ..DeleteOptions::default() };
        match api.delete(&name, &options).await {
            Ok(()) => Ok(()),
            Err(status) => {
                expectations.deleted(key, &uid);
                if status.is_not_found() { Ok(()) } else { Err(status) }
            }
        }
    };
    // New places first, so that no moment shows fewer endpoints than before and after.
    for slice in changes.create {
        create(slice).await?;
    }
    for slice in &changes.update {
        api.update(slice).await?;
    }
    for slice in changes.delete {
        delete(slice).await?;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "n", "uid": "u"}, "spec": spec}))
            .expect("a service")
    }

    fn pod(patch: serde_json::Value) -> ServicePod {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "1"},
            "spec": {"nodeName": "a", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080, "protocol": "TCP"}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                "conditions": [{"type": "Ready", "status": "True"}]}});
        for (path, value) in patch.as_object().into_iter().flatten() {
            let (parent, name) = path.rsplit_once('/').expect("a path");
            pod.pointer_mut(parent).expect("exists")[name] = value.clone();
        }
        serde_json::from_value(pod).expect("a pod")
    }

    fn zone(node: &str) -> Option<String> {
        Some(format!("zone-of-{node}"))
    }

    #[test]
    fn conditions_follow_the_pod() {
        let plain = json!({"ports": [{"port": 80, "targetPort": "web"}]});
        let published = json!({"ports": [{"port": 80}], "publishNotReadyAddresses": true});
        let unready = json!({"/status/conditions": [{"type": "Ready", "status": "False"}]});
        let terminating = json!({"/metadata/deletionTimestamp": "2024-01-01T00:00:00Z"});
        for (spec, patch, expected) in [
            (&plain, json!({}), Some([true, true, false])),
            (&plain, unready.clone(), Some([false, false, false])),
            (&plain, terminating, Some([false, true, true])),
            (&published, unready, Some([true, false, false])),
            (&plain, json!({"/status/phase": "Succeeded"}), None),
            (&plain, json!({"/status/phase": "Failed"}), None),
            (&plain, json!({"/status/podIP": "", "/status/podIPs": []}), None),
        ] {
            let wanted = wanted(&service(spec.clone()), &[pod(patch.clone())], zone);
            let conditions =
                wanted.values().flatten().next().and_then(|endpoint| endpoint.conditions.clone());
            let flags = conditions
                .map(|one| [one.ready, one.serving, one.terminating].map(Option::unwrap_or_default));
            assert_eq!(flags, expected, "{patch}");
        }
    }

    #[test]
    fn ports_are_those_of_each_pod() {
        let named = service(json!({"ports": [{"name": "http", "port": 80, "targetPort": "web"}]}));
        let other = pod(
            json!({"/spec/containers": [{"ports": [{"name": "web", "containerPort": 9090}]}], "/metadata/uid": "2"}),
        );
        let unnamed = pod(json!({"/spec/containers": [{}], "/metadata/uid": "3"}));
        let wanted_ports: Vec<Vec<i32>> = wanted(&named, &[pod(json!({})), other, unnamed], zone)
            .into_keys()
            .map(|(_, ports)| ports.into_iter().map(|port| port.port).collect())
            .collect();
        assert_eq!(wanted_ports, [vec![], vec![8080], vec![9090]]);
        let headless = service(json!({"clusterIP": "None", "ipFamilies": ["IPv6", "IPv4"]}));
        let families: Vec<(service_pods::Family, usize)> = wanted(&headless, &[pod(json!({}))], zone)
            .into_keys()
            .map(|(family, ports)| (family, ports.len()))
            .collect();
        assert_eq!(families, [(service_pods::Family::IPv4, 0), (service_pods::Family::IPv6, 0)]);
    }

    #[test]
    fn endpoints_name_their_pod() {
        let hosted = pod(json!({"/spec/hostname": "web-0", "/spec/subdomain": "s"}));
        let service = service(json!({"ports": [{"port": 80}]}));
        let endpoint = wanted(&service, &[hosted], zone).into_values().flatten().next().expect("one");
        assert_eq!(endpoint.hostname.as_deref(), Some("web-0"));
        assert_eq!(endpoint.zone.as_deref(), Some("zone-of-a"));
        assert_eq!(endpoint.target_ref.and_then(|target| target.uid).as_deref(), Some("1"));
    }
}
