//! What every cluster has from its first start: namespaces, roles, priority classes, and the
//! services through which pods find the API and the DNS.

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::try_join_all;
use sampan_api::{Gvr, Status};
use serde_json::{Value, json};

use crate::identity::authorization::{GROUP, bootstrap};
use crate::identity::pki::FRONT_PROXY_NAME;
use crate::identity::{MASTERS_GROUP, User};
use crate::registry::{Context, Registry};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// Offsets in the service range.
const API_OFFSET: u32 = 1;
const DNS_OFFSET: u32 = 10;

/// The address of the cluster's DNS.
pub fn dns_address(registry: &Registry) -> Ipv4Addr {
    registry.allocators.range().address(DNS_OFFSET)
}

/// Creates what is missing. Existing objects are left as they are, except where the API server is
/// reached: pods reach it at `endpoint`.
pub async fn ensure(registry: &Registry, endpoint: SocketAddr) -> Result<(), Status> {
    let core = |resource: &'static str| Gvr::new("", "v1", resource);
    for name in NAMESPACES {
        create(registry, &core("namespaces"), None, json!({"metadata": {"name": name}})).await?;
    }
    // All at once: they share the store's syncs.
    try_join_all(bootstrap::objects().into_iter().map(|object| async move {
        let gvr = Gvr::new(GROUP, "v1", object.kind.resource());
        let namespace = Some(object.namespace).filter(|namespace| !namespace.is_empty());
        create(registry, &gvr, namespace, object.object).await
    }))
    .await?;
    crate::fairness::feed::ensure(registry).await?;
    for (name, value, purpose) in [
        ("system-node-critical", 2_000_001_000, "Pods without which a node does not work."),
        ("system-cluster-critical", 2_000_000_000, "Pods without which the cluster does not work."),
    ] {
        let class = json!({"metadata": {"name": name}, "value": value, "description": purpose});
        create(registry, &Gvr::new("scheduling.k8s.io", "v1", "priorityclasses"), None, class).await?;
    }
    let range = registry.allocators.range();
    let api = json!({"metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {"clusterIP": range.address(API_OFFSET).to_string(), "type": "ClusterIP", "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": endpoint.port()}]}});
    create(registry, &core("services"), Some("default"), api).await?;
    let dns = json!({"metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS"}},
        "spec": {"clusterIP": dns_address(registry).to_string(), "type": "ClusterIP", "ports": [
            {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53}]}});
    create(registry, &core("services"), Some("kube-system"), dns).await?;
    publish_endpoint(registry, endpoint).await
}

/// Says whose certificates this server takes, for aggregated servers that ask the same.
pub async fn publish_authorities(
    registry: &Registry,
    clients: &str,
    front_proxies: &str,
) -> Result<(), Status> {
    let list = |text: &str| json!([text]).to_string();
    let config = json!({"metadata": {"name": "extension-apiserver-authentication"}, "data": {
        "client-ca-file": clients,
        "requestheader-client-ca-file": front_proxies,
        "requestheader-allowed-names": list(FRONT_PROXY_NAME),
        "requestheader-username-headers": list("X-Remote-User"),
        "requestheader-uid-headers": list("X-Remote-Uid"),
        "requestheader-group-headers": list("X-Remote-Group"),
        "requestheader-extra-headers-prefix": list("X-Remote-Extra-"),
    }});
    put(registry, &Gvr::new("", "v1", "configmaps"), "kube-system", config).await
}

/// Says where the `kubernetes` service leads.
async fn publish_endpoint(registry: &Registry, endpoint: SocketAddr) -> Result<(), Status> {
    let address = endpoint.ip().to_string();
    let endpoints = json!({"metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": endpoint.port(), "protocol": "TCP"}]}]});
    put(registry, &Gvr::new("", "v1", "endpoints"), "default", endpoints).await?;
    let slice = json!({"metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4", "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": endpoint.port(), "protocol": "TCP"}]});
    put(registry, &Gvr::new("discovery.k8s.io", "v1", "endpointslices"), "default", slice).await
}

fn context() -> Context {
    Context::new(User::component("system:apiserver", &[MASTERS_GROUP]))
}

async fn create(
    registry: &Registry,
    gvr: &Gvr,
    namespace: Option<&str>,
    object: Value,
) -> Result<(), Status> {
    let resource = registry.resource(gvr)?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    if resource.cache.get(&resource.key(namespace, name)).is_some() {
        return Ok(());
    }
    match registry.create_value(&resource, namespace, object, &mut context()).await {
        Ok(_) => Ok(()),
        Err(status) if status.is_already_exists() => Ok(()),
        Err(status) => Err(status),
    }
}

async fn put(registry: &Registry, gvr: &Gvr, namespace: &str, object: Value) -> Result<(), Status> {
    create(registry, gvr, Some(namespace), object.clone()).await?;
    let resource = registry.resource(gvr)?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    registry.replace(&resource, Some(namespace), &name, object, &mut context()).await
}
