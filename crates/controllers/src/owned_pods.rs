//! The pods that a controller makes and deletes: which keys their changes concern, and what was asked for
//! and is not seen yet. Who claims pods that exist is in [`crate::claim`].

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use sampan_api::Status;
use sampan_api::object::ObjectRef;
use sampan_api::selector::Selector;
use sampan_client::events::EventType;
use sampan_client::{DeleteOptions, InformerEvent, WorkQueue};
use serde_json::{Value, json};

use crate::Shared;
use crate::controller::owner_key;
use crate::expectations::Expectations;
use crate::namespace::refused_by_terminating_namespace;
use crate::view::Kind;

/// What a controller of one kind knows of its pods. Keys are those of the owners.
pub(crate) struct OwnedPods {
    kind: Kind,
    api_version: &'static str,
    owner_kind: &'static str,
    expectations: Expectations,
}

/// The object whose pods are changed.
#[derive(Clone, Copy)]
pub(crate) struct Owner<'a> {
    pub key: &'a str,
    pub namespace: &'a str,
    /// What events name.
    pub subject: &'a ObjectReference,
}

/// The pods that could not be created.
#[derive(Debug)]
pub(crate) struct NotCreated {
    pub count: usize,
    pub status: Status,
}

/// A pod to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Victim {
    pub name: String,
    pub uid: String,
}

impl Victim {
    pub fn of(pod: &Pod) -> Victim {
        let metadata = &pod.metadata;
        Victim {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        }
    }
}

impl OwnedPods {
    pub fn new(kind: Kind, api_version: &'static str, owner_kind: &'static str) -> OwnedPods {
        OwnedPods { kind, api_version, owner_kind, expectations: Expectations::default() }
    }

    /// Whether all that was asked for has been seen. To be asked before pods are looked at: what is seen
    /// since then is in the view.
    pub fn settled(&self, key: &str) -> bool {
        self.expectations.are_met(key)
    }

    pub fn forget(&self, key: &str) {
        self.expectations.forget(key);
    }

    /// Takes note of a change of a pod, and queues the owners that it concerns.
    pub fn changed(&self, shared: &Shared, event: &InformerEvent, queue: &WorkQueue<String>) {
        let owner = |pod: &ObjectRef| owner_key(pod, self.api_version, self.owner_kind);
        match event {
            InformerEvent::Applied { old, new } => {
                let key = owner(new);
                if let (None, Some(key)) = (old, &key) {
                    self.expectations.created(key);
                }
                // A pod that is being deleted is as good as gone for who counts active ones.
                if let Some(key) = key.as_ref().filter(|_| new.header.is_terminating()) {
                    self.expectations.deleted(key, &new.header.uid);
                }
                if key.is_none() {
                    orphan_appeared(shared, self.kind, new, queue);
                }
                old.as_ref().and_then(owner).into_iter().chain(key).for_each(|key| queue.add(key));
            }
            InformerEvent::Deleted(pod) => {
                if let Some(key) = owner(pod) {
                    self.expectations.deleted(&key, &pod.header.uid);
                    queue.add(key);
                }
            }
            InformerEvent::Synced => {}
        }
    }

    /// Creates a pod of each of `wanted`, in batches that double, so that a template that is refused costs
    /// one request.
    pub async fn create<T>(
        &self,
        shared: &Shared,
        owner: Owner<'_>,
        wanted: &[T],
        pod: impl Fn(&T) -> Pod,
    ) -> Result<(), NotCreated> {
        let api = &shared.client.namespaced::<Pod>(owner.namespace);
        let tell = |kind, reason, message| shared.events.event(owner.subject, kind, reason, message);
        let (mut left, mut batch) = (wanted, 1);
        while !left.is_empty() {
            let (now, later) = left.split_at(batch.min(left.len()));
            self.expectations.expect_creations(owner.key, now.len());
            let results = join_all(now.iter().map(|wanted| {
                let pod = pod(wanted);
                async move { api.create(&pod).await }
            }));
            let mut failures = Vec::new();
            for result in results.await {
                match result {
                    Ok(pod) => {
                        let message = format!("Created pod: {}", pod.metadata.name.unwrap_or_default());
                        tell(EventType::Normal, "SuccessfulCreate", message);
                    }
                    Err(status) => {
                        self.expectations.created(owner.key);
                        failures.push(status);
                    }
                }
            }
            let count = failures.len() + later.len();
            if let Some(status) = failures.into_iter().next() {
                // Nobody can do anything about a namespace that ends, and it takes no events either.
                if !refused_by_terminating_namespace(&status) {
                    tell(EventType::Warning, "FailedCreate", format!("Error creating: {status}"));
                }
                return Err(NotCreated { count, status });
            }
            (left, batch) = (later, batch * 2);
        }
        Ok(())
    }

    /// Deletes pods, all at once.
    pub async fn delete(&self, shared: &Shared, owner: Owner<'_>, victims: &[Victim]) -> Result<(), Status> {
        let api = &shared.client.namespaced::<Pod>(owner.namespace);
        for victim in victims {
            self.expectations.expect_deletion(owner.key, &victim.uid);
        }
        let deletions = victims.iter().map(|Victim { name, uid }| async move {
            let options = DeleteOptions { uid: Some(uid.clone()), ..DeleteOptions::default() };
            match api.delete(name, &options).await {
                Ok(()) => {
                    let message = format!("Deleted pod: {name}");
                    shared.events.event(owner.subject, EventType::Normal, "SuccessfulDelete", message);
                    Ok(())
                }
                Err(status) => {
                    self.expectations.deleted(owner.key, uid);
                    if status.is_not_found() { Ok(()) } else { Err(status) }
                }
            }
        });
        join_all(deletions).await.into_iter().collect()
    }
}

/// What nobody controls may be what an object of a kind looks for.
pub(crate) fn orphan_appeared(shared: &Shared, kind: Kind, orphan: &ObjectRef, queue: &WorkQueue<String>) {
    if orphan.header.controller().is_some() || orphan.header.labels.is_empty() {
        return;
    }
    for object in shared.view.of(kind).list(&orphan.header.namespace) {
        let Ok(mut value) = object.decode::<Value>() else { continue };
        let mut selector = value["spec"]["selector"].take();
        if kind == Kind::ReplicationController {
            selector = json!({ "matchLabels": selector });
        }
        let Ok(selector) = Selector::from_json(&selector) else { continue };
        if !selector.is_everything() && selector.matches(|key| orphan.header.label(key)) {
            queue.add(object.key());
        }
    }
}
