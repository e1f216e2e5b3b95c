//! Resources that are answered and never stored: token, access and rules reviews.

use jiff::Timestamp;
use sampan_api::Status;
use serde_json::{Value, json};

use crate::ApiServer;
use crate::identity::User;
use crate::identity::authorization::Attributes;
use crate::identity::authorization::webhook::Opinion;
use crate::registry::{Body, Context, decode_value};
use crate::route::ResourceRoute;

/// Answers a POST on a review; `None` where the resource is not one.
pub async fn create(
    server: &ApiServer,
    route: &ResourceRoute,
    body: &Body,
    context: &Context,
) -> Result<Option<Value>, Status> {
    let review = match (route.gvr.group.as_ref(), route.gvr.resource.as_ref()) {
        ("authentication.k8s.io", "selfsubjectreviews") => {
            let mut review = decode_value(body)?.value;
            review["status"] = json!({"userInfo": user_info(&context.user)});
            review["metadata"]["creationTimestamp"] = crate::registry::timestamp(Timestamp::now()).into();
            review
        }
        ("authentication.k8s.io", "tokenreviews") => token_review(server, decode_value(body)?.value).await?,
        ("authorization.k8s.io", "selfsubjectaccessreviews") => {
            access_review(server, decode_value(body)?.value, Some(&context.user), None).await?
        }
        ("authorization.k8s.io", "subjectaccessreviews") => {
            access_review(server, decode_value(body)?.value, None, None).await?
        }
        ("authorization.k8s.io", "localsubjectaccessreviews") => {
            access_review(server, decode_value(body)?.value, None, route.namespace.as_deref()).await?
        }
        ("authorization.k8s.io", "selfsubjectrulesreviews") => {
            let mut review = decode_value(body)?.value;
            let namespace =
                review.pointer("/spec/namespace").and_then(Value::as_str).unwrap_or_default().to_owned();
            if namespace.is_empty() {
                return Err(Status::bad_request("no namespace on request"));
            }
            review["status"] = server.rules_review(&context.user, &namespace);
            review
        }
        _ => return Ok(None),
    };
    let mut review = review;
    if let Some(def) = server.registry.table().get_gvr(&route.gvr) {
        review["apiVersion"] = def.gvr.api_version().into();
        review["kind"] = def.kind.to_string().into();
    }
    Ok(Some(review))
}

/// `authentication.k8s.io/v1` UserInfo.
fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.clone().into();
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

async fn token_review(server: &ApiServer, mut review: Value) -> Result<Value, Status> {
    let token = review.pointer("/spec/token").and_then(Value::as_str).unwrap_or_default().to_owned();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = review.pointer("/spec/audiences").and_then(Value::as_array);
    let audiences: Vec<String> =
        audiences.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    review["status"] = match server.verify_token(&token, &audiences).await {
        Ok(verified) => {
            json!({"authenticated": true, "user": user_info(&verified.user), "audiences": verified.audiences})
        }
        Err(error) => json!({"authenticated": false, "user": {}, "error": told(&error)}),
    };
    Ok(review)
}

/// Why a token is not accepted: the last cause says most, and nothing that the asker did not send.
fn told(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Whether a user, the asking one or the one in the review, may do what the review says.
async fn access_review(
    server: &ApiServer,
    mut review: Value,
    asking: Option<&User>,
    namespace: Option<&str>,
) -> Result<Value, Status> {
    let spec = &review["spec"];
    let user = match asking {
        Some(user) => user.clone(),
        None => {
            let texts = |field: &str| {
                let list = spec[field].as_array().into_iter().flatten();
                list.filter_map(Value::as_str).map(str::to_owned).collect()
            };
            let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
            let extra = serde_json::from_value(spec["extra"].clone()).unwrap_or_default();
            User { name: text("user"), uid: text("uid"), groups: texts("groups"), extra }
        }
    };
    let resource = &spec["resourceAttributes"];
    let path = &spec["nonResourceAttributes"];
    if resource.is_object() == path.is_object() {
        return Err(Status::bad_request(
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    }
    let text = |field: &str| resource[field].as_str().unwrap_or_default();
    if namespace.is_some_and(|namespace| namespace != text("namespace")) {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {}",
            namespace.unwrap_or_default()
        )));
    }
    let attributes = if resource.is_object() {
        Attributes {
            user: &user,
            verb: text("verb"),
            group: text("group"),
            version: text("version"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
            path: "",
            field_selector: None,
        }
    } else {
        let text = |field: &str| path[field].as_str().unwrap_or_default();
        Attributes::path(&user, text("verb"), text("path"))
    };
    let (mut status, reason) = match server.decide_request(&attributes).await {
        Opinion::Allow(reason) => (json!({"allowed": true}), reason),
        Opinion::Deny(reason) => (json!({"allowed": false, "denied": true}), reason),
        Opinion::None(reason) => (json!({"allowed": false}), reason),
    };
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    review["status"] = status;
    Ok(review)
}
