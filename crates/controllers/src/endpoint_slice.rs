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
    // Each family is named, also where it has no endpoints.
    let mut wanted: Wanted = families.iter().map(|family| ((*family, Vec::new()), Vec::new())).collect();
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
mod tests;
