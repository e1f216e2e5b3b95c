//! What the index needs of services and endpoint slices, read from their JSON.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::Name;
use sampan_api::object::Object;
use serde::Deserialize;

/// A service, as names see it.
#[derive(Clone, Debug)]
pub struct Service {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub kind: ServiceKind,
    pub ports: Vec<Port>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready: bool,
}

#[derive(Clone, Debug)]
pub enum ServiceKind {
    /// With cluster IPs; none while they are not allocated.
    Cluster(Vec<IpAddr>),
    /// `clusterIP: None`: names its endpoints.
    Headless,
    /// `ExternalName`; `None` where the name is no host name (an address, for one).
    External(Option<Name>),
}

/// A named port. Both texts are in lower case.
#[derive(Clone, Debug)]
pub struct Port {
    /// Empty for the only port of a service.
    pub name: Box<str>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Box<str>,
    pub number: u16,
}

/// A slice of a service's endpoints.
#[derive(Clone, Debug)]
pub struct Slice {
    pub namespace: Arc<str>,
    pub service: Arc<str>,
    pub name: Box<str>,
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub address: IpAddr,
    /// The endpoint's `hostname`, or its address with dashes.
    pub host: Arc<str>,
    pub ready: bool,
}

/// An address as the label of a name: `10-42-0-7`, `fd00--7`.
pub fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The label of a slice that names its service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawService {
    spec: RawServiceSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawServiceSpec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    external_name: Option<String>,
    ports: Option<Vec<RawPort>>,
    publish_not_ready_addresses: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawPort {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSlice {
    endpoints: Option<Vec<RawEndpoint>>,
    ports: Option<Vec<RawPort>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawEndpoint {
    addresses: Option<Vec<String>>,
    hostname: Option<String>,
    conditions: Option<RawConditions>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawConditions {
    ready: Option<bool>,
}

fn ports(raw: Option<Vec<RawPort>>) -> Vec<Port> {
    let read = |port: RawPort| {
        Some(Port {
            name: port.name.unwrap_or_default().to_ascii_lowercase().into(),
            protocol: port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase().into(),
            number: port.port?,
        })
    };
    raw.unwrap_or_default().into_iter().filter_map(read).collect()
}

impl Service {
    /// Reads a service of the API.
    pub fn read(object: &Object) -> Result<Self, serde_json::Error> {
        let spec = object.decode::<RawService>()?.spec;
        let kind = if spec.kind.as_deref() == Some("ExternalName") {
            ServiceKind::External(spec.external_name.as_deref().and_then(host_name))
        } else if spec.cluster_ip.as_deref() == Some("None") {
            ServiceKind::Headless
        } else {
            let several = spec.cluster_ips.filter(|several| !several.is_empty());
            let texts = several.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
            ServiceKind::Cluster(texts.iter().filter_map(|text| text.parse().ok()).collect())
        };
        Ok(Service {
            namespace: Arc::from(&*object.header.namespace),
            name: Arc::from(&*object.header.name),
            kind,
            ports: ports(spec.ports),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
        })
    }
}

/// The target of an ExternalName, unless it is an address.
fn host_name(text: &str) -> Option<Name> {
    if text.is_empty() || text.parse::<IpAddr>().is_ok() {
        return None;
    }
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

impl Slice {
    /// The service whose endpoints an object holds; `None` for slices of no service.
    pub fn service_of(object: &Object) -> Option<&str> {
        object.header.label(SERVICE_LABEL).filter(|service| !service.is_empty())
    }

    /// Reads a slice of the API; `None` if it belongs to no service.
    pub fn read(object: &Object) -> Result<Option<Self>, serde_json::Error> {
        let Some(service) = Slice::service_of(object) else { return Ok(None) };
        let raw: RawSlice = object.decode()?;
        let endpoints = raw.endpoints.unwrap_or_default().into_iter().flat_map(|endpoint| {
            let ready = endpoint.conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
            let hostname = endpoint.hostname.filter(|name| !name.is_empty());
            let hostname = hostname.map(|name| name.to_ascii_lowercase());
            // Of an endpoint's addresses, which are interchangeable, only the first is used.
            let address = endpoint.addresses.unwrap_or_default().into_iter().next();
            let address: Option<IpAddr> = address.and_then(|address| address.parse().ok());
            address.map(|address| Endpoint {
                address,
                host: hostname.unwrap_or_else(|| dashed(address)).into(),
                ready,
            })
        });
        Ok(Some(Slice {
            namespace: Arc::from(&*object.header.namespace),
            service: Arc::from(service),
            name: object.header.name.clone(),
            endpoints: endpoints.collect(),
            ports: ports(raw.ports),
        }))
    }
}
