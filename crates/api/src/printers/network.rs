//! Services, their endpoints, ingresses, policies and addresses.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Printer, Row, items, labels, number, selector, some_of, text, text_or};

pub(super) fn printer(kind: &str) -> Option<Printer> {
    Some(match kind {
        "Service" => service,
        "Endpoints" => endpoints,
        "EndpointSlice" => endpoint_slice,
        "Ingress" => ingress,
        "IngressClass" => ingress_class,
        "NetworkPolicy" => network_policy,
        "IPAddress" => ip_address,
        "ServiceCIDR" => service_cidr,
        _ => return None,
    })
}

fn service(row: &mut Row<'_>) {
    let spec = row.spec();
    let ports: Vec<String> = items(&spec["ports"])
        .iter()
        .map(|port| {
            let (number, protocol) = (super::number(&port["port"]), text(&port["protocol"]));
            match super::number(&port["nodePort"]) {
                node_port @ 1.. => format!("{number}:{node_port}/{protocol}"),
                _ => format!("{number}/{protocol}"),
            }
        })
        .collect();
    row.name();
    row.text("Type", text(&spec["type"]));
    row.text("Cluster-IP", text_or(&spec["clusterIPs"][0], "<none>"));
    row.text("External-IP", external_ip(spec, row.status()));
    row.text("Port(s)", if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") });
    row.age();
    row.wide("Selector", labels(&spec["selector"]));
}

fn external_ip(spec: &Value, status: &Value) -> String {
    let named = items(&spec["externalIPs"]).iter().map(text);
    let or = |list: Vec<&str>, none: &str| if list.is_empty() { none.to_owned() } else { list.join(",") };
    match text(&spec["type"]) {
        "ClusterIP" | "NodePort" => or(named.collect(), "<none>"),
        "LoadBalancer" => {
            or(balancers(&status["loadBalancer"]).into_iter().chain(named).collect(), "<pending>")
        }
        "ExternalName" => text(&spec["externalName"]).to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

fn balancers(status: &Value) -> BTreeSet<&str> {
    let ingress = items(&status["ingress"]).iter();
    ingress.map(|one| text_or(&one["ip"], text(&one["hostname"]))).filter(|one| !one.is_empty()).collect()
}

fn endpoints(row: &mut Row<'_>) {
    let mut all = Vec::new();
    for subset in items(&row.object["subsets"]) {
        let addresses = items(&subset["addresses"]).iter().map(|address| text(&address["ip"]));
        let ports = items(&subset["ports"]);
        if ports.is_empty() {
            all.extend(addresses.clone().map(str::to_owned));
        }
        for port in ports {
            let port = number(&port["port"]);
            all.extend(
                addresses.clone().map(|ip| {
                    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
                }),
            );
        }
    }
    let none = items(&row.object["subsets"]).is_empty();
    row.name();
    row.text("Endpoints", if none { "<none>".to_owned() } else { some_of(&all, 3, ",") });
    row.age();
}

fn endpoint_slice(row: &mut Row<'_>) {
    let ports: Vec<String> = items(&row.object["ports"])
        .iter()
        .map(|port| match (port["port"].as_i64(), port["name"].as_str()) {
            (Some(number), _) => number.to_string(),
            (None, Some(name)) => name.to_owned(),
            (None, None) => "*".to_owned(),
        })
        .collect();
    let addresses: Vec<String> = items(&row.object["endpoints"])
        .iter()
        .flat_map(|endpoint| items(&endpoint["addresses"]))
        .map(|address| text(address).to_owned())
        .collect();
    let or_unset = |list: &[String]| match some_of(list, 3, ",") {
        text if text.is_empty() => "<unset>".to_owned(),
        text => text,
    };
    row.name();
    row.text("AddressType", text(&row.object["addressType"]));
    row.text("Ports", or_unset(&ports));
    row.text("Endpoints", or_unset(&addresses));
    row.age();
}

fn ingress(row: &mut Row<'_>) {
    let spec = row.spec();
    let rules = items(&spec["rules"]);
    let hosts: Vec<&str> =
        rules.iter().map(|rule| text(&rule["host"])).filter(|host| !host.is_empty()).collect();
    // Rules without a host are counted among what is left out, as upstream does.
    let shown = hosts.iter().take(3).copied().collect::<Vec<_>>().join(",");
    let third = rules.iter().enumerate().filter(|(_, rule)| !text(&rule["host"]).is_empty()).nth(2);
    let hosts = match third {
        _ if hosts.is_empty() => "*".to_owned(),
        Some((at, _)) if at + 1 < rules.len() => format!("{shown} + {} more...", rules.len() - 3),
        Some(_) | None => shown,
    };
    let addresses: Vec<&str> = balancers(&row.status()["loadBalancer"]).into_iter().collect();
    row.name();
    row.text("Class", text_or(&spec["ingressClassName"], "<none>"));
    row.text("Hosts", hosts);
    row.text("Address", addresses.join(","));
    row.text("Ports", if items(&spec["tls"]).is_empty() { "80" } else { "80, 443" });
    row.age();
}

fn ingress_class(row: &mut Row<'_>) {
    let spec = row.spec();
    let parameters = &spec["parameters"];
    let shown = parameters.is_object().then(|| {
        let group = parameters["apiGroup"].as_str().map(|group| format!(".{group}")).unwrap_or_default();
        format!("{}{group}/{}", text(&parameters["kind"]), text(&parameters["name"]))
    });
    row.name();
    row.text("Controller", text(&spec["controller"]));
    row.text("Parameters", shown.unwrap_or_else(|| "<none>".to_owned()));
    row.age();
}

fn network_policy(row: &mut Row<'_>) {
    row.name();
    row.text("Pod-Selector", selector(&row.spec()["podSelector"]));
    row.age();
}

fn ip_address(row: &mut Row<'_>) {
    let parent = &row.spec()["parentRef"];
    let shown = parent.is_object().then(|| {
        let mut parts = vec![text(&parent["resource"]).to_lowercase()];
        if let group @ [_, ..] = text(&parent["group"]).to_lowercase().as_bytes() {
            parts[0] = format!("{}.{}", parts[0], String::from_utf8_lossy(group));
        }
        parts.extend([&parent["namespace"], &parent["name"]].map(|one| text(one).to_owned()));
        parts.retain(|part| !part.is_empty());
        parts.join("/")
    });
    row.name();
    row.text("ParentRef", shown.unwrap_or_else(|| "<none>".to_owned()));
    row.age();
}

fn service_cidr(row: &mut Row<'_>) {
    let cidrs: Vec<&str> = items(&row.spec()["cidrs"]).iter().map(text).collect();
    row.name();
    row.text("CIDRs", cidrs.join(","));
    row.age();
}
