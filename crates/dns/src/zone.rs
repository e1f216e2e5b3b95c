//! What the cluster's own names answer: Kubernetes' DNS specification 1.1.0, over the [`Index`].
//!
//! Pure. Names are compared without regard to case; an answer has the case of the question.

use std::collections::HashSet;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::IpNet;

use crate::index::{Index, Records, Server};

mod labels;
#[cfg(test)]
mod tests;

use labels::{Place, Relative};

/// The version of the specification, as `dns-version` tells it.
const SPECIFICATION: &str = "1.1.0";
/// Aliases followed within the cluster before giving up.
const ALIASES: usize = 8;

/// The cluster's domain and what is always known of it.
pub struct Zone {
    domain: Name,
    /// Seconds for which answers may be kept, positive and negative.
    ttl: u32,
    /// Addresses of this server: `ns.dns` below the domain.
    servers: Vec<IpAddr>,
    /// Networks of the cluster: names of their addresses are asked nowhere else.
    ranges: Vec<IpNet>,
    /// Where the serial of the zone starts.
    serial: u32,
}

/// What a question comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Found {
        answers: Vec<Record>,
        additionals: Vec<Record>,
    },
    /// The name is an alias for one outside; the answers so far end with it.
    Alias {
        answers: Vec<Record>,
        target: Name,
    },
    /// The name exists without records of this type; the zone's SOA.
    Empty(Record),
    /// There is no such name; the zone's SOA.
    Missing(Record),
    /// Not a name of the cluster.
    Elsewhere,
}

/// What one name comes to.
enum Step {
    Found(Vec<Record>, Vec<Record>),
    Alias(Name),
    Empty,
    Missing,
}

impl Zone {
    pub fn new(domain: &Name, ttl: u32, servers: Vec<IpAddr>, ranges: Vec<IpNet>, serial: u32) -> Self {
        let mut domain = domain.to_lowercase();
        domain.set_fqdn(true);
        Zone { domain, ttl, servers, ranges, serial }
    }

    /// Whether names below the cluster's domain end here.
    pub fn holds(&self, name: &Name) -> bool {
        self.domain.zone_of(name)
    }

    /// Answers a question. `rotation` turns the order of records, so that clients which take the
    /// first one spread.
    pub fn answer(&self, index: &Index, name: &Name, kind: RecordType, rotation: usize) -> Reply {
        if !self.holds(name) {
            return self.reverse(index, name, kind);
        }
        let mut answers: Vec<Record> = Vec::new();
        let mut name = name.clone();
        for _ in 0..ALIASES {
            match self.step(index, &name, kind, rotation) {
                Step::Found(found, additionals) => {
                    answers.extend(found);
                    return Reply::Found { answers, additionals };
                }
                Step::Empty if answers.is_empty() => return Reply::Empty(self.soa(index)),
                Step::Missing if answers.is_empty() => return Reply::Missing(self.soa(index)),
                Step::Empty | Step::Missing => break,
                Step::Alias(target) => {
                    answers.push(self.record(&name, RData::CNAME(CNAME(target.clone()))));
                    if matches!(kind, RecordType::CNAME | RecordType::ANY) {
                        break;
                    }
                    if !self.holds(&target) {
                        return Reply::Alias { answers, target };
                    }
                    name = target;
                }
            }
        }
        Reply::Found { answers, additionals: Vec::new() }
    }

    fn step(&self, index: &Index, name: &Name, kind: RecordType, rotation: usize) -> Step {
        let Some(relative) = Relative::read(name, self.domain.num_labels().into()) else {
            return Step::Missing;
        };
        match relative.place() {
            Place::Apex => self.apex(index, name, kind),
            Place::Version => match kind {
                RecordType::TXT | RecordType::ANY => {
                    let text = RData::TXT(TXT::new(vec![SPECIFICATION.to_owned()]));
                    Step::Found(vec![self.record(name, text)], Vec::new())
                }
                _ => Step::Empty,
            },
            Place::NameServer => self.addresses(name, kind, self.servers.iter().copied()),
            Place::Parent => Step::Empty,
            Place::Namespace(namespace) if index.has_namespace(namespace) => Step::Empty,
            Place::Pod { namespace, address } if index.has_namespace(namespace) => match address {
                Some(address) => self.addresses(name, kind, [address].into_iter()),
                None => Step::Missing,
            },
            Place::Service { key, below } => self.service(index, name, kind, rotation, key, below),
            Place::Namespace(_) | Place::Pod { .. } | Place::Nowhere => Step::Missing,
        }
    }

    fn apex(&self, index: &Index, name: &Name, kind: RecordType) -> Step {
        let server = self.below_domain(&["ns", "dns"]);
        let additionals = || -> Vec<Record> {
            self.servers.iter().map(|address| self.record(&server, address_data(*address))).collect()
        };
        match kind {
            RecordType::SOA => Step::Found(vec![self.soa(index)], Vec::new()),
            RecordType::NS | RecordType::ANY => {
                Step::Found(vec![self.record(name, RData::NS(NS(server.clone())))], additionals())
            }
            _ => Step::Empty,
        }
    }

    fn addresses(&self, name: &Name, kind: RecordType, addresses: impl Iterator<Item = IpAddr>) -> Step {
        let wanted = addresses.filter(|address| match kind {
            RecordType::A => address.is_ipv4(),
            RecordType::AAAA => address.is_ipv6(),
            RecordType::ANY => true,
            _ => false,
        });
        let found: Vec<Record> = wanted.map(|address| self.record(name, address_data(address))).collect();
        if found.is_empty() { Step::Empty } else { Step::Found(found, Vec::new()) }
    }

    fn service(
        &self,
        index: &Index,
        name: &Name,
        kind: RecordType,
        rotation: usize,
        key: &[u8],
        below: &[u8],
    ) -> Step {
        let Some(service) = index.service(key) else { return Step::Missing };
        let records = if below.is_empty() { Some(&service.own) } else { service.below(below) };
        let Some(records) = records else { return Step::Missing };
        if let Some(alias) = &records.alias {
            return Step::Alias(alias.clone());
        }
        match kind {
            RecordType::SRV => self.servers_of(name, service, records, rotation, key),
            RecordType::A | RecordType::AAAA | RecordType::ANY => {
                let v4 = rotated(&records.v4, rotation).map(|address| IpAddr::V4(*address));
                let v6 = rotated(&records.v6, rotation).map(|address| IpAddr::V6(*address));
                self.addresses(name, kind, v4.chain(v6))
            }
            _ => Step::Empty,
        }
    }

    /// SRV records, with the addresses of what they point at.
    fn servers_of(
        &self,
        name: &Name,
        service: &crate::index::ServiceNames,
        records: &Records,
        rotation: usize,
        key: &[u8],
    ) -> Step {
        if records.servers.is_empty() {
            return Step::Empty;
        }
        let mut parts = key.split(|byte| *byte == b'.');
        let (own, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let weight = (100 / records.servers.len().min(100)) as u16;
        let mut answers = Vec::with_capacity(records.servers.len());
        let mut additionals: Vec<Record> = Vec::new();
        let mut hosts = HashSet::new();
        for Server { port, host } in rotated(&records.servers, rotation) {
            let target = match host.as_deref() {
                None => self.below_domain(&[own, namespace, b"svc"]),
                Some(host) => self.below_domain(&[host.as_bytes(), own, namespace, b"svc"]),
            };
            // A host is seen again with its next port.
            if hosts.insert(host.as_deref()) {
                let at = match host.as_deref() {
                    None => Some(&service.own),
                    Some(host) => service.below(host.as_bytes()),
                };
                if let Some(at) = at {
                    additionals.extend(at.v4.iter().map(|ip| self.record(&target, RData::A(A(*ip)))));
                    additionals.extend(at.v6.iter().map(|ip| self.record(&target, RData::AAAA(AAAA(*ip)))));
                }
            }
            answers.push(self.record(name, RData::SRV(SRV::new(0, weight, *port, target))));
        }
        Step::Found(answers, additionals)
    }

    /// Names of addresses: those of cluster IPs and of endpoints of headless services.
    fn reverse(&self, index: &Index, name: &Name, kind: RecordType) -> Reply {
        let Some(address) = labels::reverse_address(name) else { return Reply::Elsewhere };
        let names = index.names_of(address);
        if names.is_empty() {
            return if self.ranges.iter().any(|range| range.contains(&address)) {
                Reply::Missing(self.soa_of(index, reverse_zone(address)))
            } else {
                Reply::Elsewhere
            };
        }
        if !matches!(kind, RecordType::PTR | RecordType::ANY) {
            return Reply::Empty(self.soa_of(index, reverse_zone(address)));
        }
        let pointers = names.iter().map(|to| {
            let (service, namespace) = (to.service.as_bytes(), to.namespace.as_bytes());
            let target = match to.host.as_deref() {
                None => self.below_domain(&[service, namespace, b"svc"]),
                Some(host) => self.below_domain(&[host.as_bytes(), service, namespace, b"svc"]),
            };
            self.record(name, RData::PTR(PTR(target)))
        });
        Reply::Found { answers: pointers.collect(), additionals: Vec::new() }
    }

    /// The SOA record that says how long an absence may be remembered.
    pub fn soa(&self, index: &Index) -> Record {
        self.soa_of(index, self.domain.clone())
    }

    fn soa_of(&self, index: &Index, zone: Name) -> Record {
        let server = self.below_domain(&["ns", "dns"]);
        let mailbox = self.below_domain(&["hostmaster"]);
        let serial = self.serial.wrapping_add(index.changes());
        self.record(&zone, RData::SOA(SOA::new(server, mailbox, serial, 7200, 1800, 86_400, self.ttl)))
    }

    fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), self.ttl, data)
    }

    /// A name made of labels of API objects, which are short and plain.
    fn below_domain<L: AsRef<[u8]>>(&self, labels: &[L]) -> Name {
        let labels = labels.iter().map(AsRef::as_ref).chain(self.domain.iter());
        // Names of objects have at most 63 bytes, which leaves the domain 60; a longer one makes
        // a name too long for DNS, that nothing could ask for.
        Name::from_labels(labels).unwrap_or_else(|_| self.domain.clone())
    }
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}

fn reverse_zone(address: IpAddr) -> Name {
    let first = if address.is_ipv4() { "in-addr" } else { "ip6" };
    Name::from_labels([first.as_bytes(), b"arpa"]).expect("two short labels make a name")
}

/// The items from a place on, then those before it.
fn rotated<T>(items: &[T], rotation: usize) -> impl Iterator<Item = &T> {
    let at = if items.is_empty() { 0 } else { rotation % items.len() };
    items[at..].iter().chain(&items[..at])
}
