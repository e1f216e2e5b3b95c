//! What expressions of policies and webhooks see: the request with its objects, and an authorizer.

use std::sync::Arc;

use sampan_api::table::ResourceDef;
use sampan_cel::conditions::Request;
use sampan_cel::library::authz::{Action, Authorizer, Decision, ServiceAccount};
use serde_json::Value;

use super::namespace_lifecycle::NAMESPACES;
use super::webhooks::hook::ReviewVersion;
use super::webhooks::matching::Invocation;
use super::webhooks::review;
use super::{Attributes, versioned};
use crate::authorizer;
use crate::identity::User;
use crate::identity::authorization::{self, Attributes as Asked};
use crate::registry::{Context, Registry};

/// What the expressions see, in the version that the policy matches.
pub struct Subject {
    object: Value,
    old: Value,
    request: Value,
    namespace: Option<Value>,
}

impl Subject {
    pub fn new(
        attributes: &Attributes<'_>,
        object: Option<&Value>,
        def: &Arc<ResourceDef>,
        context: &Context,
    ) -> Self {
        let shown = |object: &Value| versioned::to_version(attributes, def, object);
        let invocation = Invocation { def: def.clone() };
        let review = review::request(ReviewVersion::V1, "", &invocation, attributes, None, None, context);
        let mut request = review.get("request").cloned().unwrap_or_default();
        if let Some(fields) = request.as_object_mut() {
            fields.remove("object");
            fields.remove("oldObject");
            fields.remove("uid");
        }
        Subject {
            object: object.map_or(Value::Null, shown),
            old: attributes.old.map_or(Value::Null, shown),
            request,
            namespace: namespace(attributes),
        }
    }

    /// With the parameters of a policy, if it has any.
    pub fn request<'a>(&'a self, param: Option<&'a Value>, authorizer: &'a RequestAuthorizer) -> Request<'a> {
        Request {
            object: &self.object,
            old_object: &self.old,
            request: &self.request,
            authorizer: Some(authorizer),
            params: param,
            namespace: self.namespace.as_ref(),
        }
    }
}

/// The namespace of the request, without what expressions may not see.
fn namespace(attributes: &Attributes<'_>) -> Option<Value> {
    let name = attributes.namespace.filter(|_| *attributes.resource.gvr() != NAMESPACES)?;
    let mut found: Value = attributes.registry.get(&NAMESPACES, None, name).ok()?.decode().ok()?;
    if let Some(metadata) = found.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.remove("ownerReferences");
    }
    Some(found)
}

/// Answers for the user of a request, and for service accounts.
pub struct RequestAuthorizer {
    authorizer: Option<Arc<authorizer::Authorizer>>,
    user: User,
}

impl RequestAuthorizer {
    pub fn new(registry: &Registry, user: &User) -> Self {
        RequestAuthorizer { authorizer: registry.authorizer.get().cloned(), user: user.clone() }
    }
}

impl Authorizer for RequestAuthorizer {
    fn decide(&self, who: Option<&ServiceAccount>, what: &Action) -> Decision {
        let Some(authorizer) = &self.authorizer else {
            let error = Some("the roles are not read yet".to_owned());
            return Decision { allowed: false, reason: String::new(), error };
        };
        let account = who.map(|who| User::service_account(&who.namespace, &who.name, ""));
        let user = account.as_ref().unwrap_or(&self.user);
        let attributes = match &what.path {
            Some(path) => Asked::path(user, &what.verb, path),
            None => Asked {
                user,
                verb: &what.verb,
                group: &what.group,
                version: "*",
                resource: &what.resource,
                subresource: &what.subresource,
                namespace: &what.namespace,
                name: &what.name,
                path: "",
                field_selector: None,
            },
        };
        match authorizer.decide(&attributes) {
            authorization::Decision::Allow { reason } => Decision { allowed: true, reason, error: None },
            authorization::Decision::Deny { reason } => Decision { allowed: false, reason, error: None },
        }
    }
}
