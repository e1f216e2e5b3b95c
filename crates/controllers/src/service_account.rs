//! Service accounts: every namespace has one named `default`.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sampan_api::Status;
use sampan_client::{InformerEvent, WorkQueue};

use crate::Shared;
use crate::controller::Controller;
use crate::namespace::{is_active, refused_by_terminating_namespace};
use crate::view::Kind;

const NAME: &str = "default";

/// Keys are names of namespaces.
pub(crate) struct ServiceAccounts;

#[async_trait]
impl Controller for ServiceAccounts {
    fn name(&self) -> &'static str {
        "serviceaccount"
    }

    fn affected(&self, _: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match (kind, event) {
            (Kind::Namespace, InformerEvent::Applied { new, .. }) => queue.add(new.header.name.to_string()),
            (Kind::ServiceAccount, InformerEvent::Deleted(account)) if &*account.header.name == NAME => {
                queue.add(account.header.namespace.to_string());
            }
            _ => {}
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let known = shared.view.of(Kind::ServiceAccount).get(&format!("{key}/{NAME}")).is_some();
        if known || !is_active(shared, key) {
            return Ok(None);
        }
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(key.to_owned()),
            ..ObjectMeta::default()
        };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        match shared.client.namespaced::<ServiceAccount>(key).create(&account).await {
            Ok(_) => Ok(None),
            Err(status) if status.is_already_exists() || refused_by_terminating_namespace(&status) => {
                Ok(None)
            }
            Err(status) => Err(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::Fleet;
    use crate::root_ca::RootCertificates;
    use crate::testing::{Bench, until};

    #[tokio::test]
    async fn every_namespace_has_what_pods_need() {
        let mut bench = Bench::start().await;
        let mut fleet = Fleet::default();
        fleet.add_with(bench.shared.clone(), ServiceAccounts);
        fleet.add_with(bench.shared.clone(), RootCertificates);
        let running = fleet.start(bench.take_feed());
        bench.create("", "v1", "namespaces", "", json!({"metadata": {"name": "n"}})).await;
        let first =
            until(&bench, ("", "serviceaccounts"), |account| account["metadata"]["name"] == NAME).await;
        bench.delete("", "v1", "serviceaccounts", "n", NAME).await;
        until(&bench, ("", "serviceaccounts"), |account| {
            account["metadata"]["uid"] != first["metadata"]["uid"]
        })
        .await;
        let right = |map: &serde_json::Value| map["data"] == json!({"ca.crt": "the certificate"});
        let mut map = until(&bench, ("", "configmaps"), right).await;
        map["data"] = json!({"ca.crt": "another"});
        bench.update("", "v1", "configmaps", "n", "kube-root-ca.crt", map).await;
        until(&bench, ("", "configmaps"), right).await;
        bench.authority.replace("both certificates");
        let both = |map: &serde_json::Value| map["data"] == json!({"ca.crt": "both certificates"});
        until(&bench, ("", "configmaps"), both).await;
        running.stop().await;
    }
}
