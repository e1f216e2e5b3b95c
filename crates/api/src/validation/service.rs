//! Services.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::field::{At, Faults};
use super::metadata::{labels, unique};
use super::probe;
use crate::names;

const AFFINITY_SECONDS_MAX: i64 = 86400;

fn is_headless(spec: &At<'_, '_>) -> bool {
    spec.get("clusterIP").text() == "None" || spec.get("clusterIPs").index(0).text() == "None"
}

fn is_external_name(spec: &At<'_, '_>) -> bool {
    spec.get("type").text() == "ExternalName"
}

pub(super) fn service(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    faults.one_of(&spec.get("type"), &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    kind(&spec, faults);
    ports(&spec, faults);
    labels(&spec.get("selector"), faults);
    affinity(&spec, faults);
    if !is_external_name(&spec) {
        cluster_ips(&spec, faults);
    }
    for ip in spec.get("externalIPs").items() {
        let messages = names::ip_address(ip.text());
        if messages.is_empty() {
            not_special(&ip, faults);
        }
        faults.named(&ip, messages);
    }
    traffic(&spec, faults);
}

fn kind(spec: &At<'_, '_>, faults: &mut Faults) {
    let kind = spec.get("type").text();
    let ips = spec.get("clusterIPs");
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let detail = format!("may not be set to 'None' for {kind} services");
            faults.invalid_text(&ips.index(0), "None", &detail);
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                let at = spec.get(field);
                if !at.is_empty() || !at.text().is_empty() {
                    faults.forbidden(&at, "may not be set for ExternalName services");
                }
            }
            let name = spec.get("externalName");
            let host = name.text().strip_suffix('.').unwrap_or(name.text());
            if host.is_empty() {
                faults.required(&name, "");
            }
            if !host.is_empty() {
                for message in names::dns1123_subdomain(host) {
                    faults.invalid_text(&name, host, &message);
                }
            }
        }
        _ => {}
    }
    if kind != "LoadBalancer" {
        for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
            if spec.get(field).is_set() {
                faults.forbidden(&spec.get(field), "may only be used when `type` is 'LoadBalancer'");
            }
        }
        if !spec.get("loadBalancerSourceRanges").is_empty() {
            let at = spec.get("LoadBalancerSourceRanges");
            faults.forbidden(&at, "may only be used when `type` is 'LoadBalancer'");
        }
    }
}

fn ports(spec: &At<'_, '_>, faults: &mut Faults) {
    let ports = spec.get("ports");
    if ports.is_empty() && !is_headless(spec) && !is_external_name(spec) {
        faults.required(&ports, "");
    }
    let mut seen_names = BTreeSet::new();
    let mut seen_node_ports = BTreeSet::new();
    let mut seen_ports = BTreeSet::new();
    for port in ports.items() {
        let name = port.get("name");
        if !name.text().is_empty() {
            faults.named(&name, names::dns1123_label(name.text()));
            unique(&mut seen_names, &name, faults);
        } else if ports.len() > 1 {
            faults.required(&name, "");
        }
        let number = port.get("port");
        let zero = json!(0);
        for message in names::port_number(number.int().unwrap_or_default()) {
            faults.invalid_value(&number, if number.is_set() { number.value } else { &zero }, &message);
        }
        faults.one_of(&port.get("protocol"), &["SCTP", "TCP", "UDP"]);
        probe::port(&port.get("targetPort"), faults);
        let application = port.get("appProtocol");
        if application.is_set() {
            faults.named(&application, names::qualified_name(application.text()));
        }
        let protocol = port.get("protocol").text();
        let node_port = port.get("nodePort");
        if let Some(value) = node_port.int().filter(|value| *value != 0) {
            if spec.get("type").text() == "ClusterIP" {
                faults.forbidden(&node_port, "may not be used when `type` is 'ClusterIP'");
            }
            faults.named(&node_port, names::port_number(value));
            if !seen_node_ports.insert((protocol, value)) {
                faults.duplicate(&node_port, node_port.value);
            }
        }
        if let Some(value) = number.int()
            && !seen_ports.insert((protocol, value))
        {
            faults.duplicate(&port, &json!({"port": value, "protocol": protocol}));
        }
    }
}

fn affinity(spec: &At<'_, '_>, faults: &mut Faults) {
    let (affinity, config) = (spec.get("sessionAffinity"), spec.get("sessionAffinityConfig"));
    faults.one_of(&affinity, &["ClientIP", "None"]);
    match affinity.text() {
        "ClientIP" => {
            let client = config.get("clientIP");
            let timeout = client.get("timeoutSeconds");
            let detail = "when session affinity type is ClientIP";
            if !timeout.is_set() {
                faults.required(&timeout, detail);
            } else if !timeout.int().is_some_and(|seconds| (1..=AFFINITY_SECONDS_MAX).contains(&seconds)) {
                let detail = format!("must be greater than 0 and less than {AFFINITY_SECONDS_MAX}");
                faults.invalid(&timeout, &detail);
            }
        }
        "None" if config.is_set() => {
            faults.forbidden(&config, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// What the author wrote or the server allocated; that there are addresses at all is the
/// allocator's business.
fn cluster_ips(spec: &At<'_, '_>, faults: &mut Faults) {
    let (one, all) = (spec.get("clusterIP"), spec.get("clusterIPs"));
    if !all.is_empty() {
        if one.text().is_empty() {
            faults.invalid(&all, "must be empty when `clusterIP` is not specified");
        } else if all.index(0).text() != one.text() {
            faults.invalid(&all, "first value must match `clusterIP`");
        }
    } else if !matches!(one.text(), "" | "None") {
        faults.named(&one, names::ip_address(one.text()));
    }
    let mut families = BTreeSet::new();
    for family in spec.get("ipFamilies").items() {
        faults.one_of(&family, &["IPv4", "IPv6"]);
        unique(&mut families, &family, faults);
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    faults.one_of_or_none(&spec.get("ipFamilyPolicy"), &policies);
    if all.len() > 2 {
        faults.invalid(&all, "may only hold up to 2 values");
    }
    for (at, ip) in all.items().enumerate() {
        if at == 0 && ip.text() == "None" {
            if all.len() > 1 {
                faults.invalid(&all, "'None' must be the first and only value");
            }
            continue;
        }
        let messages = names::ip_address(ip.text());
        let family = spec.get("ipFamilies").index(at).text();
        if let Ok(address) = ip.text().parse::<IpAddr>()
            && !family.is_empty()
            && address.is_ipv4() != (family == "IPv4")
        {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{at}]`");
            faults.invalid(&ip, &detail);
        }
        faults.named(&ip, messages);
    }
}

/// An address that outsiders can mean by it.
pub(super) fn not_special(ip: &At<'_, '_>, faults: &mut Faults) {
    let Ok(address) = ip.text().parse::<IpAddr>() else { return };
    if address.is_unspecified() {
        faults.invalid(ip, &format!("may not be unspecified ({})", ip.text()));
    }
    if address.is_loopback() {
        faults.invalid(ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        faults.invalid(ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if link_local_multicast {
        faults.invalid(ip, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn traffic(spec: &At<'_, '_>, faults: &mut Faults) {
    let kind = spec.get("type").text();
    let external = spec.get("externalTrafficPolicy");
    if matches!(kind, "LoadBalancer" | "NodePort") {
        faults.one_of(&external, &["Cluster", "Local"]);
    } else if !external.text().is_empty() {
        faults.invalid(&external, "may only be set when `type` is 'NodePort' or 'LoadBalancer'");
    }
    let health = spec.get("healthCheckNodePort");
    let needs_health = kind == "LoadBalancer" && external.text() == "Local";
    if let Some(port) = health.int().filter(|port| *port != 0) {
        if needs_health {
            faults.named(&health, names::port_number(port));
        } else {
            let detail =
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            faults.invalid(&health, detail);
        }
    }
    let internal = spec.get("internalTrafficPolicy");
    faults.one_of_or_none(&internal, &["Cluster", "Local"]);
    let distribution = ["PreferClose", "PreferSameNode", "PreferSameZone"];
    faults.one_of_or_none(&spec.get("trafficDistribution"), &distribution);
}

pub(super) fn update(root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (spec, old) = (root.get("spec"), before.get("spec"));
    // An address is given up only by becoming a name, and taken only by ceasing to be one.
    if is_external_name(&spec) || is_external_name(&old) {
        return;
    }
    let (now, then) = (spec.get("clusterIP"), old.get("clusterIP"));
    if !then.text().is_empty() && now.text() != then.text() {
        let shown = if now.is_set() { json!([now.text()]) } else { Value::Null };
        faults.invalid_value(&spec.get("clusterIPs").index(0), &shown, "may not change once set");
    }
    let (now, then) = (spec.get("healthCheckNodePort"), old.get("healthCheckNodePort"));
    if then.int().is_some_and(|port| port != 0) && now.is_set() && now.int() != then.int() {
        faults.forbidden(&now, "field is immutable");
    }
}
