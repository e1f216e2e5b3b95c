//! `serviceaccounts/token`: tokens on request, bound to what uses them.

use jiff::Timestamp;
use sampan_api::object::ObjectRef;
use sampan_api::status::Cause;
use sampan_api::{Gvr, Status};
use serde_json::{Value, json};

use super::{Context, Registry, Resource};
use crate::identity::authentication::{BoundTo, NamedUid, TokenSpec};

const PODS: Gvr = Gvr::new("", "v1", "pods");

impl Registry {
    /// `serviceaccounts/token`: issues a token by TokenRequest.
    pub(super) fn issue_token(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        mut request: Value,
        context: &mut Context,
    ) -> Result<Value, Status> {
        let key = resource.key(namespace, name);
        let account = resource.cache.get(&key).ok_or_else(|| resource.not_found(name))?;
        let spec = &request["spec"];
        let bound_to = match &spec["boundObjectRef"] {
            Value::Null => None,
            reference => Some(self.resolve_bound(namespace.unwrap_or_default(), name, reference)?),
        };
        let audiences = spec["audiences"].as_array().into_iter().flatten();
        let spec = TokenSpec {
            namespace: namespace.unwrap_or_default(),
            service_account: name,
            service_account_uid: &account.header.uid,
            bound_to,
            audiences: audiences.filter_map(Value::as_str).map(str::to_owned).collect(),
            expiration_seconds: spec["expirationSeconds"].as_i64(),
        };
        let issued = self.tokens.issue(spec, Timestamp::now()).map_err(|error| {
            let cause = Cause {
                reason: "FieldValueInvalid".into(),
                message: format!("Invalid value: {error}"),
                field: "spec.expirationSeconds".into(),
            };
            Status::invalid("authentication.k8s.io", "TokenRequest", name, vec![cause])
        })?;
        context
            .annotate("authentication.kubernetes.io/issued-credential-id".to_owned(), issued.credential_id);
        if !request.is_object() {
            request = json!({});
        }
        request["apiVersion"] = "authentication.k8s.io/v1".into();
        request["kind"] = "TokenRequest".into();
        let metadata = super::metadata_of(&mut request);
        metadata.insert("name".into(), name.into());
        metadata.insert("namespace".into(), namespace.unwrap_or_default().into());
        metadata.insert("creationTimestamp".into(), super::timestamp(Timestamp::now()).into());
        request["spec"]["audiences"] = json!(issued.audiences);
        request["spec"]["expirationSeconds"] = issued.expiration_seconds.into();
        request["status"] =
            json!({"token": issued.token, "expirationTimestamp": super::timestamp(issued.expiration)});
        Ok(request)
    }

    /// The object that a token is to be bound to; it must exist and, for a pod, use the account.
    fn resolve_bound(&self, namespace: &str, account: &str, reference: &Value) -> Result<BoundTo, Status> {
        let text = |field: &str| reference[field].as_str().unwrap_or_default();
        let name = text("name");
        let (gvr, key) = match text("kind") {
            "Pod" => (PODS, format!("{namespace}/{name}")),
            "Secret" => (Gvr::new("", "v1", "secrets"), format!("{namespace}/{name}")),
            "Node" => (Gvr::new("", "v1", "nodes"), name.to_owned()),
            other => {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount \"{account}\" to object kind {other}"
                )));
            }
        };
        let object = self.find(&gvr, &key).ok_or_else(|| Status::not_found(&gvr, name))?;
        let uid = text("uid");
        if !uid.is_empty() && uid != &*object.header.uid {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            return Err(Status::conflict(&gvr, name, why));
        }
        let named = |object: &ObjectRef| NamedUid {
            name: object.header.name.to_string(),
            uid: object.header.uid.to_string(),
        };
        Ok(match gvr.resource.as_ref() {
            "pods" => {
                let pod: Value = object.decode().map_err(Status::internal)?;
                if pod["spec"]["serviceAccountName"] != account {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
                    )));
                }
                let node = pod["spec"]["nodeName"]
                    .as_str()
                    .and_then(|node| self.find(&Gvr::new("", "v1", "nodes"), node));
                BoundTo::Pod { pod: named(&object), node: node.as_ref().map(named) }
            }
            "secrets" => BoundTo::Secret(named(&object)),
            _ => BoundTo::Node(named(&object)),
        })
    }
}
