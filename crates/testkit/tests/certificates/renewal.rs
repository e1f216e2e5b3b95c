//! Certificates that expire all the time, under load: no request fails.
//!
//! Short by default. `SAMPAN_RENEWAL_SECONDS` says how long the load goes on, and `SAMPAN_CERTIFICATE_LIFE`
//! how many seconds certificates live; ten minutes of two-minute certificates are 600 and 120.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use sampan_api::{Gvr, Status};
use sampan_client::kubeconfig::{Access, Credentials};
use sampan_client::remote::RemoteBackend;
use sampan_client::{Backend as _, ListOptions, PatchKind, Target, WatchEvent};
use sampan_testkit::load::{Load, none_failed};
use sampan_testkit::workers::{Control, Workers};
use sampan_testkit::{Cluster, cluster::API};
use serde_json::json;

use crate::requests::{KUBELET_CLIENT, request};

static CONFIG_MAPS: Gvr = Gvr::new("", "v1", "configmaps");
static LEASES: Gvr = Gvr::new("coordination.k8s.io", "v1", "leases");
static REQUESTS: Gvr = Gvr::new("certificates.k8s.io", "v1", "certificatesigningrequests");

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

pub fn under_load(_: &mut Cluster) {
    let life = setting("SAMPAN_CERTIFICATE_LIFE", 6);
    let seconds = setting("SAMPAN_RENEWAL_SECONDS", 30);
    // A kubectl that has read the kubeconfig may be slow to use it.
    let admin = life.max(20);
    let flags = [
        format!("--certificate-life={life}s"),
        format!("--admin-certificate-life={admin}s"),
        format!("--cluster-signing-duration={admin}s"),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut cluster = Cluster::start_with(&flags).expect("a cluster");
    cluster.import_test_image().expect("an image");
    {
        let namespace = cluster.namespace("load");
        namespace.deploy_web(2, "one");
        namespace.endpoints("web", 2);
        namespace.keep();
    }
    let address =
        cluster.kubectl(&["--namespace=load", "get", "service/web", "-o", "jsonpath={.spec.clusterIP}:80"]);
    let mut pods = Load::start(cluster.sandbox(), address.ok().text().parse().expect("an address"), 50);
    let mut workers = Workers::default();
    let path = cluster.kubeconfig();
    workers.start(&cluster, "writes over one client", async move |control| writes(control, &path).await);
    let path = cluster.kubeconfig();
    workers.start(&cluster, "a watch", async move |control| watch(control, &path).await);
    let path = cluster.kubeconfig();
    workers.start(&cluster, "a node that renews its own certificate", async move |control| {
        node(control, &path, Duration::from_secs(admin)).await
    });
    let path = cluster.kubeconfig();
    workers.start(&cluster, "handshakes", async move |control| {
        handshakes(control, &path, Duration::from_secs(seconds / (life * 2))).await
    });
    let mut follower =
        cluster.spawn(&["kubectl", "get", "configmaps", "--namespace=load", "--watch", "--output=name"]);
    let (began, mut runs) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        cluster.kubectl(&["get", "pods", "--namespace=load"]).ok();
        let name = format!("run-{runs}");
        cluster.kubectl(&["create", "configmap", &name, "--namespace=load"]).ok();
        if runs % 5 == 0 {
            cluster.kubectl(&["--namespace=load", "exec", "deployment/web", "--", "echo", "alive"]).ok();
        }
        runs += 1;
        follower.until(&format!("^configmap/{name}$"));
        if workers.any_ended() {
            // It is told below why.
            break;
        }
    }
    pods.run_for(10);
    workers.stop();
    // What waits for an event gets one.
    cluster.kubectl(&["create", "configmap", "last", "--namespace=load"]).ok();
    let mut told = vec![format!("{runs} rounds of kubectl")];
    told.extend(workers.finish());
    let answers = pods.finish();
    none_failed(&answers);
    told.push(format!("{} requests to pods", answers.len()));
    println!("{seconds} s of certificates that live {life} s, nothing failed: {}", told.join(", "));
    let expired =
        cluster.sampan(&["certificates", "check", "--data-dir", cluster.data_dir().to_str().expect("text")]);
    expired.ok().has(&["ca.crt", "apiserver.pem", "admin.pem", "front-proxy-client.pem"]).lacks(&["expired"]);
    drop(follower);
    // Some expire while nothing runs, and the next start renews them.
    cluster.kill_server(nix::sys::signal::Signal::SIGTERM).expect("it ran");
    if life <= 10 {
        let data = cluster.data_dir();
        let data = data.to_str().expect("text");
        let check = ["certificates", "check", "--data-dir", data];
        let end = Instant::now() + Duration::from_secs(60);
        while cluster.sampan(&check).code == Some(0) {
            assert!(Instant::now() < end, "certificates expire");
        }
        cluster.sampan(&check).fails().has(&["expired"]);
    }
    cluster.start_server().expect("it starts with new certificates");
    cluster.kubectl(&["get", "nodes"]).ok().has(&["Ready"]);
    cluster.stop().expect("nothing stays");
}

fn told(status: Status) -> String {
    status.to_string()
}

fn map(name: &str) -> Target<'_> {
    Target { gvr: &CONFIG_MAPS, namespace: Some("load"), name, subresource: None }
}

/// Reads and writes over connections that are kept, with whatever credentials the kubeconfig has.
async fn writes(control: Control, kubeconfig: &Path) -> Result<(), String> {
    let backend = RemoteBackend::following(kubeconfig, None, "test").map_err(|error| error.to_string())?;
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "counter"}});
    backend.create(map(""), body.to_string().into()).await.map_err(told)?;
    let mut last = 0;
    while control.goes_on() {
        last += 1;
        let patch = json!({"data": {"count": last.to_string()}}).to_string();
        backend.patch(map("counter"), PatchKind::Merge, patch.into()).await.map_err(told)?;
        let read: serde_json::Value =
            backend.get(map("counter")).await.map_err(told)?.decode().map_err(|error| error.to_string())?;
        if read["data"]["count"].as_str() != Some(&last.to_string()) {
            return Err(format!("{last} was written and {read} is there"));
        }
        control.count();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Watches without a break: every event arrives once, in order.
async fn watch(control: Control, kubeconfig: &Path) -> Result<(), String> {
    let backend = RemoteBackend::following(kubeconfig, None, "test").map_err(|error| error.to_string())?;
    let mut revision = 0;
    while control.goes_on() {
        let options =
            ListOptions { revision: Some(revision).filter(|one| *one > 0), ..ListOptions::default() };
        let mut events = backend.watch(&CONFIG_MAPS, Some("load"), &options).await.map_err(told)?;
        while let Some(event) = events.next().await {
            match event.map_err(told)? {
                WatchEvent::Bookmark(at) => revision = at,
                WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                    revision = object.header.revision;
                    control.count();
                }
            }
            if !control.goes_on() {
                break;
            }
        }
    }
    Ok(())
}

/// What a kubelet does: renews its lease, and in time its certificate, as itself.
async fn node(control: Control, kubeconfig: &Path, life: Duration) -> Result<(), String> {
    let admin = RemoteBackend::following(kubeconfig, None, "test").map_err(|error| error.to_string())?;
    let access = Access::read(kubeconfig, None).map_err(|error| error.to_string())?;
    let (mut access, mut since) = (certified(&admin, access, 0, true).await?, Instant::now());
    let backend = RemoteBackend::new(&access, "kubelet").map_err(|error| error.to_string())?;
    let lease =
        Target { gvr: &LEASES, namespace: Some("kube-node-lease"), name: "elsewhere", subresource: None };
    let body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "elsewhere", "namespace": "kube-node-lease"}, "spec": {"holderIdentity": "elsewhere"}});
    backend.create(Target { name: "", ..lease }, body.to_string().into()).await.map_err(told)?;
    let mut number = 0;
    while control.goes_on() {
        if since.elapsed() > life.mul_f64(0.6) {
            number += 1;
            access = certified(&backend, access, number, false).await?;
            backend.replace(&access).map_err(|error| error.to_string())?;
            since = Instant::now();
        }
        let patch = json!({"spec": {"leaseTransitions": number}}).to_string();
        backend.patch(lease, PatchKind::Merge, patch.into()).await.map_err(told)?;
        control.count();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Asks for a certificate of the node `elsewhere`, and waits for it. The first one somebody else must approve.
async fn certified(
    backend: &RemoteBackend,
    mut access: Access,
    number: usize,
    approve: bool,
) -> Result<Access, String> {
    let name = format!("elsewhere-{number}");
    let usages = ["digital signature", "client auth"];
    let (object, key) = request(&name, KUBELET_CLIENT, "system:node:elsewhere/system:nodes", &usages);
    let mut object: serde_json::Value = serde_json::from_str(&object).map_err(|error| error.to_string())?;
    // As long as the signer grants.
    object["spec"].as_object_mut().expect("an object").remove("expirationSeconds");
    let target = Target { gvr: &REQUESTS, namespace: None, name: "", subresource: None };
    let created = backend.create(target, object.to_string().into()).await.map_err(told)?;
    if approve {
        let mut value: serde_json::Value = created.decode().map_err(|error| error.to_string())?;
        value["status"]["conditions"] = json!([{"type": "Approved", "status": "True", "reason": "Test"}]);
        let approval = Target { name: &name, subresource: Some("approval"), ..target };
        let approved = backend.update(approval, value.to_string().into()).await;
        // An administrator's own right may have approved it before.
        if let Err(status) = approved.map_err(told)
            && !status.contains("modified")
        {
            return Err(status);
        }
    }
    let options =
        ListOptions { field_selector: Some(format!("metadata.name={name}")), ..ListOptions::default() };
    let mut events = backend.watch(&REQUESTS, None, &options).await.map_err(told)?;
    while let Some(event) = events.next().await {
        let (WatchEvent::Added(object) | WatchEvent::Modified(object)) = event.map_err(told)? else {
            continue;
        };
        let value: serde_json::Value = object.decode().map_err(|error| error.to_string())?;
        if let Some(pem) = value["status"]["certificate"].as_str() {
            let chain = STANDARD.decode(pem).map_err(|error| error.to_string())?;
            access.credentials = Credentials { certificate: Some((chain, key.into_bytes())), token: None };
            return Ok(access);
        }
    }
    Err("the watch ended".to_owned())
}

/// New connections all the time; there must be enough different certificates among them.
async fn handshakes(control: Control, kubeconfig: &Path, at_least: Duration) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    while control.goes_on() {
        seen.insert(handshake(kubeconfig).await.map_err(|error| format!("handshake: {error}"))?);
        control.count();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let enough = at_least.as_secs().max(1) as usize;
    if seen.len() > enough { Ok(()) } else { Err(format!("only {} certificates were shown", seen.len())) }
}

async fn handshake(kubeconfig: &Path) -> std::io::Result<Vec<u8>> {
    use rustls::pki_types::pem::PemObject as _;
    let access = Access::read(kubeconfig, None).map_err(std::io::Error::other)?;
    let mut roots = rustls::RootCertStore::empty();
    for authority in
        rustls::pki_types::CertificateDer::pem_slice_iter(&access.certificate_authority.unwrap_or_default())
    {
        roots.add(authority.map_err(std::io::Error::other)?).map_err(std::io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(API).await?;
    let name = rustls::pki_types::ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    Ok(shown.map(|certificate| certificate.to_vec()).unwrap_or_default())
}

/// A kubeconfig as it is now, for whoever does not follow it.
pub fn copied(cluster: &Cluster, name: &str) -> PathBuf {
    let path = cluster.scratch().join(name);
    std::fs::copy(cluster.kubeconfig(), &path).expect("copied");
    path
}
