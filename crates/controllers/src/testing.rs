//! An API in memory that also tells what it serves, with the controllers' view on it.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use parking_lot::Mutex;
use sampan_api::certificates::CertificateRequest;
use sampan_api::object::ObjectRef;
use sampan_api::table::{ResourceDef, Table};
use sampan_api::{Gvr, Status};
use sampan_client::events::EventRecorder;
use sampan_client::testing::MemoryBackend;
use sampan_client::{
    Backend, Client, DeleteOptions, ListOptions, ObjectList, PatchKind, SharedBackend, Target, WatchEvent,
    WatchStream,
};
use serde_json::Value;
use tokio::sync::watch;

use crate::view::{Feed, Kind, View};
use crate::{Authority, ControllersConfig, Shared, SignError};

/// What a controller's test needs.
pub(crate) struct Bench {
    pub shared: Arc<Shared>,
    /// Taken by tests that run a fleet.
    feed: Option<Feed>,
    table: Arc<Mutex<Table>>,
    during_patch: Arc<Mutex<Option<Meanwhile>>>,
    pub authority: Arc<TestAuthority>,
}

/// What happens while somebody waits for an answer.
type Meanwhile = Box<dyn FnOnce() + Send>;

/// An authority whose certificates are words.
pub(crate) struct TestAuthority {
    bundle: Mutex<String>,
    changes: watch::Sender<()>,
}

impl Default for TestAuthority {
    fn default() -> Self {
        TestAuthority { bundle: Mutex::new("the certificate".to_owned()), changes: watch::Sender::new(()) }
    }
}

impl TestAuthority {
    pub fn replace(&self, bundle: &str) {
        *self.bundle.lock() = bundle.to_owned();
        self.changes.send_replace(());
    }
}

impl Authority for TestAuthority {
    fn bundle(&self) -> String {
        self.bundle.lock().clone()
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn sign(
        &self,
        request: &CertificateRequest,
        usages: &[String],
        expiration_seconds: Option<i64>,
    ) -> Result<String, SignError> {
        if usages.iter().any(|usage| usage == "any") {
            return Err(SignError("the key is gone".to_owned()));
        }
        Ok(format!("{} for {expiration_seconds:?}", request.common_name()))
    }
}

impl Bench {
    pub async fn start() -> Bench {
        let table = Arc::new(Mutex::new(Table::builtin()));
        let during_patch = Arc::new(Mutex::new(None));
        let inner = MemoryBackend::new();
        let api = Discoverable { inner, table: table.clone(), during_patch: during_patch.clone() };
        let client = Client::new(Arc::new(api));
        let (events, _) = EventRecorder::new(client.clone(), "controller-manager", "");
        let (view, feed) = View::start(&client);
        view.synced().await;
        let authority = Arc::new(TestAuthority::default());
        let config = ControllersConfig { authority: authority.clone(), queues: Default::default() };
        let shared = Arc::new(Shared { client, view: Arc::new(view), events, config });
        Bench { shared, feed: Some(feed), table, during_patch, authority }
    }

    /// Lets something happen while the next patch is under way.
    pub fn during_patch(&self, happens: impl FnOnce() + Send + 'static) {
        *self.during_patch.lock() = Some(Box::new(happens));
    }

    /// Serves another resource, in namespaces, as a custom definition does.
    pub fn serve(&self, gvr: Gvr, kind: &'static str) {
        let mut table = self.table.lock();
        let model = table.by_name("configmaps").expect("built in");
        let entry = ResourceDef { gvr, kind: kind.into(), custom: true, ..ResourceDef::clone(model) };
        *table = table.with(entry);
    }

    pub fn take_feed(&mut self) -> Feed {
        self.feed.take().expect("taken once")
    }

    /// Waits until the view has an object.
    pub async fn shown(&self, kind: Kind, key: &str) {
        while self.shared.view.of(kind).get(key).is_none() {
            tokio::task::yield_now().await;
        }
    }

    pub fn backend(&self) -> &SharedBackend {
        self.shared.client.backend()
    }

    pub async fn create(
        &self,
        group: &'static str,
        version: &'static str,
        resource: &'static str,
        namespace: &str,
        object: Value,
    ) -> Value {
        let gvr = Gvr::new(group, version, resource);
        let target = Target {
            gvr: &gvr,
            namespace: Some(namespace).filter(|one| !one.is_empty()),
            name: "",
            subresource: None,
        };
        let created = self.backend().create(target, object.to_string().into()).await.expect("created");
        created.decode().expect("JSON")
    }

    pub async fn find(
        &self,
        group: &'static str,
        version: &'static str,
        resource: &'static str,
        namespace: &str,
        name: &str,
    ) -> Option<Value> {
        let gvr = Gvr::new(group, version, resource);
        let target = Target {
            gvr: &gvr,
            namespace: Some(namespace).filter(|one| !one.is_empty()),
            name,
            subresource: None,
        };
        self.backend().get(target).await.ok().map(|object| object.decode().expect("JSON"))
    }

    pub async fn get(
        &self,
        group: &'static str,
        version: &'static str,
        resource: &'static str,
        namespace: &str,
        name: &str,
    ) -> Value {
        self.find(group, version, resource, namespace, name).await.expect("exists")
    }

    pub async fn update(
        &self,
        group: &'static str,
        version: &'static str,
        resource: &'static str,
        namespace: &str,
        name: &str,
        object: Value,
    ) {
        let gvr = Gvr::new(group, version, resource);
        let target = Target {
            gvr: &gvr,
            namespace: Some(namespace).filter(|one| !one.is_empty()),
            name,
            subresource: None,
        };
        self.backend().update(target, object.to_string().into()).await.expect("updated");
    }

    pub async fn delete(
        &self,
        group: &'static str,
        version: &'static str,
        resource: &'static str,
        namespace: &str,
        name: &str,
    ) {
        let gvr = Gvr::new(group, version, resource);
        let target = Target {
            gvr: &gvr,
            namespace: Some(namespace).filter(|one| !one.is_empty()),
            name,
            subresource: None,
        };
        self.backend().delete(target, &DeleteOptions::default()).await.expect("deleted");
    }
}

/// Waits until an object of namespace `n` fits. The resource is given by its group and name.
pub(crate) async fn until(
    bench: &Bench,
    (group, resource): (&'static str, &'static str),
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let gvr = Gvr::new(group, "v1", resource);
    let mut stream = bench.backend().watch(&gvr, Some("n"), &ListOptions::default()).await.expect("a watch");
    loop {
        let event = stream.next().await.expect("the watch goes on").expect("works");
        if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event {
            let value: Value = object.decode().expect("JSON");
            if wanted(&value) {
                return value;
            }
        }
    }
}

/// Discovery over an API in memory.
struct Discoverable {
    inner: SharedBackend,
    table: Arc<Mutex<Table>>,
    during_patch: Arc<Mutex<Option<Meanwhile>>>,
}

#[async_trait]
impl Backend for Discoverable {
    async fn get(&self, target: Target<'_>) -> Result<ObjectRef, Status> {
        self.inner.get(target).await
    }

    async fn list(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<ObjectList, Status> {
        self.inner.list(gvr, namespace, options).await
    }

    async fn watch(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<WatchStream, Status> {
        self.inner.watch(gvr, namespace, options).await
    }

    async fn create(&self, target: Target<'_>, body: bytes::Bytes) -> Result<ObjectRef, Status> {
        self.inner.create(target, body).await
    }

    async fn update(&self, target: Target<'_>, body: bytes::Bytes) -> Result<ObjectRef, Status> {
        self.inner.update(target, body).await
    }

    async fn patch(
        &self,
        target: Target<'_>,
        kind: PatchKind,
        body: bytes::Bytes,
    ) -> Result<ObjectRef, Status> {
        let meanwhile = self.during_patch.lock().take();
        if let Some(happens) = meanwhile {
            happens();
        }
        self.inner.patch(target, kind, body).await
    }

    async fn delete(&self, target: Target<'_>, options: &DeleteOptions) -> Result<(), Status> {
        self.inner.delete(target, options).await
    }

    async fn delete_collection(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        selection: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        self.inner.delete_collection(gvr, namespace, selection, options).await
    }

    async fn raw(&self, path: &str) -> Result<bytes::Bytes, Status> {
        let table = self.table.lock().clone();
        let document = match path {
            "/api/v1" => sampan_api::discovery::resource_list(&table, "", "v1"),
            "/apis" => Some(sampan_api::discovery::group_list(&table)),
            other => other
                .strip_prefix("/apis/")
                .and_then(|path| path.split_once('/'))
                .and_then(|(group, version)| sampan_api::discovery::resource_list(&table, group, version)),
        };
        document.map(bytes::Bytes::from).ok_or_else(Status::no_such_route)
    }
}
