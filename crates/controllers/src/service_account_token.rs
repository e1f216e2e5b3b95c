//! Secrets of type `kubernetes.io/service-account-token`: each gets a token of the account that it names,
//! and goes with that account.
//!
//! Unlike upstream's, these tokens are bound to their secrets, so that they end with them; nothing else
//! does before the signing key is rotated.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use sampan_api::Status;
use sampan_client::{InformerEvent, WorkQueue};

use crate::Shared;
use crate::controller::{Controller, delete_seen};
use crate::view::Kind;

const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const TOKEN: &str = "token";
const AUTHORITY: &str = "ca.crt";
const NAMESPACE: &str = "namespace";
/// The longest life that may be asked for.
const LIFE_SECONDS: i64 = 1 << 32;

/// Keys are secrets of service accounts' tokens.
pub(crate) struct ServiceAccountTokens;

#[async_trait]
impl Controller for ServiceAccountTokens {
    fn name(&self) -> &'static str {
        "serviceaccount-token"
    }

    fn affected(&self, shared: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        match (kind, event) {
            (Kind::ServiceAccountToken, InformerEvent::Applied { new, .. }) => queue.add(new.key()),
            (Kind::ServiceAccount, InformerEvent::Applied { new: account, old: None })
            | (Kind::ServiceAccount, InformerEvent::Deleted(account)) => {
                let secrets = shared.view.of(Kind::ServiceAccountToken).list(&account.header.namespace);
                secrets.iter().for_each(|secret| queue.add(secret.key()));
            }
            _ => {}
        }
    }

    async fn follow(&self, shared: &Shared, queue: &WorkQueue<String>) {
        let mut changes = shared.config.authority.changes();
        while changes.changed().await.is_ok() {
            let secrets = shared.view.of(Kind::ServiceAccountToken).list("");
            secrets.iter().for_each(|secret| queue.add(secret.key()));
        }
        std::future::pending().await
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some(secret) = shared.view.get::<Secret>(Kind::ServiceAccountToken, key) else { return Ok(None) };
        let namespace = secret.metadata.namespace.clone().unwrap_or_default();
        let accounts = shared.client.namespaced::<ServiceAccount>(&namespace);
        let Some(name) = annotation(&secret, ACCOUNT) else { return Ok(None) };
        // The view may not have it yet.
        let account = accounts.find(name).await?;
        let bundle = shared.config.authority.bundle();
        match plan(&secret, account.as_ref(), &bundle) {
            Plan::Leave => {}
            Plan::Delete => delete_seen(shared, &secret).await?,
            Plan::Complete { account_uid, needs_token } => {
                let token = match needs_token {
                    true => Some(request_token(shared, &secret, &namespace, name).await?),
                    false => None,
                };
                let secret = completed(secret, account_uid, token, bundle, namespace.clone());
                match shared.client.namespaced::<Secret>(&namespace).update(&secret).await {
                    Ok(_) => {}
                    Err(status) if status.is_not_found() => {}
                    Err(status) => return Err(status),
                }
            }
        }
        Ok(None)
    }
}

/// What a secret needs.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Leave,
    /// Its account is gone, or is another one by now.
    Delete,
    Complete {
        account_uid: String,
        needs_token: bool,
    },
}

fn plan(secret: &Secret, account: Option<&ServiceAccount>, bundle: &str) -> Plan {
    if secret.metadata.deletion_timestamp.is_some() {
        return Plan::Leave;
    }
    let Some(account_uid) = account.and_then(|account| account.metadata.uid.clone()) else {
        return Plan::Delete;
    };
    let named = annotation(secret, ACCOUNT_UID);
    if named.is_some_and(|named| named != account_uid) {
        return Plan::Delete;
    }
    let has = |field: &str, wanted: &str| field_of(secret, field) == Some(wanted.as_bytes());
    let needs_token = field_of(secret, TOKEN).is_none_or(<[u8]>::is_empty);
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    if named.is_some() && !needs_token && has(AUTHORITY, bundle) && has(NAMESPACE, namespace) {
        return Plan::Leave;
    }
    Plan::Complete { account_uid, needs_token }
}

fn completed(
    mut secret: Secret,
    account_uid: String,
    token: Option<String>,
    bundle: String,
    namespace: String,
) -> Secret {
    secret.metadata.annotations.get_or_insert_default().insert(ACCOUNT_UID.to_owned(), account_uid);
    let data: &mut BTreeMap<_, _> = secret.data.get_or_insert_default();
    let fields = [(TOKEN, token), (AUTHORITY, Some(bundle)), (NAMESPACE, Some(namespace))];
    for (name, text) in fields {
        if let Some(text) = text {
            data.insert(name.to_owned(), ByteString(text.into_bytes()));
        }
    }
    secret
}

async fn request_token(
    shared: &Shared,
    secret: &Secret,
    namespace: &str,
    account: &str,
) -> Result<String, Status> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(LIFE_SECONDS),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Secret".to_owned()),
                name: secret.metadata.name.clone(),
                uid: secret.metadata.uid.clone(),
            }),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let accounts = shared.client.namespaced::<ServiceAccount>(namespace);
    let answer = accounts.create_subresource(account, "token", &request).await?;
    let answer: TokenRequest = answer.decode().map_err(Status::internal)?;
    answer.status.map(|status| status.token).ok_or_else(|| Status::internal("the answer has no token"))
}

fn annotation<'a>(secret: &'a Secret, name: &str) -> Option<&'a str> {
    let text = secret.metadata.annotations.as_ref()?.get(name)?;
    Some(text.as_str()).filter(|text| !text.is_empty())
}

fn field_of<'a>(secret: &'a Secret, name: &str) -> Option<&'a [u8]> {
    secret.data.as_ref()?.get(name).map(|bytes| bytes.0.as_slice())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_secret_is_completed_once_and_ends_with_its_account() {
        // "t", "ca", "n"
        let whole = json!({"token": "dA==", "ca.crt": "Y2E=", "namespace": "bg=="});
        let of = |uid: &str| json!({ACCOUNT: "robot", ACCOUNT_UID: uid});
        let complete = |needs_token| Plan::Complete { account_uid: "u1".to_owned(), needs_token };
        for (what, annotations, data, uid, expected) in [
            ("new", json!({ACCOUNT: "robot"}), json!({}), Some("u1"), complete(true)),
            ("whole", of("u1"), whole.clone(), Some("u1"), Plan::Leave),
            ("not said whose", json!({ACCOUNT: "robot"}), whole.clone(), Some("u1"), complete(false)),
            (
                "another authority",
                of("u1"),
                json!({"token": "dA==", "ca.crt": "eA==", "namespace": "bg=="}),
                Some("u1"),
                complete(false),
            ),
            (
                "emptied token",
                of("u1"),
                json!({"token": "", "ca.crt": "Y2E=", "namespace": "bg=="}),
                Some("u1"),
                complete(true),
            ),
            ("account made again", of("u0"), whole.clone(), Some("u1"), Plan::Delete),
            ("account gone", of("u1"), whole, None, Plan::Delete),
        ] {
            let metadata = json!({"name": "s", "namespace": "n", "annotations": annotations});
            let secret = decode(json!({"metadata": metadata, "data": data}));
            let account = uid.map(|uid| {
                serde_json::from_value(json!({"metadata": {"name": "robot", "uid": uid}}))
                    .expect("an account")
            });
            assert_eq!(plan(&secret, account.as_ref(), "ca"), expected, "{what}");
        }
    }

    #[test]
    fn completing_keeps_what_is_there() {
        let secret =
            decode(json!({"metadata": {"annotations": {"a": "b"}}, "data": {"token": "dA==", "x": "eA=="}}));
        let secret = completed(secret, "u".into(), None, "ca".into(), "n".into());
        let value = serde_json::to_value(secret).expect("JSON");
        assert_eq!(value["metadata"]["annotations"], json!({"a": "b", ACCOUNT_UID: "u"}));
        let data = json!({"token": "dA==", "x": "eA==", "ca.crt": "Y2E=", "namespace": "bg=="});
        assert_eq!(value["data"], data);
    }

    fn decode(value: Value) -> Secret {
        serde_json::from_value(value).expect("a secret")
    }
}
