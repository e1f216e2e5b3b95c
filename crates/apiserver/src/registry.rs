//! The generic pipeline of every stored resource: what kube-apiserver calls a registry.
//!
//! Flow of a write: decode → prune, default, mutate → validate → admission → commit → cache. All
//! kinds, built-in or custom, go through it; what differs by kind is data in the resource table or
//! a hook in [`crate::strategy`] and [`crate::admission`].

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::RwLock;
use sampan_api::object::ObjectRef;
use sampan_api::schema::FieldValidation;
use sampan_api::table::{ResourceDef, Storage, Table};
use sampan_api::{Gvr, Status};
use sampan_client::{ListOptions, ObjectList};
use sampan_storage::{CommitError, Revision, Store, Write};
use tokio::sync::watch;

use crate::admission::policies::Policies;
use crate::admission::webhooks::Webhooks;
use crate::admission::{mutating_admission_policy, validating_admission_policy};
use crate::authorizer::Authorizer;
use crate::cache::{Cache, Caches, LoadError};
use crate::custom::conversion::Converters;
use crate::fields::FieldReader;
use crate::identity::User;
use crate::identity::authentication::ServiceAccountTokens;
use crate::identity::authorization::{self, PolicyRule};
use crate::leadership::Fence;
use crate::metrics::AdmissionMetrics;
use crate::strategy::service::Allocators;

mod definitions;
mod delete;
mod device_selectors;
mod feed;
mod list;
mod managed;
mod metadata;
mod read_body;
mod repeated_keys;
mod rules;
mod scale;
mod subresources;
#[cfg(test)]
mod tests;
mod token;
mod version;
mod write;

pub use delete::Deleted;
pub use list::{Page, RevisionMatch, Selection};
pub use managed::{MAX_MANAGER, manager_of_agent};
pub use metadata::{differs_in_spec, metadata as metadata_of, timestamp};
pub(crate) use read_body::check_object;
pub use read_body::{BodyFormat, MAX_BODY, decode_applied, decode_value};
pub use subresources::read_delete_options;
pub use write::{Part, Place};

/// Who asks, and how the request wants to be treated.
#[derive(Clone, Debug)]
pub struct Context {
    pub user: User,
    pub options: WriteOptions,
    /// Texts for the client's `Warning` headers.
    pub warnings: Vec<String>,
    /// What admission noted for the audit log, by key.
    pub annotations: BTreeMap<String, String>,
    /// Who owns what a write changes, unless its options name somebody.
    default_manager: String,
    /// Whether a component of this process writes.
    in_process: bool,
    /// What its commits depend on.
    pub(crate) fence: Option<Fence>,
}

/// Query parameters of writes.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub dry_run: bool,
    pub field_validation: FieldValidation,
    pub field_manager: Option<String>,
    /// Server-side apply: take fields over from other managers.
    pub force: bool,
    /// The written object already says who owns what, or nobody is to own the change.
    pub owners_settled: bool,
}

impl Context {
    pub fn new(user: User) -> Self {
        Context {
            default_manager: managed::manager_of_user(&user.name),
            in_process: true,
            fence: None,
            user,
            options: WriteOptions::default(),
            warnings: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// Notes something for the audit log. The first note under a key stays.
    pub fn annotate(&mut self, key: String, value: String) {
        self.annotations.entry(key).or_insert(value);
    }

    /// A request from outside: its user agent tells who manages what it writes.
    pub fn of_agent(user: User, user_agent: &str) -> Self {
        let default_manager = manager_of_agent(user_agent);
        Context { default_manager, in_process: false, ..Context::new(user) }
    }

    /// The field manager of what is written.
    pub fn manager(&self) -> &str {
        match self.options.field_manager.as_deref() {
            None | Some("") => &self.default_manager,
            Some(named) => named,
        }
    }
}

/// A resource as it is served: its table entry and its cache.
#[derive(Clone)]
pub struct Resource {
    pub def: Arc<ResourceDef>,
    pub cache: Arc<Cache>,
    /// Closes when the resource is no longer served in this form: its watches end then.
    served: watch::Receiver<()>,
}

impl Resource {
    /// The same objects under another entry, as another version of them.
    pub(crate) fn with_def(&self, def: Arc<ResourceDef>) -> Self {
        Resource { def, ..self.clone() }
    }

    /// A resource that no registry serves, for tests of what works on values.
    #[cfg(test)]
    pub fn unserved(def: Arc<ResourceDef>, cache: Arc<Cache>) -> Self {
        Resource { def, cache, served: watch::channel(()).1 }
    }

    /// The name in the cache of an object of this resource.
    pub fn key(&self, namespace: Option<&str>, name: &str) -> String {
        match namespace {
            Some(namespace) if self.def.namespaced => format!("{namespace}/{name}"),
            _ => name.to_owned(),
        }
    }

    /// Waits until the resource is no longer served in this form.
    pub async fn ended(&self) {
        let mut served = self.served.clone();
        while served.changed().await.is_ok() {}
    }

    pub(crate) fn storage_key(&self, key: &str) -> Arc<str> {
        format!("{}/{key}", self.storage().prefix).into()
    }

    fn storage(&self) -> &Storage {
        self.def.storage.as_ref().expect("only what is stored becomes a Resource (Registry::serve)")
    }

    pub fn gvr(&self) -> &Gvr {
        &self.def.gvr
    }

    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.def.gvr, name)
    }
}

/// A resource for as long as it is served.
struct Served {
    resource: Resource,
    /// Its receivers learn by its end that the resource ended.
    _alive: watch::Sender<()>,
}

/// Every stored resource over one store.
pub struct Registry {
    store: Arc<dyn Store>,
    pub caches: Caches,
    table: RwLock<Table>,
    resources: RwLock<HashMap<Gvr, Served>>,
    definitions: definitions::Definitions,
    pub(crate) converters: Converters,
    pub allocators: Allocators,
    pub(crate) quota_turns: crate::admission::Turns,
    /// Who may do what; set when a server begins to serve this, and nobody may anything before.
    pub(crate) authorizer: OnceLock<Arc<Authorizer>>,
    pub tokens: Arc<ServiceAccountTokens>,
    /// Where admission is counted; set when a server begins to serve this.
    pub(crate) admission_metrics: OnceLock<Arc<AdmissionMetrics>>,
    pub webhooks: Webhooks,
    pub policies: Policies<validating_admission_policy::Policy>,
    pub mutating_policies: Policies<mutating_admission_policy::Policy>,
}

/// Why the registry could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the store cannot be read")]
    Store(#[from] sampan_storage::StoreError),
    #[error("the store cannot be watched")]
    Watch(#[from] sampan_storage::WatchError),
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl Registry {
    /// Reads everything out of the store. [`Registry::follow`] then keeps the caches current.
    pub async fn open(
        store: Arc<dyn Store>,
        table: Table,
        allocators: Allocators,
        tokens: Arc<ServiceAccountTokens>,
    ) -> Result<Arc<Self>, StartError> {
        let registry = Registry {
            store,
            caches: Caches::default(),
            resources: RwLock::new(HashMap::new()),
            definitions: definitions::Definitions::default(),
            converters: Converters::default(),
            table: RwLock::new(table.clone()),
            allocators,
            quota_turns: crate::admission::Turns::default(),
            authorizer: OnceLock::new(),
            tokens,
            admission_metrics: OnceLock::new(),
            webhooks: Webhooks::default(),
            policies: Policies::default(),
            mutating_policies: Policies::default(),
        };
        for def in table.entries() {
            registry.serve(def.clone());
        }
        registry.load().await?;
        Ok(Arc::new(registry))
    }

    /// Adds a resource. Its cache is shared with every other version of the same storage.
    fn serve(&self, def: Arc<ResourceDef>) {
        let Some(storage) = &def.storage else { return };
        let cache = self.caches.register(&storage.prefix, FieldReader::new(def.fields.clone()));
        let (alive, served) = watch::channel(());
        let gvr = def.gvr.clone();
        let resource = Resource { def, cache, served };
        self.resources.write().insert(gvr, Served { resource, _alive: alive });
    }

    /// The resource table at this moment. A snapshot is a pointer.
    pub fn table(&self) -> Table {
        self.table.read().clone()
    }

    pub fn resource(&self, gvr: &Gvr) -> Result<Resource, Status> {
        let resources = self.resources.read();
        resources.get(gvr).map(|served| served.resource.clone()).ok_or_else(Status::no_such_route)
    }

    pub fn get(&self, gvr: &Gvr, namespace: Option<&str>, name: &str) -> Result<ObjectRef, Status> {
        let resource = self.resource(gvr)?;
        resource.cache.get(&resource.key(namespace, name)).ok_or_else(|| resource.not_found(name))
    }

    /// One page of a consistent list.
    pub async fn list(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<ObjectList, Status> {
        let resource = self.resource(gvr)?;
        let page = self.page(&resource, namespace, options, None).await?;
        Ok(ObjectList { items: page.items, revision: page.revision, continue_token: page.continue_token })
    }

    /// Whether other servers serve the same store.
    pub fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Commits writes of a request, on condition of what its writer depends on.
    async fn commit(&self, mut writes: Vec<Write>, context: &Context) -> Result<Revision, CommitError> {
        writes.extend(context.fence.as_ref().map(Fence::check));
        let committed = self.store.commit_all(writes).await;
        if let Some(fence) = &context.fence {
            fence.note(&committed);
        }
        committed
    }

    /// Waits until the caches show whatever any server of this cluster acknowledged before: what a read
    /// without a revision promises. Costs nothing where this server is the only one.
    pub async fn fresh(&self) -> Result<(), Status> {
        if self.store.is_shared() {
            let revision = self.store.revision().await.map_err(write::store_status)?;
            self.caches.applied(revision).await;
        }
        Ok(())
    }

    /// Whether an object exists, for hooks that refer to others.
    pub(crate) fn find(&self, gvr: &Gvr, key: &str) -> Option<ObjectRef> {
        self.resources.read().get(gvr)?.resource.cache.get(key)
    }

    /// Whether a user may do something, for hooks that ask more than the request itself needs.
    pub(crate) fn allows(&self, attributes: &authorization::Attributes<'_>) -> bool {
        self.authorizer.get().is_some_and(|authorizer| authorizer.decide(attributes).is_allowed())
    }

    /// The rules that a user holds in a namespace.
    pub(crate) fn rules_for(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        self.authorizer
            .get()
            .map(|authorizer| authorizer.with_roles(|roles| roles.rules_for(user, namespace)))
            .unwrap_or_default()
    }

    /// The rules that a `roleRef` means, seen from a binding in a namespace.
    pub(crate) fn role_rules(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<[PolicyRule]>> {
        self.authorizer.get()?.with_roles(|roles| roles.role_rules(kind, namespace, name))
    }

    /// The objects of a namespace, for hooks that refer to others.
    pub(crate) fn find_all(&self, gvr: &Gvr, namespace: &str) -> Vec<ObjectRef> {
        let Ok(resource) = self.resource(gvr) else { return Vec::new() };
        let prefix = format!("{namespace}/");
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        let (objects, _) = resource.cache.snapshot();
        let found = objects.range::<(Bound<&str>, Bound<&str>), str>(from);
        found.take_while(|(key, _)| key.starts_with(&prefix)).map(|(_, object)| object.clone()).collect()
    }

    /// The object that a commit stored, once the caches show it. Theirs is shared, but may already be
    /// another writer's: who is answered with that would take it for its own, and overwrite it.
    async fn written(
        &self,
        resource: &Resource,
        key: &str,
        value: &Bytes,
        revision: u64,
    ) -> Result<ObjectRef, Status> {
        self.caches.applied(revision).await;
        match resource.cache.get(key) {
            Some(object) if object.header.revision == revision => Ok(object),
            _ => resource.cache.read_object(value, revision).map_err(Status::internal),
        }
    }

    /// Figures of the store.
    pub async fn store_stats(&self) -> Result<sampan_storage::Stats, Status> {
        self.store.stats().await.map_err(write::store_status)
    }
}

/// The body of a write and how it is written.
#[derive(Clone, Debug)]
pub struct Body {
    pub bytes: Bytes,
    pub format: BodyFormat,
}

impl Body {
    pub fn json(bytes: Bytes) -> Self {
        Body { bytes, format: BodyFormat::Json }
    }
}
