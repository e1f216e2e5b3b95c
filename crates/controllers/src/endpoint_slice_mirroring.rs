//! Mirroring of endpoints: slices for the endpoints that somebody made for a service without a
//! selector, so that who reads slices finds them too.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions};
use sampan_api::Status;
use sampan_client::{InformerEvent, WorkQueue};

use crate::Shared;
use crate::controller::{Controller, subjects};
use crate::endpoint_slice::{execute, note_seen, service_of, slices_of};
use crate::expectations::Expectations;
use crate::pods::controller_reference;
use crate::service_pods::{Family, TargetPort};
use crate::slice_packing::{Changes, MANAGED_BY, SERVICE_NAME, SliceTemplate, Wanted, plan};
use crate::view::Kind;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints with this annotation are a lock, and no endpoints.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const NOT_MIRRORED: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// The most addresses of one subset that are mirrored.
const CAPACITY: usize = 1000;

/// Keys are endpoints, which are named as their services.
#[derive(Default)]
pub(crate) struct EndpointSliceMirrors {
    expectations: Expectations,
}

#[async_trait]
impl Controller for EndpointSliceMirrors {
    fn name(&self) -> &'static str {
        "endpointslicemirroring"
    }

    fn affected(&self, _: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match kind {
            Kind::Endpoints | Kind::Service => {
                subjects(event).take(1).for_each(|object| queue.add(object.key()))
            }
            Kind::EndpointSlice => {
                note_seen(&self.expectations, event, MANAGER);
                subjects(event).filter_map(|slice| service_of(slice, MANAGER)).for_each(|key| queue.add(key));
            }
            _ => {}
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some((namespace, name)) = key.split_once('/') else { return Ok(None) };
        if !self.expectations.are_met(key) {
            return Ok(None);
        }
        let existing = slices_of(shared, namespace, name, MANAGER);
        let service: Option<Service> = shared.view.get(Kind::Service, key);
        let own = service.is_some_and(|service| service.spec.is_none_or(|spec| spec.selector.is_none()));
        let endpoints: Option<Endpoints> = shared.view.get(Kind::Endpoints, key);
        let wanted = endpoints.as_ref().filter(|endpoints| own && is_mirrored(endpoints)).map(wanted);
        let changes = match (wanted, &endpoints) {
            (Some(wanted), Some(endpoints)) if !wanted.is_empty() => {
                plan(&template(endpoints, namespace, name), existing, wanted)
            }
            _ => {
                let names = existing.into_iter().map(|slice| {
                    (slice.metadata.name.unwrap_or_default(), slice.metadata.uid.unwrap_or_default())
                });
                Changes { delete: names.collect(), ..Changes::default() }
            }
        };
        execute(shared, &self.expectations, key, namespace, changes).await
    }
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let metadata = &endpoints.metadata;
    let skipped =
        metadata.labels.as_ref().is_some_and(|labels| labels.get(SKIP).is_some_and(|value| value == "true"));
    let lock = metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(LEADER));
    !skipped && !lock && metadata.deletion_timestamp.is_none()
}

fn template(endpoints: &Endpoints, namespace: &str, name: &str) -> SliceTemplate {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !NOT_MIRRORED.contains(&name.as_str()));
    SliceTemplate {
        namespace: namespace.to_owned(),
        service: name.to_owned(),
        owner: controller_reference("v1", "Endpoints", &endpoints.metadata),
        labels,
        annotations: Some(annotations),
    }
}

/// The slices' endpoints; empty where there is nothing to mirror.
fn wanted(endpoints: &Endpoints) -> Wanted {
    let mut wanted = Wanted::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = subset.ports.iter().flatten().map(|port| TargetPort {
            name: port.name.clone().unwrap_or_default(),
            port: port.port,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            app_protocol: port.app_protocol.clone(),
        });
        let mut ports: Vec<TargetPort> = ports.collect();
        ports.sort();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready).take(CAPACITY) {
            let group = (Family::of(&address.ip), ports.clone());
            wanted.entry(group).or_default().push(endpoint(address, ready));
        }
    }
    wanted
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn subsets_become_groups_by_family_and_ports() {
        let endpoints: Endpoints = serde_json::from_value(json!({"metadata": {"name": "s"}, "subsets": [
            {"addresses": [{"ip": "10.1.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.1.0.2"}], "ports": [{"port": 80}]},
            {"addresses": [{"ip": "10.1.0.3"}], "ports": [{"port": 90, "protocol": "UDP"}]}]}))
        .expect("endpoints");
        let counts: Vec<(Family, i32, usize)> = wanted(&endpoints)
            .into_iter()
            .map(|((family, ports), endpoints)| (family, ports[0].port, endpoints.len()))
            .collect();
        assert_eq!(counts, [(Family::IPv4, 80, 2), (Family::IPv4, 90, 1), (Family::IPv6, 80, 1)]);
    }

    #[test]
    fn locks_and_the_skipped_are_left_alone() {
        for (metadata, expected) in [
            (json!({}), true),
            (json!({"labels": {SKIP: "true"}}), false),
            (json!({"labels": {SKIP: "false"}}), true),
            (json!({"annotations": {LEADER: "{}"}}), false),
        ] {
            let endpoints: Endpoints =
                serde_json::from_value(json!({"metadata": metadata})).expect("endpoints");
            assert_eq!(is_mirrored(&endpoints), expected, "{metadata}");
        }
    }
}
