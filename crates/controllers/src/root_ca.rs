//! The root certificate: a config map in every namespace by which pods trust the API server.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sampan_api::Status;
use sampan_client::{InformerEvent, WorkQueue};

use crate::Shared;
use crate::controller::{Controller, subjects};
use crate::namespace::{is_active, refused_by_terminating_namespace};
use crate::view::Kind;

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";

/// Keys are names of namespaces.
pub(crate) struct RootCertificates;

#[async_trait]
impl Controller for RootCertificates {
    fn name(&self) -> &'static str {
        "root-ca-certificate-publisher"
    }

    fn affected(&self, _: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match (kind, event) {
            (Kind::Namespace, InformerEvent::Applied { new, .. }) => queue.add(new.header.name.to_string()),
            (Kind::ConfigMap, _) => {
                let ours = subjects(event).filter(|map| &*map.header.name == NAME);
                ours.for_each(|map| queue.add(map.header.namespace.to_string()));
            }
            _ => {}
        }
    }

    async fn follow(&self, shared: &Shared, queue: &WorkQueue<String>) {
        let mut changes = shared.config.authority.changes();
        while changes.changed().await.is_ok() {
            let namespaces = shared.view.of(Kind::Namespace).list("");
            namespaces.iter().for_each(|namespace| queue.add(namespace.header.name.to_string()));
        }
        std::future::pending().await
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        if !is_active(shared, key) {
            return Ok(None);
        }
        let api = shared.client.namespaced::<ConfigMap>(key);
        let data = BTreeMap::from([(FILE.to_owned(), shared.config.authority.bundle())]);
        let known: Option<ConfigMap> = shared.view.get(Kind::ConfigMap, &format!("{key}/{NAME}"));
        let result = match known {
            Some(map) if map.data.as_ref() == Some(&data) => return Ok(None),
            Some(map) => api.update(&ConfigMap { data: Some(data), binary_data: None, ..map }).await,
            None => {
                let metadata = ObjectMeta {
                    name: Some(NAME.to_owned()),
                    namespace: Some(key.to_owned()),
                    ..ObjectMeta::default()
                };
                api.create(&ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }).await
            }
        };
        match result {
            Ok(_) => Ok(None),
            Err(status) if refused_by_terminating_namespace(&status) => Ok(None),
            // The view will show the one that is there, which brings the key back.
            Err(status) if status.is_already_exists() => Ok(None),
            Err(status) => Err(status),
        }
    }
}
