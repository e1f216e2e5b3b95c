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
