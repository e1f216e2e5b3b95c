//! Reacts to custom resource definitions: names and conditions, and the end of their instances.
//!
//! One task, woken by the cache of the definitions and, while some are being deleted, by those of their
//! instances. What a definition's status should be is [`names::plan`]'s decision; writing it goes through
//! the same door as everybody's writes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sampan_api::custom::{CLEANUP, DEFINITIONS, definition, names};
use sampan_api::{Gvr, Status};
use sampan_client::{DeleteOptions, ListOptions};
use serde_json::Value;
use tokio::sync::watch;

use crate::identity::User;
use crate::registry::{Context, Part, Place, Registry, Resource, timestamp};

/// The delay after a failure, which doubles up to the last.
const RETRY_FROM: Duration = Duration::from_millis(50);
const RETRY_TO: Duration = Duration::from_secs(30);

/// Runs until it is dropped.
pub async fn follow(registry: Arc<Registry>) {
    let Ok(definitions) = registry.resource(&DEFINITIONS) else { return };
    let mut changed = definitions.cache.subscribe();
    let mut delay = RETRY_FROM;
    loop {
        changed.borrow_and_update();
        let worked = work(&registry, &definitions).await;
        let mut waits = worked.waits;
        if worked.failed {
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                changed = changed.changed() => if changed.is_err() { return },
            }
            delay = (delay * 2).min(RETRY_TO);
            continue;
        }
        delay = RETRY_FROM;
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            () = any_changes(&mut waits) => {}
        }
    }
}

/// Waits for an event of one of several caches; forever where there are none.
async fn any_changes(waits: &mut [watch::Receiver<u64>]) {
    if waits.is_empty() {
        return std::future::pending().await;
    }
    let all = waits.iter_mut().map(|wait| Box::pin(wait.changed()));
    // Whether an event came or the cache went: either is a reason to look again.
    let _ = futures_util::future::select_all(all).await;
}

/// What one round left to do.
#[derive(Default)]
struct Worked {
    failed: bool,
    /// Instances whose end is awaited.
    waits: Vec<watch::Receiver<u64>>,
}

async fn work(registry: &Registry, definitions: &Resource) -> Worked {
    let mut worked = Worked::default();
    let (snapshot, _) = definitions.cache.snapshot();
    let mut all: Vec<Value> = snapshot.values().filter_map(|object| object.decode().ok()).collect();
    // Who came first keeps a name.
    let born = |one: &Value| one["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
    all.sort_by_key(|one| (born(one), one["metadata"]["name"].as_str().unwrap_or_default().to_owned()));
    for at in 0..all.len() {
        let outcome = match names::plan(&all[at], &all, &timestamp(Timestamp::now())) {
            Some(status) => {
                all[at]["status"] = status;
                write(registry, definitions, &all[at], false).await
            }
            None if is_held(&all[at]) => match clean(registry, definitions, &all[at]).await {
                Ok(Some(wait)) => {
                    worked.waits.push(wait);
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(status) => Err(status),
            },
            None => Ok(()),
        };
        match outcome {
            Ok(()) => {}
            // It changed meanwhile or is gone: its event wakes this task.
            Err(status) if status.is_conflict() || status.is_not_found() => {}
            Err(status) => {
                let name = all[at]["metadata"]["name"].as_str().unwrap_or_default();
                tracing::warn!(definition = name, %status, "a custom resource definition is left as it is");
                worked.failed = true;
            }
        }
    }
    worked
}

fn is_held(object: &Value) -> bool {
    let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    object.pointer("/metadata/deletionTimestamp").is_some()
        && finalizers.into_iter().flatten().any(|one| one == CLEANUP)
}

/// Deletes the instances of a definition, and lets it go when there are none. Answers what to wait for.
async fn clean(
    registry: &Registry,
    definitions: &Resource,
    object: &Value,
) -> Result<Option<watch::Receiver<u64>>, Status> {
    let mut object = object.clone();
    let now = timestamp(Timestamp::now());
    let Some(instances) = instances(registry, &object) else {
        let message = "resource was never established";
        names::set(&mut object["status"], ["Terminating", "False", "NeverEstablished", message], &now);
        return write(registry, definitions, &object, true).await.map(|()| None);
    };
    let changed = instances.cache.subscribe();
    let status = object["status"].clone();
    let message = "CustomResource deletion is in progress";
    names::set(&mut object["status"], ["Terminating", "True", "InstanceDeletionInProgress", message], &now);
    if object["status"] != status {
        // The event of this write leads back here.
        return write(registry, definitions, &object, false).await.map(|()| None);
    }
    if !instances.cache.is_empty() {
        delete_all(registry, &instances).await?;
    }
    if !instances.cache.is_empty() {
        return Ok(Some(changed));
    }
    let message = "removed all instances";
    names::set(&mut object["status"], ["Terminating", "False", "InstanceDeletionCompleted", message], &now);
    write(registry, definitions, &object, true).await.map(|()| None)
}

/// The served resource of a definition, in any version.
fn instances(registry: &Registry, object: &Value) -> Option<Resource> {
    if !definition::is_true(object, "Established") {
        return None;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let group = text(&object["spec"]["group"]);
    let resource = text(&object["status"]["acceptedNames"]["plural"]);
    let versions = object["spec"]["versions"].as_array()?;
    versions.iter().find_map(|version| {
        let gvr = Gvr {
            group: group.clone().into(),
            version: text(&version["name"]).into(),
            resource: resource.clone().into(),
        };
        registry.resource(&gvr).ok().filter(|resource| resource.def.custom)
    })
}

async fn delete_all(registry: &Registry, instances: &Resource) -> Result<(), Status> {
    let options = DeleteOptions::default();
    registry
        .delete_collection(instances, None, &ListOptions::default(), &options, &mut context())
        .await
        .map(|_| ())
}

fn context() -> Context {
    Context::new(User::component("system:apiserver", &["system:masters"]))
}

/// Writes the status of a definition, and removes its finalizer where it may go.
async fn write(
    registry: &Registry,
    definitions: &Resource,
    object: &Value,
    finish: bool,
) -> Result<(), Status> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let place = Place { namespace: None, name, part: Part::Status };
    let mut status = |_: &Value, _: &mut Context| Ok(object.clone());
    registry.change(definitions, place, &mut context(), &mut status).await?;
    if finish {
        let mut free = |current: &Value, _: &mut Context| {
            let mut current = current.clone();
            if let Some(Value::Array(finalizers)) = current.pointer_mut("/metadata/finalizers") {
                finalizers.retain(|one| one != CLEANUP);
            }
            Ok(current)
        };
        let place = Place { namespace: None, name, part: Part::Main };
        registry.change(definitions, place, &mut context(), &mut free).await?;
    }
    Ok(())
}
