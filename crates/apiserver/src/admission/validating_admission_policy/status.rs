//! Writes the status of policies: which generation was looked at, and what its types say.

use std::sync::Arc;
use std::time::Duration;

use sampan_api::Status;
use serde_json::{Value, json};

use super::{POLICIES, type_check};
use crate::identity::User;
use crate::registry::{Context, Part, Place, Registry, Resource};

/// The delay after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until it is dropped.
pub async fn follow(registry: Arc<Registry>) {
    let Ok(policies) = registry.resource(&POLICIES) else { return };
    let mut changed = policies.cache.subscribe();
    loop {
        changed.borrow_and_update();
        let failed = work(&registry, &policies).await;
        tokio::select! {
            () = tokio::time::sleep(RETRY), if failed => {}
            changed = changed.changed() => if changed.is_err() { return },
        }
    }
}

/// Answers whether something is to be tried again.
async fn work(registry: &Registry, policies: &Resource) -> bool {
    let mut failed = false;
    let (snapshot, _) = policies.cache.snapshot();
    for object in snapshot.values() {
        let Ok(policy) = object.decode::<Value>() else { continue };
        if !is_new(&policy) {
            continue;
        }
        match write(registry, policies, &policy).await {
            Ok(()) => {}
            // It changed meanwhile or is gone: its event wakes this task.
            Err(status) if status.is_conflict() || status.is_not_found() => {}
            Err(status) => {
                let policy = object.header.name.as_ref();
                tracing::warn!(policy, %status, "the status of a policy is left as it is");
                failed = true;
            }
        }
    }
    failed
}

fn is_new(policy: &Value) -> bool {
    let seen = policy["status"]["observedGeneration"].as_i64().unwrap_or(0);
    policy["metadata"]["generation"].as_i64().is_some_and(|generation| generation > seen)
}

async fn write(registry: &Registry, policies: &Resource, policy: &Value) -> Result<(), Status> {
    let warnings = type_check::warnings(&policy["spec"], &registry.table());
    let checking = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
    let name = policy["metadata"]["name"].as_str().unwrap_or_default();
    let place = Place { namespace: None, name, part: Part::Status };
    let mut status = |current: &Value, _: &mut Context| {
        let mut current = current.clone();
        // Whatever else is in the status, conditions say, is somebody else's.
        if current["metadata"]["generation"] == policy["metadata"]["generation"] {
            current["status"]["observedGeneration"] = policy["metadata"]["generation"].clone();
            current["status"]["typeChecking"] = checking.clone();
        }
        Ok(current)
    };
    let mut context = Context::new(User::component("system:apiserver", &["system:masters"]));
    registry.change(policies, place, &mut context, &mut status).await.map(|_| ())
}
