//! Typed access for the code that decides: `k8s-openapi` structs in and out.

use std::marker::PhantomData;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sampan_api::object::ObjectRef;
use sampan_api::{Gvr, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{DeleteOptions, ListOptions, ObjectList, PatchKind, SharedBackend, Target, WatchStream};

/// A handle on the API under one identity. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    backend: SharedBackend,
}

/// A typed object of the API: what every `k8s-openapi` resource is.
pub trait Resource:
    k8s_openapi::Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Group, version and plural of this type.
    fn gvr() -> Gvr {
        Gvr::new(Self::GROUP, Self::VERSION, Self::URL_PATH_SEGMENT)
    }
}

impl<T> Resource for T where
    T: k8s_openapi::Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl Client {
    pub fn new(backend: SharedBackend) -> Self {
        Client { backend }
    }

    pub fn backend(&self) -> &SharedBackend {
        &self.backend
    }

    /// Objects of the cluster, or objects in all namespaces (list and watch only).
    pub fn all<T: Resource>(&self) -> Api<T> {
        Api { backend: self.backend.clone(), gvr: T::gvr(), namespace: None, kind: PhantomData }
    }

    /// Objects of one namespace.
    pub fn namespaced<T: Resource>(&self, namespace: &str) -> Api<T> {
        Api { namespace: Some(namespace.to_owned()), ..self.all() }
    }
}

/// One resource, in one namespace or in all.
pub struct Api<T> {
    backend: SharedBackend,
    gvr: Gvr,
    namespace: Option<String>,
    kind: PhantomData<fn() -> T>,
}

impl<T: Resource> Api<T> {
    fn target<'a>(&'a self, name: &'a str, subresource: Option<&'a str>) -> Target<'a> {
        Target { gvr: &self.gvr, namespace: self.namespace.as_deref(), name, subresource }
    }

    fn encode(&self, value: &impl Serialize) -> Result<Bytes, Status> {
        serde_json::to_vec(value).map(Bytes::from).map_err(Status::internal)
    }

    fn decode(&self, object: &ObjectRef) -> Result<T, Status> {
        object.decode().map_err(|error| Status::internal(format!("{} {}: {error}", self.gvr, object.key())))
    }

    pub async fn get(&self, name: &str) -> Result<T, Status> {
        self.decode(&self.backend.get(self.target(name, None)).await?)
    }

    /// `None` where the object does not exist.
    pub async fn find(&self, name: &str) -> Result<Option<T>, Status> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }

    pub async fn list(&self, options: &ListOptions) -> Result<Vec<T>, Status> {
        self.list_objects(options).await?.items.iter().map(|object| self.decode(object)).collect()
    }

    pub async fn list_objects(&self, options: &ListOptions) -> Result<ObjectList, Status> {
        self.backend.list(&self.gvr, self.namespace.as_deref(), options).await
    }

    pub async fn watch(&self, options: &ListOptions) -> Result<WatchStream, Status> {
        self.backend.watch(&self.gvr, self.namespace.as_deref(), options).await
    }

    pub async fn create(&self, object: &T) -> Result<T, Status> {
        let body = self.encode(object)?;
        self.decode(&self.backend.create(self.target("", None), body).await?)
    }

    /// Posts to a subresource (`binding`, `eviction`, `token`); the answer is returned undecoded.
    pub async fn create_subresource(
        &self,
        name: &str,
        subresource: &str,
        body: &impl Serialize,
    ) -> Result<ObjectRef, Status> {
        let body = self.encode(body)?;
        self.backend.create(self.target(name, Some(subresource)), body).await
    }

    /// Replaces the object; its `metadata.resourceVersion`, when set, must be the stored one.
    pub async fn update(&self, object: &T) -> Result<T, Status> {
        self.update_part(object, None).await
    }

    /// Replaces the object's status only.
    pub async fn update_status(&self, object: &T) -> Result<T, Status> {
        self.update_part(object, Some("status")).await
    }

    async fn update_part(&self, object: &T, subresource: Option<&str>) -> Result<T, Status> {
        let name = object.metadata().name.as_deref().unwrap_or_default();
        let body = self.encode(object)?;
        self.decode(&self.backend.update(self.target(name, subresource), body).await?)
    }

    pub async fn patch(&self, name: &str, kind: PatchKind, patch: &impl Serialize) -> Result<T, Status> {
        self.decode(&self.backend.patch(self.target(name, None), kind, self.encode(patch)?).await?)
    }

    pub async fn patch_status(
        &self,
        name: &str,
        kind: PatchKind,
        patch: &impl Serialize,
    ) -> Result<T, Status> {
        let body = self.encode(patch)?;
        self.decode(&self.backend.patch(self.target(name, Some("status")), kind, body).await?)
    }

    pub async fn delete(&self, name: &str, options: &DeleteOptions) -> Result<(), Status> {
        self.backend.delete(self.target(name, None), options).await
    }
}
