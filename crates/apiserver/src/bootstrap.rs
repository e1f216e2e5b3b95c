//! What every cluster has from its first start: namespaces, roles, priority classes, and the
//! services through which pods find the API and the DNS.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use futures_util::future::try_join_all;
use sampan_api::{Gvr, Status};
use sampan_client::DeleteOptions;
use serde_json::{Value, json};

use crate::identity::authorization::GROUP;
use crate::identity::authorization::bootstrap::{self, Step};
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

/// Creates what is missing. Existing objects are left as they are, except roles and bindings, which get
/// what they lack, and where the API server is reached: pods reach it at `endpoint`.
pub async fn ensure(registry: &Registry, endpoint: SocketAddr) -> Result<(), Status> {
    let core = |resource: &'static str| Gvr::new("", "v1", resource);
    for name in NAMESPACES {
        create(registry, &core("namespaces"), None, json!({"metadata": {"name": name}})).await?;
    }
    // All at once: they share the store's syncs.
    try_join_all(bootstrap::objects().into_iter().map(|object| async move {
        let gvr = Gvr::new(GROUP, "v1", object.kind.resource());
        let namespace = Some(object.namespace).filter(|namespace| !namespace.is_empty());
        reconcile(registry, &gvr, namespace, &object.name, object.object).await
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
    if registry.is_shared() {
        // That is for all servers together to say: see `peers`.
        return Ok(());
    }
    publish_endpoints(registry, &[endpoint]).await
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
pub(crate) async fn publish_endpoints(registry: &Registry, endpoints: &[SocketAddr]) -> Result<(), Status> {
    let port = |endpoint: &SocketAddr| json!([{"name": "https", "port": endpoint.port(), "protocol": "TCP"}]);
    // Servers that listen on one port are in one subset.
    let mut by_port: BTreeMap<u16, Vec<&SocketAddr>> = BTreeMap::new();
    for endpoint in endpoints {
        by_port.entry(endpoint.port()).or_default().push(endpoint);
    }
    let subsets: Vec<Value> = by_port
        .values()
        .map(|group| {
            let addresses: Vec<Value> =
                group.iter().map(|endpoint| json!({"ip": endpoint.ip().to_string()})).collect();
            json!({"addresses": addresses, "ports": port(group[0])})
        })
        .collect();
    let object = json!({"metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": subsets});
    put(registry, &Gvr::new("", "v1", "endpoints"), "default", object).await?;
    // A slice has one list of ports: that of most servers, which is that of all but in tests.
    let Some(group) = by_port.values().max_by_key(|group| group.len()) else { return Ok(()) };
    let found: Vec<Value> = group
        .iter()
        .map(|endpoint| json!({"addresses": [endpoint.ip().to_string()], "conditions": {"ready": true}}))
        .collect();
    let slice = json!({"metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4", "endpoints": found, "ports": port(group[0])});
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

/// Creates a role or a binding, or gives it what it lacks.
async fn reconcile(
    registry: &Registry,
    gvr: &Gvr,
    namespace: Option<&str>,
    name: &str,
    wanted: Value,
) -> Result<(), Status> {
    let resource = registry.resource(gvr)?;
    let key = resource.key(namespace, name);
    loop {
        let Some(existing) = resource.cache.get(&key) else {
            return create(registry, gvr, namespace, wanted).await;
        };
        let existing: Value = existing.decode().map_err(Status::internal)?;
        let done = match bootstrap::reconcile(&existing, &wanted).map_err(Status::internal)? {
            Step::Leave => return Ok(()),
            Step::Update(object) => {
                tracing::info!(%gvr, name, "gets what this release has in addition");
                registry.replace(&resource, namespace, name, object, &mut context()).await
            }
            Step::Replace => {
                let options = DeleteOptions::default();
                registry.delete(&resource, namespace, name, &options, &mut context()).await.map(drop)
            }
        };
        match done {
            // Another server does the same at this moment.
            Err(status) if status.code != 409 && !status.is_not_found() => return Err(status),
            Ok(()) | Err(_) => {}
        }
    }
}

async fn put(registry: &Registry, gvr: &Gvr, namespace: &str, object: Value) -> Result<(), Status> {
    create(registry, gvr, Some(namespace), object.clone()).await?;
    let resource = registry.resource(gvr)?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    registry.replace(&resource, Some(namespace), &name, object, &mut context()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestServer, bytes_of, request};

    const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

    async fn read(test: &TestServer, path: &str) -> Value {
        serde_json::from_slice(&bytes_of(test.get(path, &[]).await).await).expect("JSON")
    }

    async fn write(test: &TestServer, path: &str, object: &Value) {
        let headers = [("content-type", "application/json")];
        let answer = test.send(request("PUT", path, &headers, object.to_string())).await;
        assert_eq!(answer.status(), 200);
    }

    #[tokio::test]
    async fn roles_of_an_earlier_release_get_what_they_lack() {
        let test = TestServer::start().await;
        let start =
            async || ensure(&test.server.registry, "10.0.0.1:6443".parse().expect("an address")).await;
        start().await.expect("a new cluster");
        let (role, alone) = (format!("{ROLES}/system:node-proxier"), format!("{ROLES}/system:kube-dns"));
        let binding = format!("{BINDINGS}/system:kube-scheduler");
        let whole = [read(&test, &role).await, read(&test, &binding).await];
        let mut earlier = whole.clone();
        let own = json!({"verbs": ["get"], "apiGroups": ["example.com"], "resources": ["things"]});
        earlier[0]["rules"] = json!([own]);
        earlier[1]["subjects"] = json!([]);
        write(&test, &role, &earlier[0]).await;
        write(&test, &binding, &earlier[1]).await;
        let mut opted_out = read(&test, &alone).await;
        opted_out["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = "false".into();
        opted_out["rules"] = json!([]);
        write(&test, &alone, &opted_out).await;

        start().await.expect("the next release");
        let rules = |role: &Value| crate::identity::authorization::rules_of(role).expect("rules");
        let now = rules(&read(&test, &role).await);
        let granted = [rules(&whole[0]), rules(&json!({"rules": [own]}))].concat();
        assert_eq!(crate::identity::authorization::covers(&now, &granted), Ok(()));
        assert_eq!(read(&test, &binding).await["subjects"], whole[1]["subjects"]);
        assert_eq!(rules(&read(&test, &alone).await), []);
        let revision = async || read(&test, &role).await["metadata"]["resourceVersion"].clone();
        let before = revision().await;
        start().await.expect("the same release again");
        assert_eq!(revision().await, before, "nothing is written where nothing lacks");
    }
}
