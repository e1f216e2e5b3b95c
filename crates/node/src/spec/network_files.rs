//! What a container finds in `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, Pod};

/// What the kubelet's limits are: 3 name servers, 32 search domains in 2048 characters.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_LENGTH: usize = 2048;

/// `/etc/hosts` of a pod with a network of its own.
pub fn hosts(pod: &Pod, ips: &[IpAddr], cluster_domain: &str) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    let hostname = crate::pod::hostname(pod);
    for ip in ips {
        match crate::pod::fqdn(pod, cluster_domain) {
            Some(fqdn) => text.push_str(&format!("{ip}\t{fqdn}\t{hostname}\n")),
            None => text.push_str(&format!("{ip}\t{hostname}\n")),
        }
    }
    text.push_str(&aliases(crate::pod::spec(pod).host_aliases.as_deref().unwrap_or_default()));
    text
}

/// `/etc/hosts` of a pod in the node's network.
pub fn host_network_hosts(pod: &Pod, nodes: &str) -> String {
    let mut text = String::from("# Kubernetes-managed hosts file (host network).\n");
    text.push_str(nodes);
    text.push_str(&aliases(crate::pod::spec(pod).host_aliases.as_deref().unwrap_or_default()));
    text
}

fn aliases(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}

/// The parts of a resolver's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
}

impl Resolver {
    /// Reads a `resolv.conf`; lines of no known kind are skipped, as the C library does.
    pub fn parse(text: &str) -> Self {
        let mut resolver = Resolver::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let Some(keyword) = words.next() else { continue };
            let rest = words.map(str::to_owned);
            match keyword {
                "nameserver" => resolver.servers.extend(rest.take(1)),
                // The last one counts.
                "search" | "domain" => resolver.searches = rest.filter(|domain| domain != ".").collect(),
                "options" => resolver.options.extend(rest),
                _ => {}
            }
        }
        resolver
    }

    /// The configuration of a pod; `node` is the node's own.
    pub fn of(pod: &Pod, node: &Resolver, cluster_dns: IpAddr, cluster_domain: &str) -> Self {
        let spec = crate::pod::spec(pod);
        let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
        let mut resolver = match policy {
            "None" => Resolver::default(),
            "Default" => node.clone(),
            "ClusterFirst" if crate::pod::host_network(spec) => node.clone(),
            // ClusterFirst and ClusterFirstWithHostNet
            _ => {
                let namespace = crate::pod::namespace(pod);
                let mut searches = vec![
                    format!("{namespace}.svc.{cluster_domain}"),
                    format!("svc.{cluster_domain}"),
                    cluster_domain.to_owned(),
                ];
                searches.extend(node.searches.iter().cloned());
                Resolver {
                    servers: vec![cluster_dns.to_string()],
                    searches,
                    options: vec!["ndots:5".to_owned()],
                }
            }
        };
        if let Some(wanted) = &spec.dns_config {
            resolver.servers.extend(wanted.nameservers.iter().flatten().cloned());
            resolver.searches.extend(wanted.searches.iter().flatten().cloned());
            for option in wanted.options.iter().flatten() {
                let Some(name) = option.name.as_deref() else { continue };
                resolver.options.retain(|known| known.split(':').next() != Some(name));
                resolver.options.push(match option.value.as_deref() {
                    Some(value) => format!("{name}:{value}"),
                    None => name.to_owned(),
                });
            }
        }
        resolver.limit();
        resolver
    }

    fn limit(&mut self) {
        unique(&mut self.servers);
        unique(&mut self.searches);
        self.servers.truncate(MAX_SERVERS);
        self.searches.truncate(MAX_SEARCHES);
        while self.searches.iter().map(|domain| domain.len() + 1).sum::<usize>() > MAX_SEARCH_LENGTH + 1 {
            self.searches.pop();
        }
    }

    /// The file's content.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text.push_str(&format!("search {}\n", self.searches.join(" ")));
        }
        for server in &self.servers {
            text.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            text.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        text
    }
}

fn unique(items: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    items.retain(|item| seen.insert(item.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = serde_json::json!([]);
        serde_json::from_value(serde_json::json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec}))
            .expect("a pod")
    }

    fn check(spec: serde_json::Value, expected: &str) {
        let node = Resolver::parse("# x\nsearch corp.example\nnameserver 9.9.9.9\noptions edns0\n");
        let got = Resolver::of(&pod(spec.clone()), &node, [10, 43, 0, 10].into(), "cluster.local");
        assert_eq!(got.render(), expected, "{spec}");
    }

    #[test]
    fn the_policy_chooses_the_servers() {
        use serde_json::json;
        let cluster = "search n.svc.cluster.local svc.cluster.local cluster.local corp.example\n\
                       nameserver 10.43.0.10\noptions ndots:5\n";
        let nodes = "search corp.example\nnameserver 9.9.9.9\noptions edns0\n";
        check(json!({}), cluster);
        check(json!({"dnsPolicy": "Default"}), nodes);
        check(json!({"hostNetwork": true}), nodes);
        check(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), cluster);
        check(
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a.b"],
                "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
            "search a.b\nnameserver 1.1.1.1\noptions ndots:2 edns0\n",
        );
        check(
            json!({"dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}),
            &cluster.replace("ndots:5", "ndots:2"),
        );
    }

    #[test]
    fn the_hosts_file_names_the_pod() {
        use serde_json::json;
        let plain = hosts(&pod(json!({})), &[[10, 0, 0, 1].into()], "cluster.local");
        assert!(plain.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"), "{plain}");
        assert!(plain.ends_with("10.0.0.1\tp\n"), "{plain}");
        let named = json!({"hostname": "h", "subdomain": "s",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]});
        let named = hosts(&pod(named), &[[10, 0, 0, 1].into()], "cluster.local");
        let end = "10.0.0.1\th.s.n.svc.cluster.local\th\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n";
        assert!(named.ends_with(end), "{named}");
    }
}
