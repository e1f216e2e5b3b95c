//! Services: cluster IPs and node ports.
//!
//! Both are taken from ranges under one lock, reserved before the commit and given back when it
//! does not happen. What is taken is known from the services themselves. Where other servers take from the
//! same ranges, a write that takes something also writes a guard ([`GUARD`]), on condition that nobody has
//! since this server last knew all that was taken.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use parking_lot::Mutex;
use sampan_api::status::Cause;
use sampan_api::{Gvr, Status};
use sampan_storage::{Change, Expect, StoreError, Write};
use serde_json::{Value, json};

use crate::registry::{Registry, Resource};

const SERVICES: Gvr = Gvr::new("", "v1", "services");
const STORAGE_PREFIX: &str = "/registry/services/specs/";
/// The key that every allocation of a server that is not alone writes.
const GUARD: &str = "/sampan/allocations/services";

/// An IPv4 range in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceRange {
    pub network: Ipv4Addr,
    pub prefix_length: u8,
}

/// A service range that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the service range {0:?} is not an IPv4 CIDR of /12 to /28, as 10.43.0.0/16 is")]
pub struct RangeError(String);

impl std::str::FromStr for ServiceRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let wrong = || RangeError(text.to_owned());
        let (network, length) = text.split_once('/').ok_or_else(wrong)?;
        let prefix_length = length.parse().map_err(|_| wrong())?;
        let network: Ipv4Addr = network.parse().map_err(|_| wrong())?;
        if !(12..=28).contains(&prefix_length) || network.to_bits() & (u32::MAX >> prefix_length) != 0 {
            return Err(wrong());
        }
        Ok(ServiceRange { network, prefix_length })
    }
}

impl ServiceRange {
    /// The address at an offset; 1 is the API server's own service, 10 the cluster's DNS.
    pub fn address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + offset)
    }

    fn size(&self) -> u32 {
        1 << (32 - self.prefix_length)
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() >> (32 - self.prefix_length) == self.network.to_bits() >> (32 - self.prefix_length)
    }

    /// As upstream divides the range: the lower band, of at most 256 addresses, is left to static
    /// choice while the upper one has room.
    fn dynamic_from(&self) -> u32 {
        (self.size() / 16).clamp(16.min(self.size() / 2), 256)
    }
}

impl std::fmt::Display for ServiceRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_length)
    }
}

/// What is taken of the cluster's addresses and ports.
pub struct Allocators {
    range: ServiceRange,
    node_ports: RangeInclusive<u16>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    addresses: HashSet<Ipv4Addr>,
    ports: HashSet<u16>,
    /// By `namespace/name`, so that a deletion gives back what the service held.
    held: HashMap<String, Held>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    addresses: Vec<Ipv4Addr>,
    ports: Vec<u16>,
}

/// Addresses and ports for a write that has not happened yet. Dropping it gives them back.
#[must_use = "what is reserved is given back when this is dropped"]
pub struct Reservation<'a> {
    allocators: &'a Allocators,
    key: String,
    fresh: Held,
    /// What the service holds once the write has happened.
    after: Option<Held>,
}

impl Reservation<'_> {
    /// The write happened.
    pub fn keep(mut self) {
        let Some(after) = self.after.take() else { return };
        self.fresh = Held::default();
        let mut taken = self.allocators.taken.lock();
        let before = taken.held.insert(std::mem::take(&mut self.key), after.clone()).unwrap_or_default();
        for address in before.addresses.iter().filter(|address| !after.addresses.contains(address)) {
            taken.addresses.remove(address);
        }
        for port in before.ports.iter().filter(|port| !after.ports.contains(port)) {
            taken.ports.remove(port);
        }
    }
}

impl Reservation<'_> {
    /// The guard's write, where the service takes something that others might, too.
    pub(crate) fn guarded(&self, guard: Option<Expect>) -> Option<Write> {
        let expect = guard.filter(|_| self.fresh != Held::default())?;
        Some(Write { key: GUARD.into(), expect, change: Change::Put(self.key.clone().into()) })
    }

    /// Whether no other service got any of it meanwhile.
    pub(crate) fn is_free(&self) -> bool {
        let taken = self.allocators.taken.lock();
        !self.fresh.addresses.iter().any(|address| taken.is_held(|held| held.addresses.contains(address)))
            && !self.fresh.ports.iter().any(|port| taken.is_held(|held| held.ports.contains(port)))
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.fresh == Held::default() {
            return;
        }
        let mut taken = self.allocators.taken.lock();
        // What another server's service got is not ours to give back.
        for address in &self.fresh.addresses {
            if !taken.is_held(|held| held.addresses.contains(address)) {
                taken.addresses.remove(address);
            }
        }
        for port in &self.fresh.ports {
            if !taken.is_held(|held| held.ports.contains(port)) {
                taken.ports.remove(port);
            }
        }
    }
}

impl Taken {
    fn is_held(&self, by: impl Fn(&Held) -> bool) -> bool {
        self.held.values().any(by)
    }
}

/// What the guard must be for an allocation, once the caches show all that it stands for. `None` where
/// nobody else allocates.
pub(crate) async fn guard(registry: &Registry, resource: &Resource) -> Result<Option<Expect>, StoreError> {
    if resource.def.gvr != SERVICES || !registry.is_shared() {
        return Ok(None);
    }
    let Some(stored) = registry.store().get(GUARD).await? else { return Ok(Some(Expect::Absent)) };
    registry.caches.applied(stored.revision).await;
    Ok(Some(Expect::Revision(stored.revision)))
}

impl Allocators {
    pub fn new(range: ServiceRange, node_ports: RangeInclusive<u16>) -> Self {
        Allocators { range, node_ports, taken: Mutex::default() }
    }

    pub fn range(&self) -> ServiceRange {
        self.range
    }

    /// Learns what the stored services hold.
    pub(crate) fn adopt(&self, registry: &Registry) {
        let Ok(services) = registry.resource(&SERVICES) else { return };
        let mut taken = Taken::default();
        for (key, service) in services.cache.snapshot().0 {
            let Ok(value) = service.decode::<Value>() else { continue };
            let held = held(&value);
            taken.addresses.extend(&held.addresses);
            taken.ports.extend(&held.ports);
            taken.held.insert(key.to_string(), held);
        }
        *self.taken.lock() = taken;
    }

    /// Learns what a service holds that any server stored.
    pub(crate) fn stored(&self, storage_key: &str, value: &[u8]) {
        let Some(key) = storage_key.strip_prefix(STORAGE_PREFIX) else { return };
        let Ok(value) = serde_json::from_slice::<Value>(value) else { return };
        let after = held(&value);
        let mut taken = self.taken.lock();
        let before = taken.held.insert(key.to_owned(), after.clone()).unwrap_or_default();
        for address in before.addresses.iter().filter(|address| !after.addresses.contains(address)) {
            taken.addresses.remove(address);
        }
        for port in before.ports.iter().filter(|port| !after.ports.contains(port)) {
            taken.ports.remove(port);
        }
        taken.addresses.extend(after.addresses);
        taken.ports.extend(after.ports);
    }

    /// Gives back what a deleted service held.
    pub(crate) fn deleted(&self, storage_key: &str) {
        let Some(key) = storage_key.strip_prefix(STORAGE_PREFIX) else { return };
        let mut taken = self.taken.lock();
        let Some(held) = taken.held.remove(key) else { return };
        for address in held.addresses {
            taken.addresses.remove(&address);
        }
        for port in held.ports {
            taken.ports.remove(&port);
        }
    }

    /// Gives a service the addresses and ports that it asks for. Other kinds pass through.
    pub(crate) fn reserve(
        &self,
        resource: &Resource,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Reservation<'_>, Status> {
        let mut reservation =
            Reservation { allocators: self, key: String::new(), fresh: Held::default(), after: None };
        if resource.def.gvr != SERVICES {
            return Ok(reservation);
        }
        let text =
            |pointer: &str| service.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (name, namespace) = (text("/metadata/name"), text("/metadata/namespace"));
        reservation.key = format!("{namespace}/{name}");
        let before = old.map(held).unwrap_or_default();
        let kind = text("/spec/type");
        let refuse = |field: &str, message: String| {
            let cause = Cause { reason: "FieldValueInvalid".into(), message, field: field.into() };
            Status::invalid("", "Service", &name, vec![cause])
        };
        let mut taken = self.taken.lock();
        if kind != "ExternalName" {
            self.reserve_address(service, &before, &mut taken, &mut reservation.fresh)
                .map_err(|message| refuse("spec.clusterIPs[0]", message))?;
        }
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            self.reserve_ports(service, &before, &mut taken, &mut reservation.fresh)
                .map_err(|(field, message)| refuse(&field, message))?;
        }
        drop(taken);
        reservation.after = Some(held(service));
        Ok(reservation)
    }

    fn reserve_address(
        &self,
        service: &mut Value,
        before: &Held,
        taken: &mut Taken,
        fresh: &mut Held,
    ) -> Result<(), String> {
        let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else { return Ok(()) };
        let asked = spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default().to_owned();
        if asked == "None" {
            spec.insert("clusterIPs".into(), json!(["None"]));
        } else {
            let address = if asked.is_empty() {
                let address = self.free_address(taken).ok_or("failed to allocate IP: range is full")?;
                taken.addresses.insert(address);
                fresh.addresses.push(address);
                address
            } else {
                let shown = format!("Invalid value: [\"{asked}\"]: ");
                let address: Ipv4Addr = asked.parse().map_err(|_| {
                    format!("{shown}must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
                })?;
                if !before.addresses.contains(&address) {
                    if !self.range.contains(address) {
                        return Err(format!(
                            "{shown}failed to allocate IP {address}: the provided IP ({address}) is not in the \
                             valid range. The range of valid IPs is {}",
                            self.range
                        ));
                    }
                    if !taken.addresses.insert(address) {
                        return Err(format!(
                            "{shown}failed to allocate IP {address}: provided IP is already allocated"
                        ));
                    }
                    fresh.addresses.push(address);
                }
                address
            };
            spec.insert("clusterIP".into(), address.to_string().into());
            spec.insert("clusterIPs".into(), json!([address.to_string()]));
        }
        spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
        spec.entry("ipFamilyPolicy").or_insert_with(|| "SingleStack".into());
        Ok(())
    }

    fn free_address(&self, taken: &Taken) -> Option<Ipv4Addr> {
        let (from, size) = (self.range.dynamic_from(), self.range.size());
        let upper = size - 1 - from;
        let start = rand::random_range(0..upper.max(1));
        let dynamic = (0..upper).map(|step| from + (start + step) % upper);
        dynamic
            .chain(1..from)
            .map(|offset| self.range.address(offset))
            .find(|address| !taken.addresses.contains(address))
    }

    fn reserve_ports(
        &self,
        service: &mut Value,
        before: &Held,
        taken: &mut Taken,
        fresh: &mut Held,
    ) -> Result<(), (String, String)> {
        let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        // One number may serve two protocols of the same service.
        let mut own: HashMap<u16, Vec<String>> = HashMap::new();
        for (index, port) in ports.into_iter().flatten().enumerate() {
            let field = format!("spec.ports[{index}].nodePort");
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP").to_owned();
            let asked = port.get("nodePort").and_then(Value::as_u64).unwrap_or(0);
            let number = if asked == 0 {
                let number = self.free_port(taken).ok_or_else(|| {
                    (field.clone(), "failed to allocate a nodePort: range is full".to_owned())
                })?;
                taken.ports.insert(number);
                fresh.ports.push(number);
                number
            } else {
                let in_range = u16::try_from(asked).ok().filter(|number| self.node_ports.contains(number));
                let number = in_range.ok_or_else(|| {
                    let (low, high) = (self.node_ports.start(), self.node_ports.end());
                    let message = format!(
                        "Invalid value: {asked}: provided port is not in the valid range. The range of valid ports is {low}-{high}"
                    );
                    (field.clone(), message)
                })?;
                let other_protocol = own.get(&number).is_some_and(|protocols| !protocols.contains(&protocol));
                if !other_protocol && !before.ports.contains(&number) {
                    if !taken.ports.insert(number) {
                        return Err((
                            field,
                            format!("Invalid value: {number}: provided port is already allocated"),
                        ));
                    }
                    fresh.ports.push(number);
                }
                number
            };
            own.entry(number).or_default().push(protocol);
            if let Some(port) = port.as_object_mut() {
                port.insert("nodePort".into(), number.into());
            }
        }
        Ok(())
    }

    fn free_port(&self, taken: &Taken) -> Option<u16> {
        let (low, high) = (*self.node_ports.start(), *self.node_ports.end());
        let count = u32::from(high - low) + 1;
        let start = rand::random_range(0..count);
        (0..count).map(|step| low + ((start + step) % count) as u16).find(|port| !taken.ports.contains(port))
    }
}

/// What a service holds.
fn held(service: &Value) -> Held {
    if service.pointer("/spec/type").and_then(Value::as_str) == Some("ExternalName") {
        return Held::default();
    }
    let addresses =
        service.pointer("/spec/clusterIP").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let ports =
        ports.into_iter().flatten().filter_map(|port| port.get("nodePort")?.as_u64()?.try_into().ok());
    Held { addresses: addresses.into_iter().collect(), ports: ports.filter(|port| *port != 0).collect() }
}

/// A service that changes its type gives up what the new one has no use for, where the client only
/// sends back what was allocated to it.
pub fn release(new: &mut Value, old: &Value) {
    let kind = |service: &Value| {
        service.pointer("/spec/type").and_then(Value::as_str).unwrap_or("ClusterIP").to_owned()
    };
    let has_node_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    let (kind_new, kind_old) = (kind(new), kind(old));
    let old_ports: Vec<&Value> =
        old.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten().collect();
    let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if kind_new == "ExternalName" && kind_old != "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if old.pointer(&format!("/spec/{field}")) == spec.get(field) {
                spec.remove(field);
            }
        }
    }
    if has_node_ports(&kind_old) && !has_node_ports(&kind_new) {
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(fields) = port.as_object_mut() else { continue };
            if old_ports.iter().any(|old| old.get("nodePort") == fields.get("nodePort")) {
                fields.remove("nodePort");
            }
        }
    }
}

#[cfg(test)]
mod tests;
