//! The API of each server, for clients of the hub.

use std::path::Path;
use std::time::Duration;

use sampan_api::Gvr;
use sampan_client::kubeconfig::Access;
use sampan_client::remote::RemoteBackend;
use sampan_client::{Backend as _, ListOptions, Target};
use serde_json::Value;

pub static CONFIG_MAPS: Gvr = Gvr::new("", "v1", "configmaps");
pub static LEASES: Gvr = Gvr::new("coordination.k8s.io", "v1", "leases");
pub static DEPLOYMENTS: Gvr = Gvr::new("apps", "v1", "deployments");
pub const NAMESPACE: &str = "default";

/// How long a client waits for an answer before it calls the outcome unknown.
pub const PATIENCE: Duration = Duration::from_secs(5);

pub fn connect(kubeconfig: &Path) -> RemoteBackend {
    let access = Access::read(kubeconfig, None).expect("a kubeconfig");
    RemoteBackend::new(&access, "load").expect("a client")
}

pub fn at(gvr: &'static Gvr, name: &'static str) -> Target<'static> {
    Target { gvr, namespace: Some(NAMESPACE), name, subresource: None }
}

/// Every object of a kind that has a label, page by page.
pub async fn all(backend: &RemoteBackend, gvr: &Gvr, label: &str) -> Vec<Value> {
    let mut options =
        ListOptions { label_selector: Some(label.to_owned()), limit: 2000, ..ListOptions::default() };
    let mut found = Vec::new();
    loop {
        let page = backend.list(gvr, Some(NAMESPACE), &options).await.expect("answers");
        found.extend(page.items.iter().map(|item| item.decode::<Value>().expect("an object")));
        match page.continue_token {
            None => return found,
            token => options.continue_token = token,
        }
    }
}

/// Runs something with the network of the hub.
pub fn in_hub<T: Send + 'static, F: Future<Output = T>>(
    hub: &sampan_testkit::Sandbox,
    work: impl FnOnce() -> F + Send + 'static,
) -> std::thread::JoinHandle<T> {
    hub.in_network(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work())
    })
}
