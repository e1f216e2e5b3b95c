//! ResourceQuota: a namespace holds no more than its quotas allow.
//!
//! What a write costs is charged in the same commit as the write: the quota's new `status.used`
//! and the object become durable together or not at all. So a quota is never exceeded, however
//! many write at once, a write that fails costs nothing, and a count that was made of the objects
//! at the quota's own revision is exact. Writers of one namespace take turns, since each would
//! otherwise make the others' quotas stale.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::Mutex;
use sampan_api::object::ObjectRef;
use sampan_api::quota::{self, Evaluator, Written};
use sampan_api::{Gvr, Status};
use sampan_storage::Write;
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::{Attributes, Operation};
use crate::conversion;

const QUOTAS: Gvr = Gvr::new("", "v1", "resourcequotas");

/// The namespaces whose quotas are being charged.
#[derive(Default)]
pub struct Turns {
    by_namespace: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    async fn take(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.by_namespace.lock();
            // Those that nobody waits for or has are forgotten.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(namespace.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}

/// What a write costs. To be held until the caches show the write.
#[must_use = "the quotas are charged by committing this with the write"]
#[derive(Default)]
pub struct Charge {
    quotas: Vec<Write>,
    _turn: Option<OwnedMutexGuard<()>>,
}

impl Charge {
    /// The write, first, and what it costs.
    pub fn with(&self, write: Write) -> Vec<Write> {
        std::iter::once(write).chain(self.quotas.iter().cloned()).collect()
    }
}

pub async fn charge(attributes: &Attributes<'_>, object: &Value) -> Result<Charge, Status> {
    let gvr = &attributes.resource.def.gvr;
    let Some(namespace) = attributes.namespace.filter(|_| gvr.resource != "events") else {
        return Ok(Charge::default());
    };
    let evaluator = Evaluator::new(&gvr.group, &gvr.resource);
    let written = match attributes.operation {
        Operation::Create if attributes.subresource.is_empty() => Written::Create,
        Operation::Update => Written::Update { subresource: attributes.subresource },
        Operation::Create | Operation::Delete | Operation::Connect => return Ok(Charge::default()),
    };
    let registry = attributes.registry;
    if !evaluator.handles(written) || registry.find_all(&QUOTAS, namespace).is_empty() {
        return Ok(Charge::default());
    }
    let turn = registry.quota_turns.take(namespace).await;
    let quotas = registry.find_all(&QUOTAS, namespace);
    let values: Vec<Value> =
        quotas.iter().map(|quota| quota.decode()).collect::<Result<_, _>>().map_err(Status::internal)?;
    let charges = quota::charge(&values, &evaluator, object, attributes.old, Timestamp::now())
        .map_err(|why| Status::forbidden(gvr, attributes.name, why))?;
    let resource = registry.resource(&QUOTAS)?;
    let write = |charge: quota::Charge| {
        let (stored, mut value): (&ObjectRef, Value) = (&quotas[charge.quota], values[charge.quota].clone());
        value["status"]["used"] = quota::to_json(&charge.used);
        let bytes = conversion::encode(&resource.def, &conversion::without_revision(value))?;
        Ok(Write::update(resource.storage_key(&stored.key()), stored.header.revision, bytes))
    };
    let quotas: Vec<Write> = charges.into_iter().map(write).collect::<Result<_, Status>>()?;
    let turn = Some(turn).filter(|_| !quotas.is_empty());
    Ok(Charge { quotas, _turn: turn })
}
