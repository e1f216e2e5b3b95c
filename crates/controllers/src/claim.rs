//! Claims of pods: a controller adopts the unowned pods that its selector fits, and releases its own
//! that it fits no longer.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use sampan_api::Status;
use sampan_api::object::ObjectRef;
use sampan_api::selector::Selector;
use sampan_client::{PatchKind, Target};
use serde_json::{Value, json};

use crate::Shared;
use crate::view::{Kind, decode};

/// Who claims pods.
pub(crate) struct Claimant<'a> {
    pub namespace: &'a str,
    pub kind: Kind,
    pub owner: OwnerReference,
    pub selector: Option<&'a LabelSelector>,
    /// Whether pods may be adopted: not by what is being deleted.
    pub adopts: bool,
    /// A finalizer that claimed pods hold.
    pub finalizer: Option<&'static str>,
}

/// Asks whether an owner still takes up what nobody owns, when something without an owner has been seen:
/// what an owner's deletion set free must not come back to it, though the reconciliation may have begun
/// before that deletion.
///
/// An owner that does not is a conflict, so that the reconciliation ends here: it has seen less than there
/// was, and would make anew what was set free. It is queued again when the deletion is seen.
pub(crate) async fn may_adopt(
    shared: &Shared,
    kind: Kind,
    namespace: &str,
    owner: &OwnerReference,
) -> Result<(), Status> {
    let gvr = kind.gvr();
    let target = Target { gvr, namespace: Some(namespace), name: &owner.name, subresource: None };
    let found = shared.client.backend().get(target).await?;
    if *found.header.uid != *owner.uid {
        return Err(Status::conflict(gvr, &owner.name, "it was deleted, and another one created"));
    }
    if found.header.is_terminating() {
        return Err(Status::conflict(gvr, &owner.name, "it is being deleted, and adopts no more"));
    }
    Ok(())
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
                    may_adopt(shared, self.kind, self.namespace, &self.owner).await?;
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

#[cfg(test)]
mod tests {
    use sampan_client::DeleteOptions;

    use super::*;
    use crate::testing::Bench;

    #[tokio::test]
    async fn an_owner_that_is_being_deleted_adopts_no_more() {
        let bench = Bench::start().await;
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "d", "namespace": "n", "finalizers": ["orphan"]}});
        let created = bench.create("apps", "v1", "deployments", "n", deployment).await;
        let uid = created["metadata"]["uid"].as_str().expect("a uid");
        let check = async |uid: &str, name: &str, expected: u16| {
            let owner = OwnerReference { name: name.into(), uid: uid.into(), ..OwnerReference::default() };
            let answer = may_adopt(&bench.shared, Kind::Deployment, "n", &owner).await;
            assert_eq!(answer.map_or_else(|status| status.code, |()| 200), expected, "{uid} {name}");
        };
        check(uid, "d", 200).await;
        check("another", "d", 409).await;
        check(uid, "gone", 404).await;
        let gvr = Kind::Deployment.gvr();
        let target = Target { gvr, namespace: Some("n"), name: "d", subresource: None };
        bench.backend().delete(target, &DeleteOptions::default()).await.expect("it waits for its finalizer");
        check(uid, "d", 409).await;
    }
}
