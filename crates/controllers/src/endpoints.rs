//! Endpoints: the older form of where the pods of a service answer, for clients that read it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sampan_api::Status;
use sampan_client::{DeleteOptions, InformerEvent, WorkQueue};

use crate::Shared;
use crate::controller::{Controller, subjects};
use crate::namespace::refused_by_terminating_namespace;
use crate::service_pods::{self, ServicePod, ServiceSelectors, TargetPort, selected_pods, selecting_service};
use crate::slice_packing::HEADLESS;
use crate::view::Kind;

/// The most addresses of one object.
const CAPACITY: usize = 1000;
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// Keys are services.
#[derive(Default)]
pub(crate) struct LegacyEndpoints {
    selectors: ServiceSelectors,
}

#[async_trait]
impl Controller for LegacyEndpoints {
    fn name(&self) -> &'static str {
        "endpoint"
    }

    fn affected(&self, _: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        self.selectors.follow(kind, event, queue);
        if kind != Kind::Endpoints {
            return;
        }
        for endpoints in subjects(event).take(1) {
            let header = &endpoints.header;
            // Those that nobody asks for but are this controller's have lost their service.
            let ours = header.label(MANAGED_BY) == Some(MANAGER);
            if ours || self.selectors.has(&header.namespace, &header.name) {
                queue.add(endpoints.key());
            }
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some((namespace, name)) = key.split_once('/') else { return Ok(None) };
        let api = shared.client.namespaced::<Endpoints>(namespace);
        let existing: Option<Endpoints> = shared.view.get(Kind::Endpoints, key);
        if shared.view.of(Kind::Service).get(key).is_none() {
            let Some(existing) = existing else { return Ok(None) };
            let options = DeleteOptions { uid: existing.metadata.uid, ..DeleteOptions::default() };
            return match api.delete(name, &options).await {
                Err(status) if !status.is_not_found() => Err(status),
                Ok(()) | Err(_) => Ok(None),
            };
        }
        let Some(service) =
            selecting_service(shared, key).filter(|one| one.metadata.deletion_timestamp.is_none())
        else {
            return Ok(None);
        };
        let wanted = wanted(&service, &selected_pods(shared, namespace, &service));
        let result = match existing {
            Some(existing) if is_same(&existing, &wanted) => return Ok(None),
            Some(mut existing) => {
                existing.subsets = wanted.subsets;
                existing.metadata.labels = wanted.metadata.labels;
                let annotations = existing.metadata.annotations.get_or_insert_default();
                annotations.remove(OVER_CAPACITY);
                annotations.extend(wanted.metadata.annotations.unwrap_or_default());
                api.update(&existing).await
            }
            None => api.create(&wanted).await,
        };
        match result {
            Ok(_) => Ok(None),
            // The view will show the one that is there, which brings the key back.
            Err(status) if status.is_already_exists() || refused_by_terminating_namespace(&status) => {
                Ok(None)
            }
            Err(status) => Err(status),
        }
    }
}

fn is_same(existing: &Endpoints, wanted: &Endpoints) -> bool {
    let over = |endpoints: &Endpoints| {
        let annotations = endpoints.metadata.annotations.as_ref();
        annotations.is_some_and(|annotations| annotations.contains_key(OVER_CAPACITY))
    };
    existing.subsets.as_deref().unwrap_or_default() == wanted.subsets.as_deref().unwrap_or_default()
        && existing.metadata.labels == wanted.metadata.labels
        && over(existing) == over(wanted)
}

/// Addresses that share their ports.
#[derive(Default)]
struct Group {
    ready: Vec<EndpointAddress>,
    not_ready: Vec<EndpointAddress>,
}

/// The endpoints that a service should have.
fn wanted(service: &Service, pods: &[ServicePod]) -> Endpoints {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let ports = service_pods::ports(service);
    let family = service_pods::families(service)[0];
    let publishes = service_pods::publishes_not_ready(service);
    let mut groups: BTreeMap<Vec<TargetPort>, Group> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pod.has_ended() && (publishes || !pod.is_terminating())) {
        let Some(address) = pod.address(family) else { continue };
        let resolved = pod.target_ports(ports);
        // Without ports there is nothing to reach, but for a headless service that names none.
        if resolved.is_empty() && !(service_pods::is_headless(service) && ports.is_empty()) {
            continue;
        }
        let address = EndpointAddress {
            ip: address.to_owned(),
            hostname: pod.hostname_in(name).map(str::to_owned),
            node_name: pod.node_name().map(str::to_owned),
            target_ref: Some(pod.reference()),
        };
        let group = groups.entry(resolved).or_default();
        if publishes || pod.is_ready() { group.ready.push(address) } else { group.not_ready.push(address) }
    }
    let truncated = truncate(&mut groups);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if service_pods::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    Endpoints {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: truncated
                .then(|| BTreeMap::from([(OVER_CAPACITY.to_owned(), "truncated".to_owned())])),
            ..ObjectMeta::default()
        },
        subsets: Some(groups.into_iter().map(|(ports, group)| subset(ports, group)).collect()),
    }
}

/// Drops what does not fit, unready addresses first. Answers whether anything was.
fn truncate(groups: &mut BTreeMap<Vec<TargetPort>, Group>) -> bool {
    let mut room = CAPACITY;
    let mut dropped = false;
    let mut take = |addresses: &mut Vec<EndpointAddress>| {
        addresses.sort_by(|a, b| a.ip.cmp(&b.ip));
        dropped |= addresses.len() > room;
        addresses.truncate(room);
        room -= addresses.len();
    };
    groups.values_mut().for_each(|group| take(&mut group.ready));
    groups.values_mut().for_each(|group| take(&mut group.not_ready));
    groups.retain(|_, group| !group.ready.is_empty() || !group.not_ready.is_empty());
    dropped
}

fn subset(ports: Vec<TargetPort>, group: Group) -> EndpointSubset {
    let port = |port: TargetPort| EndpointPort {
        name: Some(port.name).filter(|name| !name.is_empty()),
        port: port.port,
        protocol: Some(port.protocol),
        app_protocol: port.app_protocol,
    };
    let some = |addresses: Vec<EndpointAddress>| Some(addresses).filter(|addresses| !addresses.is_empty());
    EndpointSubset {
        addresses: some(group.ready),
        not_ready_addresses: some(group.not_ready),
        ports: Some(ports.into_iter().map(port).collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(number: usize, ready: bool, terminating: bool, port: u16) -> ServicePod {
        let deleted = terminating.then_some("2024-01-01T00:00:00Z");
        serde_json::from_value(json!({"metadata": {"name": format!("p{number}"), "uid": number.to_string(), "deletionTimestamp": deleted},
            "spec": {"nodeName": "a", "containers": [{"ports": [{"name": "web", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIP": format!("10.0.{}.{}", number / 256, number % 256),
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}}))
        .expect("a pod")
    }

    fn of(spec: Value, pods: &[ServicePod]) -> Endpoints {
        let service = json!({"metadata": {"name": "s", "labels": {"a": "b"}}, "spec": spec});
        wanted(&serde_json::from_value(service).expect("a service"), pods)
    }

    /// Addresses ready and not, and the first port, by subset.
    fn summary(endpoints: &Endpoints) -> Vec<(usize, usize, Option<i32>)> {
        let count = |addresses: &Option<Vec<EndpointAddress>>| addresses.as_ref().map_or(0, Vec::len);
        let subsets = endpoints.subsets.iter().flatten();
        let port = |subset: &EndpointSubset| subset.ports.as_ref().map(|ports| ports[0].port);
        subsets
            .map(|subset| (count(&subset.addresses), count(&subset.not_ready_addresses), port(subset)))
            .collect()
    }

    #[test]
    fn addresses_are_grouped_by_ports_and_readiness() {
        let pods = [
            pod(1, true, false, 80),
            pod(2, false, false, 80),
            pod(3, true, false, 90),
            pod(4, true, true, 80),
        ];
        let named = json!([{"port": 1, "targetPort": "web"}]);
        for (spec, expected) in [
            (json!({"ports": named}), vec![(1, 1, Some(80)), (1, 0, Some(90))]),
            (
                json!({"ports": named, "publishNotReadyAddresses": true}),
                vec![(3, 0, Some(80)), (1, 0, Some(90))],
            ),
            (json!({"ports": [{"port": 1, "targetPort": "none"}]}), vec![]),
            (json!({"clusterIP": "None"}), vec![(2, 1, None)]),
        ] {
            assert_eq!(summary(&of(spec.clone(), &pods)), expected, "{spec}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_told() {
        let pods: Vec<ServicePod> =
            (0..1100).map(|number| pod(number, number % 10 != 0, false, 80)).collect();
        let endpoints = of(json!({"ports": [{"port": 80}]}), &pods);
        assert_eq!(summary(&endpoints), [(990, 10, Some(80))]);
        let annotations = endpoints.metadata.annotations.expect("some");
        assert_eq!(annotations[OVER_CAPACITY], "truncated");
        let labels = endpoints.metadata.labels.expect("some");
        assert_eq!((labels["a"].as_str(), labels[MANAGED_BY].as_str()), ("b", MANAGER));
    }
}
