//! Subresources that act: binding, eviction, and the way to the others.

use std::ops::Bound;

use jiff::Timestamp;
use sampan_api::object::ObjectRef;
use sampan_api::selector::Selector;
use sampan_api::status::{Cause, StatusDetails};
use sampan_api::table::Subresource;
use sampan_api::{Gvr, Status};
use sampan_client::DeleteOptions;
use serde_json::{Map, Value, json};

use super::read_body::decode_value;
use super::write::{Part, Place};
use super::{Body, Context, Registry, Resource, metadata};
use crate::admission::{self, Attributes, Operation};

const PODS: Gvr = Gvr::new("", "v1", "pods");
const BUDGETS: Gvr = Gvr::new("policy", "v1", "poddisruptionbudgets");

impl Registry {
    /// A POST on a subresource.
    pub async fn act(
        &self,
        resource: &Resource,
        subresource: &Subresource,
        namespace: Option<&str>,
        name: &str,
        body: &Body,
        context: &mut Context,
    ) -> Result<Value, Status> {
        let mut body = decode_value(body)?.value;
        self.admit_action(resource, subresource, namespace, name, &mut body, context).await?;
        match subresource.name.as_ref() {
            "binding" => self.bind(resource, namespace, name, &body, context).await,
            "eviction" => self.evict(resource, namespace, name, &body, context).await,
            "token" => self.issue_token(resource, namespace, name, body, context),
            _ => Err(Status::method_not_allowed(&resource.def.gvr, "create")),
        }
    }

    /// Admission of what an action makes: its body, as a new object of the subresource.
    async fn admit_action(
        &self,
        resource: &Resource,
        subresource: &Subresource,
        namespace: Option<&str>,
        name: &str,
        body: &mut Value,
        context: &mut Context,
    ) -> Result<(), Status> {
        if let Some(fields) = body.as_object_mut() {
            let api_version = match subresource.group.as_ref() {
                "" => subresource.version.to_string(),
                group => format!("{group}/{}", subresource.version),
            };
            fields.entry("apiVersion").or_insert(api_version.into());
            fields.entry("kind").or_insert(subresource.kind.to_string().into());
        }
        let attributes = Attributes {
            registry: self,
            resource,
            subresource: &subresource.name,
            operation: Operation::Create,
            namespace,
            name,
            old: None,
            deletion: None,
        };
        admission::mutate(&attributes, body, context).await?;
        admission::validate(&attributes, Some(body), context).await
    }

    /// `pods/binding`: gives a pod its node.
    pub async fn bind(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        binding: &Value,
        context: &mut Context,
    ) -> Result<Value, Status> {
        let node = binding.pointer("/target/name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if node.is_empty() {
            let cause = required("target.name");
            return Err(Status::invalid("", "Binding", name, vec![cause]));
        }
        let wanted_uid = binding.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
        let mut change = |pod: &Value, _: &mut Context| {
            if !wanted_uid.is_empty() && metadata::text(pod, "uid") != wanted_uid {
                let why = format!(
                    "Precondition failed: UID in precondition: {wanted_uid}, UID in object meta: {}",
                    metadata::text(pod, "uid")
                );
                return Err(Status::conflict(&PODS, name, why));
            }
            if metadata::is_terminating(pod) {
                return Err(Status::conflict(
                    &PODS,
                    name,
                    format!("pod {name} is being deleted, cannot be assigned to a host"),
                ));
            }
            let bound = pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
            if !bound.is_empty() {
                return Err(Status::conflict(
                    &PODS,
                    name,
                    format!("pod {name} is already assigned to node \"{bound}\""),
                ));
            }
            if pod
                .pointer("/spec/schedulingGates")
                .and_then(Value::as_array)
                .is_some_and(|gates| !gates.is_empty())
            {
                return Err(Status::conflict(
                    &PODS,
                    name,
                    format!("pod {name} has non-empty .spec.schedulingGates"),
                ));
            }
            let mut pod = pod.clone();
            pod["spec"]["nodeName"] = node.clone().into();
            copy_texts(&binding["metadata"]["annotations"], &mut pod, "annotations");
            copy_texts(&binding["metadata"]["labels"], &mut pod, "labels");
            set_condition(
                &mut pod,
                json!({"type": "PodScheduled", "status": "True",
                "lastProbeTime": null, "lastTransitionTime": super::timestamp(Timestamp::now())}),
            );
            Ok(pod)
        };
        self.change(
            resource,
            Place { namespace, name, part: Part::Subresource("binding") },
            context,
            &mut change,
        )
        .await?;
        Ok(created())
    }

    /// `pods/eviction`: a deletion that disruption budgets may refuse.
    async fn evict(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        eviction: &Value,
        context: &mut Context,
    ) -> Result<Value, Status> {
        let pod =
            resource.cache.get(&resource.key(namespace, name)).ok_or_else(|| resource.not_found(name))?;
        let options = read_delete_options(eviction.get("deleteOptions").unwrap_or(&Value::Null))?;
        let value: Value = pod.decode().map_err(Status::internal)?;
        // What has ended or never ran disrupts nobody.
        let phase = value.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
        if !matches!(phase, "Pending" | "Succeeded" | "Failed") && !pod.header.is_terminating() {
            self.spend_budget(&pod, context).await?;
        }
        self.delete(resource, namespace, name, &options, context).await?;
        Ok(created())
    }

    /// Takes one disruption out of the budget that covers a pod.
    async fn spend_budget(&self, pod: &ObjectRef, context: &mut Context) -> Result<(), Status> {
        let budgets = self.resource(&BUDGETS)?;
        let namespace = pod.header.namespace.as_ref();
        let prefix = format!("{namespace}/");
        let mut covering = Vec::new();
        for (key, object) in budgets
            .cache
            .snapshot()
            .0
            .range::<(Bound<&str>, Bound<&str>), str>((Bound::Included(prefix.as_str()), Bound::Unbounded))
        {
            if !key.starts_with(&prefix) {
                break;
            }
            let value: Value = object.decode().map_err(Status::internal)?;
            let selector = Selector::from_json(&value["spec"]["selector"]).map_err(Status::internal)?;
            if selector.matches(|key| pod.header.label(key)) {
                covering.push(object.header.name.to_string());
            }
        }
        let budget = match covering.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            _ => {
                return Err(Status::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        let pod_name = pod.header.name.to_string();
        let mut change = |budget: &Value, _: &mut Context| spend(budget, &pod_name);
        let place = Place { namespace: Some(namespace), name: &budget, part: Part::Status };
        // The disruption is nobody's field, as upstream.
        let mut unowned = context.clone();
        unowned.options.owners_settled = true;
        let result = self.change(&budgets, place, &mut unowned, &mut change).await;
        result.map(|_| ())
    }
}

fn spend(budget: &Value, pod: &str) -> Result<Value, Status> {
    let mut budget = budget.clone();
    let allowed = budget.pointer("/status/disruptionsAllowed").and_then(Value::as_i64).unwrap_or(0);
    if allowed <= 0 {
        let name = metadata::text(&budget, "name").to_owned();
        let number = |pointer: &str| budget.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        let message = format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number("/status/desiredHealthy"),
            number("/status/currentHealthy")
        );
        let mut status =
            Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 0);
        status.details = Some(StatusDetails {
            causes: vec![Cause { reason: "DisruptionBudget".into(), message, field: String::new() }],
            ..StatusDetails::default()
        });
        return Err(status);
    }
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    budget["status"]["disruptedPods"][pod] = super::timestamp(Timestamp::now()).into();
    Ok(budget)
}

fn copy_texts(from: &Value, object: &mut Value, field: &str) {
    let Some(texts) = from.as_object().filter(|texts| !texts.is_empty()) else { return };
    let metadata = super::metadata_of(object);
    let to = metadata.entry(field.to_owned()).or_insert_with(|| Value::Object(Map::new()));
    if let Some(to) = to.as_object_mut() {
        to.extend(texts.clone());
    }
}

fn set_condition(object: &mut Value, condition: Value) {
    if !object["status"]["conditions"].is_array() {
        object["status"]["conditions"] = json!([]);
    }
    if let Some(conditions) = object["status"]["conditions"].as_array_mut() {
        conditions.retain(|known| known["type"] != condition["type"]);
        conditions.push(condition);
    }
}

/// The answer to an action that made nothing readable.
fn created() -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
}

fn required(field: &str) -> Cause {
    Cause { reason: "FieldValueRequired".into(), message: "Required value".into(), field: field.into() }
}

/// `metav1.DeleteOptions` from a body.
pub fn read_delete_options(body: &Value) -> Result<DeleteOptions, Status> {
    let preconditions = &body["preconditions"];
    let orphan = match body["orphanDependents"].as_bool() {
        Some(true) => Some("Orphan"),
        Some(false) => Some("Background"),
        None => None,
    };
    let policy = match body["propagationPolicy"].as_str() {
        None => orphan,
        Some("Orphan") => Some("Orphan"),
        Some("Background") => Some("Background"),
        Some("Foreground") => Some("Foreground"),
        Some(other) => {
            return Err(Status::failure(
                422,
                "Invalid",
                format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"{other}\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                ),
            ));
        }
    };
    let revision = match preconditions["resourceVersion"].as_str() {
        None => None,
        Some(text) => Some(
            text.parse()
                .map_err(|_| Status::bad_request("preconditions.resourceVersion must be a number"))?,
        ),
    };
    let grace = body["gracePeriodSeconds"].as_i64();
    if grace.is_some_and(|grace| grace < 0) {
        return Err(Status::bad_request(
            "gracePeriodSeconds: Invalid value: must be greater than or equal to 0",
        ));
    }
    Ok(DeleteOptions {
        grace_period_seconds: grace,
        propagation_policy: policy,
        uid: preconditions["uid"].as_str().map(str::to_owned),
        revision,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_once_per_disruption() {
        let budget = json!({"metadata": {"name": "b"}, "status": {"disruptionsAllowed": 1, "currentHealthy": 3, "desiredHealthy": 2}});
        let spent = spend(&budget, "pod").expect("one is allowed");
        assert_eq!(spent["status"]["disruptionsAllowed"], 0);
        assert_eq!(spend(&spent, "other").expect_err("none is left").code, 429);
    }
}
