//! The one door to the Kubernetes API for everything in Sampan that is not the API server.
//!
//! A [`Client`] speaks to a [`Backend`]: the API server in the same process (which hands out the
//! cached objects themselves, without encoding or copying) or a remote one over HTTPS. Code above
//! cannot tell which, and carries its own identity either way.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use sampan_api::object::ObjectRef;
use sampan_api::{Gvr, Status};

pub mod events;
pub mod informer;
pub mod kubeconfig;
pub mod node_streams;
pub mod node_usage;
pub mod queue;
pub mod remote;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod typed;

pub use informer::{Informer, InformerEvent};
pub use queue::{QueueFamilies, WorkQueue};
pub use remote::RemoteBackend;
pub use typed::{Api, Client};

/// All that the API server asks of a node.
pub trait NodeAgent: node_streams::NodeStreams + node_usage::NodeUsage {}

impl<T: node_streams::NodeStreams + node_usage::NodeUsage> NodeAgent for T {}

/// Where in the API an object is. `namespace` is `None` for objects of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub gvr: &'a Gvr,
    pub namespace: Option<&'a str>,
    pub name: &'a str,
    /// `status`, `scale`, `binding`, `eviction`, `token`, …
    pub subresource: Option<&'a str>,
}

/// Query parameters of list and watch.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// `None` is the most recent; `Some(0)` is whatever the cache holds.
    pub revision: Option<u64>,
    /// Objects per page; 0 is all.
    pub limit: u32,
    pub continue_token: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct ObjectList {
    pub items: Vec<ObjectRef>,
    /// The revision of the snapshot: watch from here to miss nothing.
    pub revision: u64,
    pub continue_token: Option<String>,
}

/// One event of a watch. An error ends the stream; 410 asks for a new list.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    Added(ObjectRef),
    Modified(ObjectRef),
    Deleted(ObjectRef),
    /// Nothing up to this revision was missed.
    Bookmark(u64),
}

pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

/// The patch formats that the API server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    Strategic,
    /// Server-side apply.
    Apply,
}

impl PatchKind {
    pub fn content_type(self) -> &'static str {
        match self {
            PatchKind::Json => "application/json-patch+json",
            PatchKind::Merge => "application/merge-patch+json",
            PatchKind::Strategic => "application/strategic-merge-patch+json",
            PatchKind::Apply => "application/apply-patch+yaml",
        }
    }
}

/// `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    /// `Orphan`, `Background` or `Foreground`.
    pub propagation_policy: Option<&'static str>,
    /// Delete only the object with this uid.
    pub uid: Option<String>,
    /// Delete only at this revision.
    pub revision: Option<u64>,
}

/// What serves the API: in this process or elsewhere.
///
/// Every method answers as Kubernetes' API server would; an error is its `Status`. A backend that
/// cannot reach the server answers 503.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    async fn get(&self, target: Target<'_>) -> Result<ObjectRef, Status>;
    /// `namespace` is `None` for all namespaces.
    async fn list(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<ObjectList, Status>;
    /// Starts after `options.revision`; without one, first sends what exists as `Added`.
    async fn watch(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<WatchStream, Status>;
    /// Creates an object, or posts to a subresource when the target names one. `target.name` is
    /// empty when creating an object: its name is in the body.
    async fn create(&self, target: Target<'_>, body: Bytes) -> Result<ObjectRef, Status>;
    async fn update(&self, target: Target<'_>, body: Bytes) -> Result<ObjectRef, Status>;
    async fn patch(&self, target: Target<'_>, kind: PatchKind, body: Bytes) -> Result<ObjectRef, Status>;
    async fn delete(&self, target: Target<'_>, options: &DeleteOptions) -> Result<(), Status>;
    async fn delete_collection(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        selection: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(), Status>;
    /// The body of a GET on a path that is no resource (`/apis`, `/version`).
    async fn raw(&self, path: &str) -> Result<Bytes, Status>;
}

/// A shared backend.
pub type SharedBackend = Arc<dyn Backend>;
