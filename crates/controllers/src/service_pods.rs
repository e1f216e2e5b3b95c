//! Which services select a pod, and what of a pod a service's endpoints show.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{ObjectReference, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use parking_lot::Mutex;
use sampan_api::object::{Header, ObjectRef};
use sampan_client::{InformerEvent, WorkQueue};
use serde::Deserialize;

use crate::Shared;
use crate::controller::subjects;
use crate::view::{Kind, decode};

/// The selectors of all services that have one, so that a pod's change finds its services without
/// decoding any.
#[derive(Default)]
pub(crate) struct ServiceSelectors {
    by_namespace: Mutex<HashMap<Box<str>, NamedSelectors>>,
}

/// By the service's name.
type NamedSelectors = HashMap<Box<str>, Selector>;
type Selector = Vec<(Box<str>, Box<str>)>;

#[derive(Deserialize)]
struct ServiceSelector {
    spec: Option<SelectorSpec>,
}

#[derive(Deserialize)]
struct SelectorSpec {
    selector: Option<std::collections::BTreeMap<Box<str>, Box<str>>>,
}

impl ServiceSelectors {
    /// Follows services and pods, and puts the keys of services whose endpoints may change into a
    /// queue.
    pub fn follow(&self, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match kind {
            Kind::Service => {
                self.learn(event);
                subjects(event).take(1).for_each(|service| queue.add(service.key()));
            }
            Kind::Pod => subjects(event).for_each(|pod| self.of(&pod.header, queue)),
            _ => {}
        }
    }

    fn learn(&self, event: &InformerEvent) {
        let mut by_namespace = self.by_namespace.lock();
        match event {
            InformerEvent::Applied { new, .. } => {
                let services = by_namespace.entry(new.header.namespace.clone()).or_default();
                let selector =
                    new.decode::<ServiceSelector>().ok().and_then(|service| service.spec?.selector);
                match selector.filter(|selector| !selector.is_empty()) {
                    Some(selector) => {
                        services.insert(new.header.name.clone(), selector.into_iter().collect())
                    }
                    None => services.remove(&new.header.name),
                };
            }
            InformerEvent::Deleted(old) => {
                if let Some(services) = by_namespace.get_mut(&old.header.namespace) {
                    services.remove(&old.header.name);
                    if services.is_empty() {
                        by_namespace.remove(&old.header.namespace);
                    }
                }
            }
            InformerEvent::Synced => {}
        }
    }

    fn of(&self, pod: &Header, queue: &WorkQueue<String>) {
        let by_namespace = self.by_namespace.lock();
        let Some(services) = by_namespace.get(&pod.namespace) else { return };
        for (name, selector) in services {
            if selector.iter().all(|(key, value)| pod.label(key) == Some(value)) {
                queue.add(format!("{}/{name}", pod.namespace));
            }
        }
    }

    /// Whether a service is there and selects pods.
    pub fn has(&self, namespace: &str, name: &str) -> bool {
        self.by_namespace.lock().get(namespace).is_some_and(|services| services.contains_key(name))
    }
}

/// What endpoints show of a pod: far less than a pod, since all pods of a service are read for
/// each change of one.
#[derive(Debug, Deserialize)]
pub(crate) struct ServicePod {
    metadata: PodMetadata,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodMetadata {
    name: String,
    namespace: Option<String>,
    uid: Option<String>,
    deletion_timestamp: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
    hostname: Option<String>,
    subdomain: Option<String>,
    containers: Vec<PodContainer>,
    init_containers: Option<Vec<PodContainer>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodContainer {
    ports: Option<Vec<ContainerPort>>,
    restart_policy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    name: Option<String>,
    container_port: i32,
    protocol: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
    conditions: Option<Vec<PodCondition>>,
}

#[derive(Debug, Deserialize)]
struct PodIp {
    #[serde(default)]
    ip: String,
}

#[derive(Debug, Deserialize)]
struct PodCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

/// The address families of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    IPv4,
    IPv6,
}

impl Family {
    pub fn as_str(self) -> &'static str {
        match self {
            Family::IPv4 => "IPv4",
            Family::IPv6 => "IPv6",
        }
    }

    pub fn of(address: &str) -> Family {
        if address.contains(':') { Family::IPv6 } else { Family::IPv4 }
    }
}

/// The port of a service on one pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TargetPort {
    pub name: String,
    pub port: i32,
    pub protocol: String,
    pub app_protocol: Option<String>,
}

impl ServicePod {
    pub fn is_ready(&self) -> bool {
        let mut conditions = self.status.conditions.iter().flatten();
        conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
    }

    pub fn is_terminating(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether nothing will answer on its address again.
    pub fn has_ended(&self) -> bool {
        matches!(self.status.phase.as_deref(), Some("Succeeded" | "Failed"))
    }

    pub fn address(&self, family: Family) -> Option<&str> {
        let listed = self.status.pod_ips.iter().flatten().map(|one| one.ip.as_str());
        let mut all = listed.chain(self.status.pod_ip.as_deref());
        all.find(|address| !address.is_empty() && Family::of(address) == family)
    }

    pub fn node_name(&self) -> Option<&str> {
        self.spec.node_name.as_deref().filter(|node| !node.is_empty())
    }

    /// The host name under which the pod is found in a service's domain.
    pub fn hostname_in(&self, service: &str) -> Option<&str> {
        let hostname = self.spec.hostname.as_deref().filter(|hostname| !hostname.is_empty())?;
        (self.spec.subdomain.as_deref() == Some(service)).then_some(hostname)
    }

    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: self.metadata.namespace.clone(),
            name: Some(self.metadata.name.clone()),
            uid: self.metadata.uid.clone(),
            ..ObjectReference::default()
        }
    }

    fn port_named(&self, name: &str, protocol: &str) -> Option<i32> {
        let sidecars = self.spec.init_containers.iter().flatten();
        let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
        let ports = self
            .spec
            .containers
            .iter()
            .chain(sidecars)
            .flat_map(|container| container.ports.iter().flatten());
        let fits = |port: &&ContainerPort| {
            port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
        };
        ports.filter(|port| port.container_port > 0).find(fits).map(|port| port.container_port)
    }

    /// The ports of a service on this pod, sorted; those that the pod does not name are left out.
    pub fn target_ports(&self, ports: &[ServicePort]) -> Vec<TargetPort> {
        let resolve = |port: &ServicePort| {
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let number = match &port.target_port {
                None => Some(port.port),
                Some(IntOrString::Int(0)) => Some(port.port),
                Some(IntOrString::Int(number)) => Some(*number),
                Some(IntOrString::String(name)) if name.is_empty() => Some(port.port),
                Some(IntOrString::String(name)) => self.port_named(name, &protocol),
            };
            let name = port.name.clone().unwrap_or_default();
            number.map(|port_number| TargetPort {
                name,
                port: port_number,
                protocol,
                app_protocol: port.app_protocol.clone(),
            })
        };
        let mut resolved: Vec<TargetPort> = ports.iter().filter_map(resolve).collect();
        resolved.sort();
        resolved
    }
}

/// The pods that a service selects, as the view has them.
pub(crate) fn selected_pods(shared: &Shared, namespace: &str, service: &Service) -> Vec<ServicePod> {
    let spec = service.spec.as_ref();
    let Some(selector) = spec.and_then(|spec| spec.selector.as_ref()) else { return Vec::new() };
    let fits = |pod: &&ObjectRef| selector.iter().all(|(key, value)| pod.header.label(key) == Some(value));
    let pods = shared.view.of(Kind::Pod).list(namespace);
    pods.iter().filter(fits).filter_map(|pod| pod.decode().ok()).collect()
}

/// A service by key, where its endpoints follow pods.
pub(crate) fn selecting_service(shared: &Shared, key: &str) -> Option<Service> {
    let service: Service = decode(&shared.view.of(Kind::Service).get(key)?)?;
    let spec = service.spec.as_ref()?;
    let selects = spec.selector.as_ref().is_some_and(|selector| !selector.is_empty());
    (selects && spec.type_.as_deref() != Some("ExternalName")).then_some(service)
}

pub(crate) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
}

/// The address families of a service, the primary one first.
pub(crate) fn families(service: &Service) -> Vec<Family> {
    let spec = service.spec.as_ref();
    let named = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    let named: Vec<Family> =
        named.iter().map(|name| if name == "IPv6" { Family::IPv6 } else { Family::IPv4 }).collect();
    if !named.is_empty() {
        return named;
    }
    let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    vec![Family::of(address)]
}

/// The ports of a service, and whether it is legal that it has none.
pub(crate) fn ports(service: &Service) -> &[ServicePort] {
    service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default()
}

pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false)
}
