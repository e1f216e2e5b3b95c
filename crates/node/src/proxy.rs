//! Services on this node: follows Services and EndpointSlices and keeps the packet rules equal to
//! them. Also what pods and the node's DNS are told of services: [`ServiceView`].
//!
//! A burst of changes becomes one transaction: while one is applied, the next ones gather.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::RwLock;
use sampan_client::typed::Resource;
use sampan_client::{Client, Informer, InformerEvent, ListOptions};
use sampan_net::{Affinity, NodeNetwork, Protocol, ServicePort, ServiceRules, ServiceTable, TrafficPolicy};
use tokio::sync::{mpsc, watch};

use crate::host_ports::HostPorts;
use crate::images::chain;

const RETRY_FROM: Duration = Duration::from_millis(100);
const RETRY_TO: Duration = Duration::from_secs(30);
/// The label that ties a slice to its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

type Key = (String, String);

/// What the node knows of services: shared by proxy, pods and DNS.
#[derive(Default)]
pub struct ServiceView {
    known: RwLock<Known>,
    synced: watch::Sender<bool>,
    /// Addresses of ready endpoints that the rules in force lead to.
    in_force: watch::Sender<Arc<HashSet<IpAddr>>>,
    /// Rises with every change of what is known.
    generation: watch::Sender<u64>,
    applied: watch::Sender<bool>,
    pub host_ports: HostPorts,
}

#[derive(Default)]
struct Known {
    services: BTreeMap<Key, Arc<Service>>,
    /// By namespace and name of the service, then by the slice's name.
    slices: BTreeMap<Key, BTreeMap<String, Arc<EndpointSlice>>>,
}

impl ServiceView {
    /// The services that a pod of a namespace may hear of: its own and the API server's. Waits until
    /// services were listed once.
    pub async fn announced(&self, namespace: &str) -> Vec<Arc<Service>> {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as `self`.
        let _ = synced.wait_for(|synced| *synced).await;
        let known = self.known.read();
        let own = known.services.iter().filter(|((of, _), _)| of == namespace || of == "default");
        own.map(|(_, service)| service.clone()).collect()
    }

    /// A service, for DNS.
    pub fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.known.read().services.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// The service with a cluster IP, for reverse look-ups.
    pub fn service_of_ip(&self, ip: IpAddr) -> Option<Arc<Service>> {
        let text = ip.to_string();
        let has = |service: &&Arc<Service>| {
            service
                .spec
                .as_ref()
                .and_then(|spec| spec.cluster_ips.as_ref())
                .is_some_and(|ips| ips.contains(&text))
        };
        self.known.read().services.values().find(has).cloned()
    }

    /// The slices of a service, for DNS.
    pub fn slices(&self, namespace: &str, name: &str) -> Vec<Arc<EndpointSlice>> {
        let known = self.known.read();
        let slices = known.slices.get(&(namespace.to_owned(), name.to_owned()));
        slices.map(|slices| slices.values().cloned().collect()).unwrap_or_default()
    }

    /// Changes whenever services or slices do.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Waits until no rule in force leads to these addresses as ready endpoints.
    pub async fn drained(&self, ips: &[IpAddr]) {
        let mut in_force = self.in_force.subscribe();
        // The sender lives as long as `self`.
        let _ = in_force.wait_for(|in_force| !ips.iter().any(|ip| in_force.contains(ip))).await;
    }

    /// Waits until the rules of what was first listed are in force.
    pub async fn ready(&self) {
        let mut applied = self.applied.subscribe();
        // The sender lives as long as `self`.
        let _ = applied.wait_for(|applied| *applied).await;
    }

    fn set_service(&self, service: Service) {
        let key = key(&service.metadata);
        self.known.write().services.insert(key, Arc::new(service));
    }

    fn set_slice(&self, slice: EndpointSlice) {
        let (namespace, name) = key(&slice.metadata);
        let Some(service) = owner(&slice) else { return };
        self.known.write().slices.entry((namespace, service)).or_default().insert(name, Arc::new(slice));
    }

    fn remove_slice(&self, slice: &EndpointSlice) {
        let (namespace, name) = key(&slice.metadata);
        let Some(service) = owner(slice) else { return };
        let key = (namespace, service);
        let mut known = self.known.write();
        if let Some(slices) = known.slices.get_mut(&key) {
            slices.remove(&name);
            if slices.is_empty() {
                known.slices.remove(&key);
            }
        }
    }

    /// The planner's input, and the addresses of ready endpoints in it.
    fn table(&self) -> (ServiceTable, HashSet<IpAddr>) {
        let known = self.known.read();
        let mut ready = HashSet::new();
        let services = known.services.iter().filter_map(|(key, service)| {
            let slices = known.slices.get(key);
            service_rules(service, slices.into_iter().flat_map(BTreeMap::values), &mut ready)
        });
        let services = services.collect();
        (ServiceTable { services, host_ports: self.host_ports.all() }, ready)
    }
}

fn key(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Key {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn owner(slice: &EndpointSlice) -> Option<String> {
    slice.metadata.labels.as_ref()?.get(SERVICE_NAME).cloned()
}

/// What the planner needs of one service; `None` for those without a cluster IP.
fn service_rules<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a Arc<EndpointSlice>>,
    ready: &mut HashSet<IpAddr>,
) -> Option<sampan_net::Service> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let parse = |texts: &[String]| texts.iter().filter_map(|text| text.parse().ok()).collect::<Vec<IpAddr>>();
    let cluster_ips = match spec.cluster_ips.as_deref() {
        Some(ips) if !ips.is_empty() => parse(ips),
        Some(_) | None => parse(spec.cluster_ip.as_slice()),
    };
    if cluster_ips.is_empty() {
        return None;
    }
    let slices: Vec<&Arc<EndpointSlice>> = slices.collect();
    let policy = |text: Option<&str>| {
        if text == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
    };
    let timeout = || {
        let config = spec.session_affinity_config.as_ref()?.client_ip.as_ref()?;
        u32::try_from(config.timeout_seconds?).ok()
    };
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ports = spec.ports.as_deref().unwrap_or_default().iter().filter_map(|port| {
        let name = port.name.clone().unwrap_or_default();
        Some(ServicePort {
            endpoints: endpoints(&slices, &name, ready),
            name,
            protocol: protocol(port.protocol.as_deref()),
            port: u16::try_from(port.port).ok()?,
            node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
        })
    });
    Some(sampan_net::Service {
        namespace: service.metadata.namespace.clone().unwrap_or_default(),
        name: service.metadata.name.clone().unwrap_or_default(),
        ports: ports.collect(),
        cluster_ips,
        external_ips: parse(spec.external_ips.as_deref().unwrap_or_default()),
        load_balancer_ips: ingress
            .and_then(|balancer| balancer.ingress.as_ref())
            .into_iter()
            .flatten()
            .filter_map(|ingress| ingress.ip.as_deref()?.parse().ok())
            .collect(),
        load_balancer_source_ranges: spec
            .load_balancer_source_ranges
            .iter()
            .flatten()
            .filter_map(|range| range.parse().ok())
            .collect(),
        affinity: match spec.session_affinity.as_deref() {
            Some("ClientIP") => Affinity::ClientIp { timeout_seconds: timeout().unwrap_or(10_800) },
            Some(_) | None => Affinity::None,
        },
        internal_traffic_policy: policy(spec.internal_traffic_policy.as_deref()),
        external_traffic_policy: policy(spec.external_traffic_policy.as_deref()),
    })
}

fn protocol(text: Option<&str>) -> Protocol {
    match text {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) | None => Protocol::Tcp,
    }
}

/// The endpoints of a port: those that are ready or, when none is, those that serve while they end.
fn endpoints(slices: &[&Arc<EndpointSlice>], port: &str, ready: &mut HashSet<IpAddr>) -> Vec<SocketAddr> {
    let mut good = BTreeSet::new();
    let mut ending = BTreeSet::new();
    for slice in slices.iter().filter(|slice| slice.address_type != "FQDN") {
        let number = slice
            .ports
            .iter()
            .flatten()
            .find(|candidate| candidate.name.as_deref().unwrap_or_default() == port)
            .and_then(|found| u16::try_from(found.port?).ok());
        let Some(number) = number else { continue };
        for endpoint in &slice.endpoints {
            let conditions = endpoint.conditions.as_ref();
            let is_ready = conditions.and_then(|all| all.ready).unwrap_or(true);
            let serves = conditions.and_then(|all| all.serving).unwrap_or(is_ready);
            let ends = conditions.and_then(|all| all.terminating).unwrap_or(false);
            for address in endpoint.addresses.iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
                if is_ready && !ends {
                    good.insert(SocketAddr::new(address, number));
                    ready.insert(address);
                } else if serves && ends {
                    ending.insert(SocketAddr::new(address, number));
                }
            }
        }
    }
    if good.is_empty() { ending.into_iter().collect() } else { good.into_iter().collect() }
}

/// Keeps the rules; runs until it is dropped. `enabled` is whether this node carries services at
/// all: without, only the view is kept.
pub async fn run(client: Client, network: NodeNetwork, view: Arc<ServiceView>, enabled: bool) {
    let (service_sender, mut services) = mpsc::unbounded_channel();
    let (slice_sender, mut slices) = mpsc::unbounded_channel();
    let all = ListOptions::default;
    let service_informer = Informer::start(client.clone(), Service::gvr(), None, all(), service_sender);
    let slice_informer = Informer::start(client, EndpointSlice::gvr(), None, all(), slice_sender);
    let mut rules = Some(ServiceRules::new());
    let mut host_ports = view.host_ports.changes();
    let mut dirty = false;
    let mut delay = RETRY_FROM;
    loop {
        tokio::select! {
            Ok(()) = host_ports.changed() => {}
            Some(event) = services.recv() => take_service(&view, event),
            Some(event) = slices.recv() => take_slice(&view, event),
            () = tokio::time::sleep(delay), if dirty => {}
        }
        // A burst is one change.
        while let Ok(event) = services.try_recv() {
            take_service(&view, event);
        }
        while let Ok(event) = slices.try_recv() {
            take_slice(&view, event);
        }
        view.generation.send_modify(|generation| *generation += 1);
        if service_informer.is_synced() {
            view.synced.send_if_modified(|synced| !std::mem::replace(synced, true));
        }
        if !service_informer.is_synced() || !slice_informer.is_synced() {
            continue;
        }
        host_ports.mark_unchanged();
        let (table, ready) = view.table();
        let opened = table.host_ports.clone();
        let applied = if enabled { apply(&network, table, &mut rules).await } else { true };
        if applied {
            dirty = false;
            delay = RETRY_FROM;
            view.in_force.send_replace(Arc::new(ready));
            view.host_ports.are_in_force(opened);
            view.applied.send_replace(true);
        } else {
            if dirty {
                delay = (delay * 2).min(RETRY_TO);
            }
            dirty = true;
        }
    }
}

async fn apply(network: &NodeNetwork, table: ServiceTable, rules: &mut Option<ServiceRules>) -> bool {
    let mut current = rules.take().unwrap_or_default();
    let network = network.clone();
    let applied = tokio::task::spawn_blocking(move || {
        let plan = sampan_net::services::plan(&network, &table);
        let result = current.apply(plan);
        (current, result)
    });
    match applied.await {
        Ok((current, Ok(_))) => {
            *rules = Some(current);
            true
        }
        Ok((current, Err(error))) => {
            tracing::warn!(error = chain(&error), "the rules of services are not in force");
            *rules = Some(current);
            false
        }
        Err(error) => {
            tracing::error!(%error, "the task that applies the rules of services failed");
            false
        }
    }
}

fn take_service(view: &ServiceView, event: InformerEvent) {
    match event {
        InformerEvent::Applied { new, .. } => match new.decode::<Service>() {
            Ok(service) => view.set_service(service),
            Err(error) => tracing::warn!(service = new.key(), %error, "a service cannot be decoded"),
        },
        InformerEvent::Deleted(object) => {
            let key = (object.header.namespace.to_string(), object.header.name.to_string());
            view.known.write().services.remove(&key);
        }
        InformerEvent::Synced => {}
    }
}

fn take_slice(view: &ServiceView, event: InformerEvent) {
    match event {
        InformerEvent::Applied { old, new } => {
            let decoded = new.decode::<EndpointSlice>();
            if let Some(old) = old.and_then(|old| old.decode::<EndpointSlice>().ok())
                && decoded.as_ref().is_ok_and(|new| owner(new) != owner(&old))
            {
                view.remove_slice(&old);
            }
            match decoded {
                Ok(slice) => view.set_slice(slice),
                Err(error) => {
                    tracing::warn!(slice = new.key(), %error, "an endpoint slice cannot be decoded")
                }
            }
        }
        InformerEvent::Deleted(object) => {
            if let Ok(slice) = object.decode::<EndpointSlice>() {
                view.remove_slice(&slice);
            }
        }
        InformerEvent::Synced => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(services: serde_json::Value, slices: serde_json::Value) -> ServiceView {
        let view = ServiceView::default();
        for service in serde_json::from_value::<Vec<Service>>(services).expect("services") {
            view.set_service(service);
        }
        for slice in serde_json::from_value::<Vec<EndpointSlice>>(slices).expect("slices") {
            view.set_slice(slice);
        }
        view
    }

    fn slice(endpoints: serde_json::Value) -> serde_json::Value {
        json!({"metadata": {"namespace": "n", "name": "s-1", "labels": {SERVICE_NAME: "s"}}, "addressType": "IPv4",
            "ports": [{"name": "web", "port": 8080}], "endpoints": endpoints})
    }

    fn service() -> serde_json::Value {
        json!({"metadata": {"namespace": "n", "name": "s"}, "spec": {"clusterIP": "10.43.0.5",
            "clusterIPs": ["10.43.0.5"], "internalTrafficPolicy": "Local", "sessionAffinity": "ClientIP",
            "ports": [{"name": "web", "port": 80, "nodePort": 30080}]}})
    }

    fn check(endpoints: serde_json::Value, expected: &[&str], ready: &[&str]) {
        let (table, in_table) = view(json!([service()]), json!([slice(endpoints.clone())])).table();
        let got: Vec<String> =
            table.services[0].ports[0].endpoints.iter().map(SocketAddr::to_string).collect();
        assert_eq!(got, expected, "{endpoints}");
        let ready: HashSet<IpAddr> = ready.iter().map(|ip| ip.parse().expect("an address")).collect();
        assert_eq!(in_table, ready, "{endpoints}");
    }

    #[test]
    fn ready_endpoints_serve_and_ending_ones_only_when_nobody_else_does() {
        let endpoint = |ip: &str, ready: bool, serving: bool, terminating: bool| json!({"addresses": [ip], "conditions": {"ready": ready, "serving": serving, "terminating": terminating}});
        let good = endpoint("10.42.0.2", true, true, false);
        let bad = endpoint("10.42.0.3", false, false, false);
        let ending = endpoint("10.42.0.4", false, true, true);
        check(json!([good, bad, ending]), &["10.42.0.2:8080"], &["10.42.0.2"]);
        check(json!([bad, ending]), &["10.42.0.4:8080"], &[]);
        check(json!([bad]), &[], &[]);
        check(json!([{"addresses": ["10.42.0.5"]}]), &["10.42.0.5:8080"], &["10.42.0.5"]);
    }

    #[test]
    fn services_keep_their_settings_and_headless_ones_have_no_rules() {
        let mut headless = service();
        headless["metadata"]["name"] = json!("h");
        headless["spec"]["clusterIP"] = json!("None");
        headless["spec"]["clusterIPs"] = json!(["None"]);
        let (table, _) = view(json!([service(), headless]), json!([])).table();
        let [only] = table.services.as_slice() else { panic!("{table:?}") };
        assert_eq!(only.internal_traffic_policy, TrafficPolicy::Local);
        assert_eq!(only.affinity, Affinity::ClientIp { timeout_seconds: 10_800 });
        assert_eq!((only.ports[0].port, only.ports[0].node_port), (80, Some(30080)));
    }

    #[tokio::test]
    async fn draining_waits_for_the_rules() {
        let view = Arc::new(ServiceView::default());
        let ip: IpAddr = [10, 42, 0, 2].into();
        view.in_force.send_replace(Arc::new(HashSet::from([ip])));
        let waiting = tokio::spawn({
            let view = view.clone();
            async move { view.drained(&[ip]).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        view.in_force.send_replace(Arc::default());
        waiting.await.expect("it ends");
    }
}
