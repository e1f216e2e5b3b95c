//! `networking.k8s.io`, endpoint slices and endpoints.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::field::{At, Faults};
use super::metadata::unique;
use super::selector::label_selector;
use super::service::not_special;
use crate::names;

const SLICE_ENDPOINTS_MAX: usize = 1000;
const SLICE_PORTS_MAX: usize = 20_000;
const ENDPOINT_ADDRESSES_MAX: usize = 100;
const ZONE_HINTS_MAX: usize = 8;

/// Address and prefix length of a range such as `10.0.0.0/8`; `None` when it is none.
pub(super) fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length: u32 = length.parse().ok().filter(|length| is_number && *length <= bits)?;
    Some((address, length))
}

/// Whether a range holds an address of its family.
fn contains(range: (IpAddr, u32), address: IpAddr) -> bool {
    let (start, length) = range;
    let (start, address, bits) = match (start, address) {
        (IpAddr::V4(start), IpAddr::V4(address)) => {
            (u128::from(start.to_bits()), u128::from(address.to_bits()), 32)
        }
        (IpAddr::V6(start), IpAddr::V6(address)) => (start.to_bits(), address.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    (start ^ address).checked_shr(bits - length).unwrap_or_default() == 0
}

pub(super) fn ingress(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    let (rules, default) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.is_empty() && !default.is_set() {
        faults.invalid_value(
            &spec,
            &Value::Array(Vec::new()),
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if default.is_set() {
        backend(&default, faults);
    }
    for rule in rules.items() {
        let name = rule.get("host");
        if !name.text().is_empty() {
            if name.text().parse::<IpAddr>().is_ok() {
                faults.invalid(&name, "must be a DNS name, not an IP address");
            }
            host(&name, faults);
        }
        let http = rule.get("http");
        if !http.is_set() {
            continue;
        }
        if http.get("paths").is_empty() {
            faults.required(&http.get("paths"), "");
        }
        for path in http.get("paths").items() {
            ingress_path(&path, faults);
        }
    }
    for tls in spec.get("tls").items() {
        for name in tls.get("hosts").items() {
            host(&name, faults);
        }
        let secret = tls.get("secretName");
        if !secret.text().is_empty() {
            faults.named(&secret, names::dns1123_subdomain(secret.text()));
        }
    }
    let class = spec.get("ingressClassName");
    if class.is_set() {
        faults.named(&class, names::dns1123_subdomain(class.text()));
    }
}

fn host(name: &At<'_, '_>, faults: &mut Faults) {
    let rule = if name.text().contains('*') { names::wildcard_subdomain } else { names::dns1123_subdomain };
    faults.named(name, rule(name.text()));
}

fn ingress_path(entry: &At<'_, '_>, faults: &mut Faults) {
    let (kind, path) = (entry.get("pathType"), entry.get("path"));
    if !kind.is_set() {
        faults.required(&kind, "pathType must be specified");
        return;
    }
    let text = path.text();
    match kind.text() {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                faults.invalid_text(&path, text, "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(sequence) {
                    faults.invalid(&path, &format!("must not contain '{sequence}'"));
                }
            }
            for suffix in ["/..", "/."] {
                if text.ends_with(suffix) {
                    faults.invalid(&path, &format!("cannot end with '{suffix}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                faults.invalid(&path, "must be an absolute path");
            }
        }
        _ => faults.unsupported(&kind, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend(&entry.get("backend"), faults);
}

fn backend(backend: &At<'_, '_>, faults: &mut Faults) {
    let (resource, service) = (backend.get("resource"), backend.get("service"));
    match (resource.is_set(), service.is_set()) {
        (true, true) => faults.invalid_text(backend, "", "cannot set both resource and service backends"),
        (false, false) => faults.invalid_text(backend, "", "resource or service backend is required"),
        (true, false) => {
            for field in ["kind", "name"] {
                if resource.get(field).text().is_empty() {
                    faults.required(&resource.get(field), "");
                }
            }
        }
        (false, true) => {
            let name = service.get("name");
            if name.text().is_empty() {
                faults.required(&name, "");
            } else {
                faults.named(&name, names::dns1035_label(name.text()));
            }
            let port = service.get("port");
            let (name, number) = (port.get("name"), port.get("number"));
            match (name.text().is_empty(), number.int().unwrap_or_default()) {
                (true, 0) => faults.required(backend, "port name or number is required"),
                (false, 0) => faults.named(&name, names::port_name(name.text())),
                (true, value) => faults.named(&number, names::port_number(value)),
                (false, _) => faults.invalid_text(backend, "", "cannot set both port name & port number"),
            }
        }
    }
}

pub(super) fn policy(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    label_selector(&spec.get("podSelector"), faults);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(direction).items() {
            for port in rule.get("ports").items() {
                policy_port(&port, faults);
            }
            for peer in rule.get(peers).items() {
                policy_peer(&peer, faults);
            }
        }
    }
    let types = spec.get("policyTypes");
    if types.len() > 2 {
        faults.invalid(&types, "may not specify more than two policyTypes");
        return;
    }
    for kind in types.items() {
        if !matches!(kind.text(), "Ingress" | "Egress") {
            faults.unsupported(&kind, &["Ingress", "Egress"]);
        }
    }
}

fn policy_port(entry: &At<'_, '_>, faults: &mut Faults) {
    faults.one_of_or_none(&entry.get("protocol"), &["TCP", "UDP", "SCTP"]);
    let (port, end) = (entry.get("port"), entry.get("endPort"));
    match port.value {
        Value::Number(_) => {
            let number = port.int().unwrap_or(-1);
            faults.named(&port, names::port_number(number));
            if let Some(last) = end.int() {
                if last < number {
                    faults.invalid_value(&end, port.value, "must be greater than or equal to `port`");
                }
                faults.named(&end, names::port_number(last));
            }
        }
        Value::String(name) => {
            if end.is_set() {
                faults.invalid(&end, "may not be specified when `port` is non-numeric");
            }
            faults.named(&port, names::port_name(name));
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            if end.is_set() {
                faults.invalid(&end, "may not be specified when `port` is not specified");
            }
        }
    }
}

fn policy_peer(peer: &At<'_, '_>, faults: &mut Faults) {
    let (pods, namespaces, block) =
        (peer.get("podSelector"), peer.get("namespaceSelector"), peer.get("ipBlock"));
    label_selector(&pods, faults);
    label_selector(&namespaces, faults);
    let selects = pods.is_set() || namespaces.is_set();
    if !selects && !block.is_set() {
        faults.required(peer, "must specify a peer");
    }
    if selects && block.is_set() {
        faults.forbidden(peer, "may not specify both ipBlock and another peer");
    }
    if !block.is_set() {
        return;
    }
    let range = block.get("cidr");
    if range.text().is_empty() {
        faults.required(&range, "");
        return;
    }
    let Some(whole) = network(range.text()) else {
        faults.invalid(&range, "not a valid CIDR");
        return;
    };
    for except in block.get("except").items() {
        match network(except.text()) {
            None => faults.invalid(&except, "not a valid CIDR"),
            Some((address, length)) => {
                if !contains(whole, address) || whole.1 >= length {
                    faults.invalid(&except, "must be a strict subset of `cidr`");
                }
            }
        }
    }
}

pub(super) fn class(root: &At<'_, '_>, faults: &mut Faults) {
    const CONTROLLER_MAX: usize = 250;
    let spec = root.get("spec");
    let controller = spec.get("controller");
    if controller.text().len() > CONTROLLER_MAX {
        faults.too_long(&controller, CONTROLLER_MAX);
    }
    match controller.text().split_once('/') {
        _ if controller.text().is_empty() => faults.required(&controller, ""),
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            for message in names::dns1123_subdomain(domain) {
                faults.invalid_text(&controller, domain, &message);
            }
        }
        Some(_) | None => {
            faults.invalid(&controller, "must be a domain-prefixed path (such as \"acme.io/foo\")")
        }
    }
    let parameters = spec.get("parameters");
    if !parameters.is_set() {
        return;
    }
    for field in ["kind", "name"] {
        if parameters.get(field).text().is_empty() {
            faults.required(&parameters.get(field), "");
        }
    }
    let (scope, namespace) = (parameters.get("scope"), parameters.get("namespace"));
    faults.one_of(&scope, &["Cluster", "Namespace"]);
    match (scope.text(), namespace.text().is_empty()) {
        ("Namespace", true) => faults.required(&namespace, "`parameters.scope` is set to 'Namespace'"),
        ("Cluster", false) => faults.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'"),
        _ => {}
    }
}

pub(super) fn update_class(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (spec, old) = (root.get("spec"), before.get("spec"));
    faults.immutable(&spec.get("controller"), &old.get("controller"));
}

pub(super) fn slice(root: &At<'_, '_>, faults: &mut Faults) {
    let kind = root.get("addressType");
    faults.one_of(&kind, &["FQDN", "IPv4", "IPv6"]);
    let (endpoints, ports) = (root.get("endpoints"), root.get("ports"));
    if endpoints.len() > SLICE_ENDPOINTS_MAX {
        faults.too_many(&endpoints, endpoints.len(), SLICE_ENDPOINTS_MAX);
        return;
    }
    for endpoint in endpoints.items() {
        slice_endpoint(&endpoint, kind.text(), faults);
    }
    if ports.len() > SLICE_PORTS_MAX {
        faults.too_many(&ports, ports.len(), SLICE_PORTS_MAX);
        return;
    }
    let mut seen = BTreeSet::new();
    for port in ports.items() {
        let name = port.get("name");
        if !name.text().is_empty() {
            faults.named(&name, names::dns1123_label(name.text()));
        }
        if !seen.insert(name.text()) {
            faults.duplicate(&name, name.value);
        }
        faults.one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"]);
        let application = port.get("appProtocol");
        if application.is_set() {
            faults.named(&application, names::qualified_name(application.text()));
        }
    }
}

fn slice_endpoint(endpoint: &At<'_, '_>, kind: &str, faults: &mut Faults) {
    let addresses = endpoint.get("addresses");
    if addresses.is_empty() {
        faults.required(&addresses, "must contain at least 1 address");
    } else if addresses.len() > ENDPOINT_ADDRESSES_MAX {
        faults.too_many(&addresses, addresses.len(), ENDPOINT_ADDRESSES_MAX);
    }
    for address in addresses.items() {
        let parsed = address.text().parse::<IpAddr>().ok();
        match kind {
            "IPv4" if !parsed.is_some_and(|ip| ip.is_ipv4()) => {
                faults.invalid(&address, "must be a valid IPv4 address");
            }
            "IPv6" if !parsed.is_some_and(|ip| ip.is_ipv6()) => {
                faults.invalid(&address, "must be a valid IPv6 address");
            }
            "IPv4" | "IPv6" => not_special(&address, faults),
            "FQDN" => {
                let name = address.text().strip_suffix('.').unwrap_or(address.text());
                for message in names::dns1123_subdomain(name) {
                    faults.invalid_text(&address, name, &message);
                }
            }
            _ => {}
        }
    }
    let node = endpoint.get("nodeName");
    if node.is_set() {
        faults.named(&node, names::dns1123_subdomain(node.text()));
    }
    let hostname = endpoint.get("hostname");
    if hostname.is_set() {
        faults.named(&hostname, names::dns1123_label(hostname.text()));
    }
    let hints = endpoint.get("hints");
    let zones = hints.get("forZones");
    if zones.len() > ZONE_HINTS_MAX {
        faults.too_many(&zones, zones.len(), ZONE_HINTS_MAX);
    }
    let mut seen = BTreeSet::new();
    for zone in zones.items() {
        unique(&mut seen, &zone.get("name"), faults);
        faults.named(&zone.get("name"), names::label_value(zone.get("name").text()));
    }
}

pub(super) fn update_slice(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    faults.immutable(&root.get("addressType"), &before.get("addressType"));
}

pub(super) fn endpoints(root: &At<'_, '_>, faults: &mut Faults) {
    for subset in root.get("subsets").items() {
        if subset.get("addresses").is_empty() && subset.get("notReadyAddresses").is_empty() {
            faults.required(&subset, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in ["addresses", "notReadyAddresses"] {
            for address in subset.get(list).items() {
                let ip = address.get("ip");
                let messages = names::ip_address(ip.text());
                for message in messages {
                    faults.invalid_text(&ip, ip.text(), &message);
                }
                not_special(&ip, faults);
            }
        }
        let ports = subset.get("ports");
        for port in ports.items() {
            let (name, number) = (port.get("name"), port.get("port"));
            if !name.text().is_empty() {
                faults.named(&name, names::dns1123_label(name.text()));
            } else if ports.len() > 1 {
                faults.required(&name, "");
            }
            for message in names::port_number(number.int().unwrap_or_default()) {
                faults.invalid(&number, &message);
            }
            faults.one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"]);
        }
    }
}
