//! Claims of pods: a controller adopts the unowned pods that its selector fits, and releases its own
//! that it fits no longer.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use sampan_api::Status;
use sampan_api::object::ObjectRef;
use sampan_api::selector::Selector;
use sampan_client::PatchKind;
use serde_json::{Value, json};

use crate::Shared;
use crate::view::{Kind, decode};

/// Who claims pods.
pub(crate) struct Claimant<'a> {
    pub namespace: &'a str,
    pub owner: OwnerReference,
    pub selector: Option<&'a LabelSelector>,
    /// Whether pods may be adopted: not by what is being deleted.
    pub adopts: bool,
    /// A finalizer that claimed pods hold.
    pub finalizer: Option<&'static str>,
}

impl Claimant<'_> {
    /// The pods of this owner, after claims were made.
    pub async fn claim(&self, shared: &Shared) -> Result<Vec<Pod>, Status> {
        let selector = serde_json::to_value(self.selector).map_err(Status::internal)?;
        let Ok(selector) = Selector::from_json(&selector) else { return Ok(Vec::new()) };
        let mut pods = Vec::new();
        for object in shared.view.of(Kind::Pod).list(self.namespace) {
            let fits = selector.matches(|key| object.header.label(key));
            match object.header.controller() {
                Some(owner) if *owner.uid == *self.owner.uid && (fits || object.header.is_terminating()) => {
                    pods.extend(decode::<Pod>(&object));
                }
                Some(owner) if *owner.uid == *self.owner.uid => self.release(shared, &object).await?,
                None if fits && self.adopts && !object.header.is_terminating() => {
                    pods.push(self.adopt(shared, &object).await?);
                }
                Some(_) | None => {}
            }
        }
        Ok(pods)
    }

    async fn adopt(&self, shared: &Shared, pod: &ObjectRef) -> Result<Pod, Status> {
        self.change(shared, pod, |owners, finalizers| {
            owners.push(json!(self.owner));
            finalizers.extend(self.finalizer.map(Value::from));
        })
        .await
    }

    async fn release(&self, shared: &Shared, pod: &ObjectRef) -> Result<(), Status> {
        let released = self.change(shared, pod, |owners, finalizers| {
            owners.retain(|owner| owner["uid"] != self.owner.uid.as_str());
            finalizers.retain(|finalizer| finalizer.as_str() != self.finalizer);
        });
        match released.await {
            Err(status) if !status.is_not_found() => Err(status),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Changes owners and finalizers at the revision that was looked at.
    async fn change(
        &self,
        shared: &Shared,
        pod: &ObjectRef,
        change: impl FnOnce(&mut Vec<Value>, &mut Vec<Value>),
    ) -> Result<Pod, Status> {
        let value: Value = pod.decode().map_err(Status::internal)?;
        let list = |name: &str| value["metadata"][name].as_array().cloned().unwrap_or_default();
        let (mut owners, mut finalizers) = (list("ownerReferences"), list("finalizers"));
        change(&mut owners, &mut finalizers);
        let patch = json!({"metadata": {"uid": pod.header.uid, "resourceVersion": pod.header.revision.to_string(),
            "ownerReferences": owners, "finalizers": finalizers}});
        shared
            .client
            .namespaced::<Pod>(self.namespace)
            .patch(&pod.header.name, PatchKind::Merge, &patch)
            .await
    }
}
