//! Follows the stored flow schemas and priority levels: keeps the mandatory ones, plans by all of them,
//! and says of each schema whether its level exists.

use std::sync::Arc;

use futures_util::future::try_join_all;
use k8s_openapi::api::flowcontrol::v1 as api;
use sampan_api::object::ObjectRef;
use sampan_api::{Gvr, Status};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Fairness;
use crate::identity::{MASTERS_GROUP, User};
use crate::registry::{Body, Context, Part, Place, Registry, Resource};
use sampan_api::flow_control::{self as bootstrap, AUTO_UPDATE, Wanted};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

fn context() -> Context {
    Context::new(User::component("system:apiserver", &[MASTERS_GROUP]))
}

fn schemas(registry: &Registry) -> Result<Resource, Status> {
    registry.resource(&Gvr::new(GROUP, "v1", "flowschemas"))
}

fn levels(registry: &Registry) -> Result<Resource, Status> {
    registry.resource(&Gvr::new(GROUP, "v1", "prioritylevelconfigurations"))
}

/// Makes what is missing of the objects that every cluster has, and brings specs up to date that are
/// kept by this table.
pub async fn ensure(registry: &Registry) -> Result<(), Status> {
    let (schemas, levels) = (schemas(registry)?, levels(registry)?);
    let levels = bootstrap::priority_levels().into_iter().map(|wanted| (&levels, wanted));
    let schemas = bootstrap::flow_schemas().into_iter().map(|wanted| (&schemas, wanted));
    // All at once: they share the store's syncs.
    try_join_all(levels.chain(schemas).map(|(resource, wanted)| ensure_one(registry, resource, wanted)))
        .await?;
    Ok(())
}

async fn ensure_one(registry: &Registry, resource: &Resource, wanted: Wanted) -> Result<(), Status> {
    let Some(stored) = resource.cache.get(wanted.name) else {
        let object = json!({"metadata": {"name": wanted.name, "annotations": {AUTO_UPDATE: "true"}},
            "spec": wanted.spec});
        return match registry.create_value(resource, None, object, &mut context()).await {
            Err(status) if !status.is_already_exists() => Err(status),
            _ => Ok(()),
        };
    };
    let mut object: Value = stored.decode().map_err(Status::internal)?;
    let annotation = object["metadata"]["annotations"][AUTO_UPDATE].as_str().map(str::to_owned);
    let kept = wanted.mandatory
        || match annotation.as_deref() {
            Some(text) => text == "true",
            // Nobody has changed it yet.
            None => object["metadata"]["generation"].as_i64().is_none_or(|generation| generation <= 1),
        };
    let mut spec = json!({"spec": wanted.spec});
    let kind = resource.def.kind.to_string();
    sampan_api::defaults::apply(GROUP, "v1", &kind, &mut spec);
    let flag = if kept { "true" } else { "false" };
    if (!kept || object["spec"] == spec["spec"]) && annotation.as_deref() == Some(flag) {
        return Ok(());
    }
    if kept {
        object["spec"] = spec["spec"].take();
    }
    object["metadata"]["annotations"][AUTO_UPDATE] = flag.into();
    match registry.replace(resource, None, wanted.name, object, &mut context()).await {
        // Somebody else was faster; that change brings us here again.
        Err(status) if status.is_conflict() || status.is_not_found() => Ok(()),
        other => other,
    }
}

fn read<T: DeserializeOwned>(resource: &Resource) -> Vec<(ObjectRef, T)> {
    let (snapshot, _) = resource.cache.snapshot();
    let read = |object: &ObjectRef| match serde_json::from_slice(&object.bytes()) {
        Ok(typed) => Some((object.clone(), typed)),
        Err(error) => {
            tracing::error!(%error, object = object.key(), "an object of flow control was left out");
            None
        }
    };
    snapshot.values().filter_map(read).collect()
}

/// Plans by what is stored now.
pub fn configure(fairness: &Fairness, registry: &Registry) -> Result<Vec<(ObjectRef, String, bool)>, Status> {
    let schemas: Vec<(ObjectRef, api::FlowSchema)> = read(&schemas(registry)?);
    let levels: Vec<(ObjectRef, api::PriorityLevelConfiguration)> = read(&levels(registry)?);
    let typed: Vec<_> = schemas.iter().map(|(_, schema)| schema.clone()).collect();
    let levels: Vec<_> = levels.into_iter().map(|(_, level)| level).collect();
    let plan = fairness.configure(&typed, &levels);
    let dangling = |(object, schema): (ObjectRef, api::FlowSchema)| {
        let level = schema.spec?.priority_level_configuration.name;
        let exists = plan.levels.contains_key(level.as_str());
        Some((object, level, !exists))
    };
    Ok(schemas.into_iter().filter_map(dangling).collect())
}

/// Follows the objects for as long as it is polled.
pub async fn follow(fairness: Arc<Fairness>, registry: Arc<Registry>) {
    let (Ok(schemas), Ok(levels)) = (schemas(&registry), levels(&registry)) else { return };
    let (mut schemas_changed, mut levels_changed) = (schemas.cache.subscribe(), levels.cache.subscribe());
    loop {
        schemas_changed.borrow_and_update();
        levels_changed.borrow_and_update();
        let mut done = ensure(&registry).await;
        match configure(&fairness, &registry) {
            Err(status) => done = Err(status),
            Ok(states) => {
                for (object, level, dangling) in states {
                    if let Err(status) = note(&registry, &schemas, &object, &level, dangling).await {
                        done = Err(status);
                    }
                }
            }
        }
        if let Err(status) = done {
            tracing::warn!(%status, "the objects of flow control cannot be kept");
        }
        let changed = tokio::select! {
            changed = schemas_changed.changed() => changed,
            changed = levels_changed.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Writes the condition `Dangling` of a schema where it differs.
async fn note(
    registry: &Registry,
    resource: &Resource,
    object: &ObjectRef,
    level: &str,
    dangling: bool,
) -> Result<(), Status> {
    let mut value: Value = object.decode().map_err(Status::internal)?;
    let (status, reason, end) = match dangling {
        true => ("True", "NotFound", "but there is no such object"),
        false => ("False", "Found", "and it exists"),
    };
    let message =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {end}");
    let mut conditions = value["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let known = conditions.iter().position(|condition| condition["type"] == "Dangling");
    let same = known.map(|at| &conditions[at]).is_some_and(|known| {
        known["status"] == status && known["reason"] == reason && known["message"] == *message
    });
    if same {
        return Ok(());
    }
    let condition = json!({"type": "Dangling", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": crate::registry::timestamp(jiff::Timestamp::now())});
    match known {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    value["status"]["conditions"] = conditions.into();
    let body = Body::json(serde_json::to_vec(&value).map_err(Status::internal)?.into());
    let place = Place { namespace: None, name: &object.header.name, part: Part::Status };
    match registry.update(resource, place, &body, &mut context()).await {
        Err(status) if !status.is_conflict() && !status.is_not_found() => Err(status),
        _ => Ok(()),
    }
}
