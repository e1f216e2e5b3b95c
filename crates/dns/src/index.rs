//! What names exist in the cluster: services, their endpoints and namespaces, ready to be looked
//! up.
//!
//! Pure: it is told of objects and answers look-ups. The unit of change is a service: a change of
//! it or of one of its slices makes its names anew and leaves all others alone. A look-up is one
//! or two searches of a hash map and allocates nothing.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::rr::Name;

pub mod objects;

use objects::{Port, Service, ServiceKind, Slice};

/// The records of one name. A name without any still exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    pub v4: Vec<Ipv4Addr>,
    pub v6: Vec<Ipv6Addr>,
    pub servers: Vec<Server>,
    /// The canonical name, of services of the type ExternalName.
    pub alias: Option<Name>,
}

/// Where an SRV record points: a port of the service itself or of one of its hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    pub port: u16,
    /// The label of the endpoint; `None` is the service.
    pub host: Option<Arc<str>>,
}

/// The names of one service: its own and those below it.
#[derive(Debug, Default)]
pub struct ServiceNames {
    pub own: Records,
    /// By what stands before the service's name, in lower case: `host`, `_port._protocol` or
    /// `_protocol`.
    below: HashMap<Box<[u8]>, Records>,
}

impl ServiceNames {
    /// The records of a name below the service's, given in lower case.
    pub fn below(&self, labels: &[u8]) -> Option<&Records> {
        self.below.get(labels)
    }
}

/// What an address is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReverseName {
    pub namespace: Arc<str>,
    pub service: Arc<str>,
    pub host: Option<Arc<str>>,
}

/// All names.
#[derive(Default)]
pub struct Index {
    /// By `service.namespace`.
    services: HashMap<Box<[u8]>, Entry>,
    namespaces: HashMap<Box<[u8]>, ()>,
    reverse: HashMap<IpAddr, Vec<ReverseName>>,
    changes: u32,
}

/// What is known of a service, whose slices may come before it and stay after it.
#[derive(Default)]
struct Entry {
    service: Option<Service>,
    slices: BTreeMap<Box<str>, Slice>,
    names: ServiceNames,
    addresses: Vec<(IpAddr, Option<Arc<str>>)>,
}

fn service_key(name: &str, namespace: &str) -> Box<[u8]> {
    format!("{name}.{namespace}").into_bytes().into()
}

impl Index {
    /// The names of a service, by `service.namespace` in lower case.
    pub fn service(&self, key: &[u8]) -> Option<&ServiceNames> {
        self.services.get(key).filter(|entry| entry.service.is_some()).map(|entry| &entry.names)
    }

    /// Whether a namespace exists; its name in lower case.
    pub fn has_namespace(&self, name: &[u8]) -> bool {
        self.namespaces.contains_key(name)
    }

    /// What an address is called; nothing if it is not of a service.
    pub fn names_of(&self, address: IpAddr) -> &[ReverseName] {
        self.reverse.get(&address).map_or(&[], Vec::as_slice)
    }

    /// How often this index changed (wrapping).
    pub fn changes(&self) -> u32 {
        self.changes
    }

    pub fn apply_namespace(&mut self, name: &str) {
        self.changes = self.changes.wrapping_add(1);
        self.namespaces.insert(name.as_bytes().into(), ());
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.changes = self.changes.wrapping_add(1);
        self.namespaces.remove(name.as_bytes());
    }

    pub fn apply_service(&mut self, service: Service) {
        let (name, namespace) = (service.name.clone(), service.namespace.clone());
        self.change(&name, &namespace, |entry| entry.service = Some(service));
    }

    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        self.change(name, namespace, |entry| entry.service = None);
    }

    pub fn apply_slice(&mut self, slice: Slice) {
        let (service, namespace) = (slice.service.clone(), slice.namespace.clone());
        self.change(&service, &namespace, |entry| {
            entry.slices.insert(slice.name.clone(), slice);
        });
    }

    /// Forgets a slice of a service.
    pub fn remove_slice(&mut self, namespace: &str, service: &str, slice: &str) {
        self.change(service, namespace, |entry| {
            entry.slices.remove(slice);
        });
    }

    fn change(&mut self, service: &str, namespace: &str, change: impl FnOnce(&mut Entry)) {
        self.changes = self.changes.wrapping_add(1);
        let key = service_key(service, namespace);
        let entry = self.services.entry(key.clone()).or_default();
        change(entry);
        let before = std::mem::take(&mut entry.addresses);
        entry.rebuild();
        for (address, host) in before {
            remove_reverse(&mut self.reverse, address, namespace, service, host.as_deref());
        }
        if let Some(known) = &entry.service {
            for (address, host) in &entry.addresses {
                self.reverse.entry(*address).or_default().push(ReverseName {
                    namespace: known.namespace.clone(),
                    service: known.name.clone(),
                    host: host.clone(),
                });
            }
        }
        if entry.service.is_none() && entry.slices.is_empty() {
            self.services.remove(&key);
        }
    }
}

fn remove_reverse(
    reverse: &mut HashMap<IpAddr, Vec<ReverseName>>,
    address: IpAddr,
    namespace: &str,
    service: &str,
    host: Option<&str>,
) {
    let Some(names) = reverse.get_mut(&address) else { return };
    names.retain(|name| {
        (&*name.namespace, &*name.service, name.host.as_deref()) != (namespace, service, host)
    });
    if names.is_empty() {
        reverse.remove(&address);
    }
}

impl Entry {
    fn rebuild(&mut self) {
        self.names = ServiceNames::default();
        self.addresses.clear();
        let Some(service) = &self.service else { return };
        match &service.kind {
            ServiceKind::External(alias) => self.names.own.alias = alias.clone(),
            ServiceKind::Cluster(addresses) => {
                for address in addresses {
                    self.names.own.add_address(*address);
                    self.addresses.push((*address, None));
                }
                if !addresses.is_empty() {
                    for port in &service.ports {
                        self.names.add_server(port, None);
                    }
                }
            }
            ServiceKind::Headless => {
                let publish = service.publish_not_ready;
                for slice in self.slices.values() {
                    for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready || publish) {
                        let host: Arc<str> = endpoint.host.clone();
                        self.names.own.add_address(endpoint.address);
                        let below = self.names.below.entry(host.as_bytes().into()).or_default();
                        below.add_address(endpoint.address);
                        self.addresses.push((endpoint.address, Some(host.clone())));
                        for port in &slice.ports {
                            self.names.add_server(port, Some(host.clone()));
                        }
                    }
                }
            }
        }
        // An endpoint may be in several slices.
        self.names.own.remove_repeated();
        self.names.below.values_mut().for_each(Records::remove_repeated);
        self.addresses.sort_unstable();
        self.addresses.dedup();
    }
}

impl ServiceNames {
    fn add_server(&mut self, port: &Port, host: Option<Arc<str>>) {
        let server = Server { port: port.number, host };
        self.own.servers.push(server.clone());
        if port.name.is_empty() {
            return;
        }
        let protocol = format!("_{}", port.protocol);
        let full = format!("_{}.{protocol}", port.name);
        self.below.entry(protocol.into_bytes().into()).or_default();
        self.below.entry(full.into_bytes().into()).or_default().servers.push(server);
    }
}

impl Records {
    fn add_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.v4.push(address),
            IpAddr::V6(address) => self.v6.push(address),
        }
    }

    fn remove_repeated(&mut self) {
        self.v4.sort_unstable();
        self.v4.dedup();
        self.v6.sort_unstable();
        self.v6.dedup();
        self.servers.sort_unstable();
        self.servers.dedup();
    }
}
