//! The rules of Kubernetes' own signers.

use std::collections::BTreeSet;

use super::CertificateRequest;

pub const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";
pub const SIGNERS: [&str; 4] = [API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN];

const SIGNATURE: &str = "digital signature";
const ENCIPHERMENT: &str = "key encipherment";
const CLIENT: &str = "client auth";
const SERVER: &str = "server auth";

/// Why a signer does not sign a request that somebody approved. Other people's signers take anything.
pub fn fault(signer: &str, request: &CertificateRequest, usages: &BTreeSet<&str>) -> Option<String> {
    match signer {
        API_CLIENT => client_usages(usages),
        KUBELET_CLIENT => kubelet_client(request).map(str::to_owned).or_else(|| of_usages(usages, CLIENT)),
        KUBELET_SERVING => kubelet_serving(request, usages),
        _ => None,
    }
}

/// Whether a request is for the client certificate of a node.
pub fn is_kubelet_client(request: &CertificateRequest, usages: &BTreeSet<&str>) -> bool {
    fault(KUBELET_CLIENT, request, usages).is_none()
}

fn client_usages(usages: &BTreeSet<&str>) -> Option<String> {
    let known = [SIGNATURE, ENCIPHERMENT, CLIENT];
    if let Some(other) = usages.iter().find(|usage| !known.contains(usage)) {
        return Some(format!("invalid usage for client certificate: {other}"));
    }
    (!usages.contains(CLIENT)).then(|| format!("missing required usage for client certificate: {CLIENT}"))
}

/// The usages must be exactly these; encipherment is of RSA keys alone.
fn of_usages(usages: &BTreeSet<&str>, purpose: &str) -> Option<String> {
    let with = BTreeSet::from([SIGNATURE, ENCIPHERMENT, purpose]);
    let without = BTreeSet::from([SIGNATURE, purpose]);
    if *usages == with || *usages == without {
        return None;
    }
    let list: Vec<&str> = with.into_iter().collect();
    Some(format!("usages did not match [{}]", list.join(" ")))
}

fn is_for_nodes(request: &CertificateRequest) -> Option<&'static str> {
    (request.organizations() != ["system:nodes"]).then_some("subject organization is not system:nodes")
}

fn is_named_as_node(request: &CertificateRequest) -> Option<&'static str> {
    let named = request.common_name().starts_with("system:node:");
    (!named).then_some("subject common name does not begin with system:node:")
}

fn kubelet_client(request: &CertificateRequest) -> Option<&'static str> {
    let names = [
        (request.dns_names.is_empty(), "DNS subjectAltNames are not allowed"),
        (request.emails.is_empty(), "Email subjectAltNames are not allowed"),
        (request.addresses.is_empty(), "IP subjectAltNames are not allowed"),
        (request.uris.is_empty(), "URI subjectAltNames are not allowed"),
    ];
    is_for_nodes(request)
        .or_else(|| names.into_iter().find(|(empty, _)| !empty).map(|(_, why)| why))
        .or_else(|| is_named_as_node(request))
}

fn kubelet_serving(request: &CertificateRequest, usages: &BTreeSet<&str>) -> Option<String> {
    let names = if request.dns_names.is_empty() && request.addresses.is_empty() {
        Some("DNS or IP subjectAltName is required")
    } else if !request.emails.is_empty() {
        Some("Email subjectAltNames are not allowed")
    } else if !request.uris.is_empty() {
        Some("URI subjectAltNames are not allowed")
    } else {
        None
    };
    is_for_nodes(request)
        .or(names)
        .map(str::to_owned)
        .or_else(|| of_usages(usages, SERVER))
        .or_else(|| is_named_as_node(request).map(str::to_owned))
}
