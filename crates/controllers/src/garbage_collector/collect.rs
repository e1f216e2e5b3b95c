//! What happens to one object: pure verdicts, and their execution.

use std::sync::Arc;

use futures_util::future::try_join_all;
use sampan_api::Status;
use sampan_api::object::{Header, Object, ObjectRef, OwnerReference};
use sampan_client::{DeleteOptions, PatchKind, Target};
use serde_json::{Value, json};

use super::graph::{Item, owner_key};
use super::{Collector, FOREGROUND, ORPHAN};

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It exists and keeps its dependents.
    Solid,
    /// It is being deleted and waits for its dependents to go first.
    Waiting,
    /// It does not exist.
    Dangling,
}

/// What happens to an object with owners.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    Keep,
    /// It stays, without these owners.
    Release(Vec<Box<str>>),
    Delete(&'static str),
}

/// Decides about an object that is not being deleted.
pub(super) fn judge(header: &Header, standings: &[(Box<str>, Standing)], has_dependents: bool) -> Verdict {
    let any = |wanted: Standing| standings.iter().any(|(_, standing)| *standing == wanted);
    if standings.is_empty() {
        return Verdict::Keep;
    }
    if any(Standing::Solid) {
        let others = standings.iter().filter(|(_, standing)| *standing != Standing::Solid);
        let others: Vec<Box<str>> = others.map(|(uid, _)| uid.clone()).collect();
        return if others.is_empty() { Verdict::Keep } else { Verdict::Release(others) };
    }
    if any(Standing::Waiting) && has_dependents {
        return Verdict::Delete("Foreground");
    }
    let has = |name: &str| header.finalizers.iter().any(|finalizer| &**finalizer == name);
    if has(ORPHAN) {
        Verdict::Delete("Orphan")
    } else if has(FOREGROUND) {
        Verdict::Delete("Foreground")
    } else {
        Verdict::Delete("Background")
    }
}

impl Collector {
    /// Makes of one object what its owners and its own deletion ask for.
    pub(super) async fn collect(&self, item: &Item) -> Result<(), Status> {
        let Some(object) = self.view(&item.gvr, &item.key) else { return Ok(()) };
        let header = &object.header;
        if header.is_terminating() {
            let has = |name: &str| header.finalizers.iter().any(|finalizer| &**finalizer == name);
            if has(ORPHAN) {
                return self.orphan(item, header).await;
            }
            if has(FOREGROUND) {
                return self.delete_dependents_first(item, header).await;
            }
            return Ok(());
        }
        let mut standings = Vec::with_capacity(header.owners.len());
        for owner in &header.owners {
            let Some(standing) = self.standing(item, owner).await? else {
                self.unresolved.lock().insert(item.clone());
                return Ok(());
            };
            standings.push((owner.uid.clone(), standing));
        }
        let has_dependents = self.graph.lock().has_dependents(&header.uid);
        match judge(header, &standings, has_dependents) {
            Verdict::Keep => Ok(()),
            Verdict::Release(owners) => self.release(item, &object, &owners).await,
            Verdict::Delete(policy) => self.delete(item, &object, policy).await,
        }
    }

    /// Absent where nobody serves the owner's kind, or an object of the cluster names an owner in
    /// a namespace: then nothing can be said.
    async fn standing(&self, item: &Item, reference: &OwnerReference) -> Result<Option<Standing>, Status> {
        let Some((gvr, namespaced)) = self.resolve(&reference.api_version, &reference.kind) else {
            return Ok(None);
        };
        let Some(key) = owner_key(item, namespaced, &reference.name) else { return Ok(None) };
        let is_it = |owner: &ObjectRef| owner.header.uid == reference.uid;
        let owner = match self.view(&gvr, &key).filter(is_it) {
            Some(owner) => Some(owner),
            None => self.live(&Item { gvr, key }).await?.filter(is_it),
        };
        Ok(Some(match owner {
            None => Standing::Dangling,
            Some(owner) => {
                let waits = owner.header.finalizers.iter().any(|finalizer| &**finalizer == FOREGROUND);
                if waits && owner.header.is_terminating() { Standing::Waiting } else { Standing::Solid }
            }
        }))
    }

    async fn live(&self, item: &Item) -> Result<Option<Arc<Object>>, Status> {
        match self.shared.client.backend().get(target(item)).await {
            Ok(object) => Ok(Some(object)),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn delete(&self, item: &Item, object: &Object, policy: &'static str) -> Result<(), Status> {
        let options = DeleteOptions {
            propagation_policy: Some(policy),
            uid: Some(object.header.uid.to_string()),
            // Its owners are those that were judged by.
            revision: Some(object.header.revision),
            ..DeleteOptions::default()
        };
        gone_is_fine(self.shared.client.backend().delete(target(item), &options).await)
    }

    /// The dependents in reach of an owner: its own namespace's, or any where it has none.
    fn dependents_of(&self, item: &Item, header: &Header) -> Vec<(Item, ObjectRef)> {
        let all: Vec<Item> = self.graph.lock().dependents(&header.uid).cloned().collect();
        let in_reach = |one: &Item| item.namespace().is_none() || one.namespace() == item.namespace();
        let found = all.into_iter().filter(in_reach);
        found.filter_map(|one| self.view(&one.gvr, &one.key).map(|object| (one, object))).collect()
    }

    async fn orphan(&self, item: &Item, header: &Header) -> Result<(), Status> {
        let dependents = self.dependents_of(item, header);
        let owner = [header.uid.clone()];
        try_join_all(dependents.iter().map(|(item, object)| self.release(item, object, &owner))).await?;
        self.remove_finalizer(item, header, ORPHAN).await
    }

    async fn delete_dependents_first(&self, item: &Item, header: &Header) -> Result<(), Status> {
        let blocks = |object: &ObjectRef| {
            object.header.owners.iter().any(|owner| owner.uid == header.uid && owner.block_owner_deletion)
        };
        let dependents = self.dependents_of(item, header);
        if dependents.iter().all(|(_, object)| !blocks(object)) {
            return self.remove_finalizer(item, header, FOREGROUND).await;
        }
        for (dependent, object) in dependents {
            let waits = object.header.finalizers.iter().any(|finalizer| &**finalizer == FOREGROUND);
            if object.header.is_terminating() && waits && self.waits_for(&object.header, header) {
                // Two objects that own each other would wait for each other forever.
                self.unblock(&dependent, &object, &header.uid).await?;
            } else if !object.header.is_terminating() {
                self.queue.add(dependent);
            }
        }
        Ok(())
    }

    /// Whether one of an object's dependents, over any number of steps, is the other object.
    fn waits_for(&self, from: &Header, to: &Header) -> bool {
        let mut seen = std::collections::HashSet::from([from.uid.clone()]);
        let mut left = vec![from.uid.clone()];
        while let Some(uid) = left.pop() {
            let dependents: Vec<Item> = self.graph.lock().dependents(&uid).cloned().collect();
            for object in dependents.iter().filter_map(|item| self.view(&item.gvr, &item.key)) {
                if object.header.uid == to.uid {
                    return true;
                }
                if seen.insert(object.header.uid.clone()) {
                    left.push(object.header.uid.clone());
                }
            }
        }
        false
    }

    /// Takes owners off an object.
    async fn release(&self, item: &Item, object: &Object, owners: &[Box<str>]) -> Result<(), Status> {
        self.change_owners(item, object, |references| {
            references.retain(|reference| !owners.iter().any(|uid| reference["uid"].as_str() == Some(uid)));
        })
        .await
    }

    async fn unblock(&self, item: &Item, object: &Object, owner: &str) -> Result<(), Status> {
        self.change_owners(item, object, |references| {
            for reference in
                references.iter_mut().filter(|reference| reference["uid"].as_str() == Some(owner))
            {
                reference["blockOwnerDeletion"] = json!(false);
            }
        })
        .await
    }

    async fn change_owners(
        &self,
        item: &Item,
        object: &Object,
        change: impl FnOnce(&mut Vec<Value>),
    ) -> Result<(), Status> {
        let mut value: Value = object.decode().map_err(Status::internal)?;
        let before = value["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(());
        }
        let mut metadata = value["metadata"].take();
        let patch = json!({"metadata": {
            "uid": metadata["uid"].take(),
            "resourceVersion": object.header.revision.to_string(),
            "ownerReferences": after,
        }});
        self.patch(item, &patch).await
    }

    async fn remove_finalizer(&self, item: &Item, header: &Header, finalizer: &str) -> Result<(), Status> {
        let rest: Vec<&str> =
            header.finalizers.iter().map(|one| &**one).filter(|one| *one != finalizer).collect();
        let patch = json!({"metadata": {
            "uid": header.uid,
            "resourceVersion": header.revision.to_string(),
            "finalizers": rest,
        }});
        self.patch(item, &patch).await
    }

    /// A merge patch, which every kind takes, at the revision that the decision was made by.
    async fn patch(&self, item: &Item, patch: &Value) -> Result<(), Status> {
        let body = patch.to_string().into();
        let result = self.shared.client.backend().patch(target(item), PatchKind::Merge, body).await;
        gone_is_fine(result.map(drop))
    }
}

fn target(item: &Item) -> Target<'_> {
    Target { gvr: &item.gvr, namespace: item.namespace(), name: item.name(), subresource: None }
}

fn gone_is_fine(result: Result<(), Status>) -> Result<(), Status> {
    match result {
        Err(status) if status.is_not_found() => Ok(()),
        other => other,
    }
}
