//! A minimal API in memory, for tests of what stands on a [`Client`](crate::Client).
//!
//! It stores any JSON object under any resource, gives uids and revisions, checks
//! `metadata.resourceVersion`, keeps `status` apart for the `status` subresource, honours
//! finalizers, resumes watches, binds and evicts pods, applies patches, and generates names. It validates nothing,
//! defaults nothing and knows no permissions.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use parking_lot::Mutex;
use sampan_api::object::{Object, ObjectRef};
use sampan_api::selector::{FieldSelector, Selector};
use sampan_api::strategic::SchemaMerge;
use sampan_api::table::Table;
use sampan_api::{Gvr, Status, patch};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    Backend, DeleteOptions, ListOptions, ObjectList, PatchKind, SharedBackend, Target, WatchEvent,
    WatchStream,
};

/// What a test may answer in place of the backend.
pub type Interceptor = Box<dyn Fn(&str, &Target<'_>) -> Result<(), Status> + Send + Sync>;

/// The API in memory.
#[derive(Default)]
pub struct MemoryBackend {
    state: Mutex<State>,
    interceptor: Mutex<Option<Interceptor>>,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<Key, ObjectRef>,
    log: Vec<Change>,
    watches: Vec<Watcher>,
}

/// Group and resource, namespace, name.
type Key = (String, String, String);

#[derive(Clone)]
struct Change {
    key: Key,
    old: Option<ObjectRef>,
    /// After a deletion, the object as it was, at the revision of the deletion.
    new: ObjectRef,
    deleted: bool,
}

struct Watcher {
    selection: Selection,
    sender: mpsc::UnboundedSender<Change>,
}

/// What a list or a watch asks for.
#[derive(Clone)]
struct Selection {
    resource: String,
    namespace: Option<String>,
    labels: Selector,
    fields: FieldSelector,
}

impl Selection {
    fn new(gvr: &Gvr, namespace: Option<&str>, options: &ListOptions) -> Result<Self, Status> {
        let labels = options.label_selector.as_deref().map(str::parse).transpose();
        let fields = options.field_selector.as_deref().map(str::parse).transpose();
        Ok(Selection {
            resource: gvr.qualified(),
            namespace: namespace.map(str::to_owned),
            labels: labels.map_err(|error| Status::bad_request(format!("{error}")))?.unwrap_or_default(),
            fields: fields.map_err(|error| Status::bad_request(format!("{error}")))?.unwrap_or_default(),
        })
    }

    fn covers(&self, key: &Key) -> bool {
        key.0 == self.resource && self.namespace.as_ref().is_none_or(|namespace| *namespace == key.1)
    }

    fn matches(&self, object: &Object) -> bool {
        if !self.labels.matches(|key| object.header.label(key)) {
            return false;
        }
        if self.fields.is_everything() {
            return true;
        }
        let value: Value = serde_json::from_slice(&object.bytes()).unwrap_or_default();
        self.fields.matches(|field| value.pointer(&format!("/{}", field.replace('.', "/")))?.as_str())
    }

    /// What a change looks like to who selected this.
    fn event(&self, change: &Change) -> Option<WatchEvent> {
        let was = change.old.as_ref().is_some_and(|old| self.matches(old));
        let is = !change.deleted && self.matches(&change.new);
        match (was, is) {
            (false, true) => Some(WatchEvent::Added(change.new.clone())),
            (true, true) => Some(WatchEvent::Modified(change.new.clone())),
            (true, false) => Some(WatchEvent::Deleted(change.new.clone())),
            (false, false) => None,
        }
    }
}

impl MemoryBackend {
    /// An empty API.
    #[expect(clippy::new_ret_no_self, reason = "a client takes the shared form")]
    pub fn new() -> SharedBackend {
        MemoryBackend::shared()
    }

    /// An empty API that the test can still reach into.
    pub fn shared() -> Arc<MemoryBackend> {
        Arc::new(MemoryBackend::default())
    }

    /// Asks `interceptor` before each call, with the verb (`get`, `create`, `update`, `patch`,
    /// `delete`, `list`, `watch`) and the target; an error is answered in place of the call.
    pub fn intercept(
        &self,
        interceptor: impl Fn(&str, &Target<'_>) -> Result<(), Status> + Send + Sync + 'static,
    ) {
        *self.interceptor.lock() = Some(Box::new(interceptor));
    }

    /// Ends every running watch, as a server that restarts does.
    pub fn break_watches(&self) {
        self.state.lock().watches.clear();
    }

    fn ask(&self, verb: &str, target: &Target<'_>) -> Result<(), Status> {
        match &*self.interceptor.lock() {
            Some(interceptor) => interceptor(verb, target),
            None => Ok(()),
        }
    }

    /// Changes one object as `change` says.
    fn modify(
        &self,
        target: &Target<'_>,
        change: impl FnOnce(&Value) -> Result<Value, Status>,
    ) -> Result<ObjectRef, Status> {
        let mut state = self.state.lock();
        let key = key_of(target);
        let Some(old) = state.objects.get(&key).cloned() else {
            return Err(Status::not_found(target.gvr, target.name));
        };
        let stored: Value = old.decode().map_err(Status::internal)?;
        let mut value = change(&stored)?;
        let expected = value["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if !expected.is_empty() && expected != old.header.revision.to_string() {
            return Err(Status::modified(target.gvr, target.name));
        }
        match target.subresource {
            Some("status") => {
                let status = value["status"].take();
                value = stored.clone();
                value["status"] = status;
            }
            Some(_) => {}
            None => {
                if let Some(status) = stored.get("status") {
                    value["status"] = status.clone();
                }
            }
        }
        for field in ["uid", "creationTimestamp", "deletionTimestamp", "name", "namespace"] {
            if let Some(kept) = stored["metadata"].get(field) {
                value["metadata"][field] = kept.clone();
            }
        }
        value["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
        if value == stored {
            return Ok(old);
        }
        if stored.get("spec") != value.get("spec") {
            value["metadata"]["generation"] = json!(old.header.generation + 1);
        }
        let finished = old.header.is_terminating()
            && value["metadata"]["finalizers"].as_array().is_none_or(|finalizers| finalizers.is_empty());
        state.store(key, value, finished)
    }
}

impl State {
    /// Stores an object, or its deletion, at the next revision, and tells the watches.
    fn store(&mut self, key: Key, mut value: Value, deleted: bool) -> Result<ObjectRef, Status> {
        self.revision += 1;
        value["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let bytes = serde_json::to_vec(&value).map_err(Status::internal)?;
        let new = Arc::new(Object::parse(bytes.into()).map_err(Status::internal)?);
        let old =
            if deleted { self.objects.remove(&key) } else { self.objects.insert(key.clone(), new.clone()) };
        let change = Change { key, old, new: new.clone(), deleted };
        self.watches.retain(|watcher| {
            if watcher.selection.covers(&change.key) {
                watcher.sender.send(change.clone()).is_ok()
            } else {
                !watcher.sender.is_closed()
            }
        });
        self.log.push(change);
        Ok(new)
    }

    /// Deletes an object, or marks it while finalizers hold it.
    fn delete(&mut self, key: &Key, object: &ObjectRef) -> Result<(), Status> {
        let mut value: Value = object.decode().map_err(Status::internal)?;
        if object.header.finalizers.is_empty() {
            return self.store(key.clone(), value, true).map(drop);
        }
        if !object.header.is_terminating() {
            value["metadata"]["deletionTimestamp"] = json!(now());
            self.store(key.clone(), value, false)?;
        }
        Ok(())
    }
}

fn key_of(target: &Target<'_>) -> Key {
    (target.gvr.qualified(), target.namespace.unwrap_or_default().to_owned(), target.name.to_owned())
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn parse(body: &[u8]) -> Result<Value, Status> {
    match serde_json::from_slice(body) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(Status::bad_request("not an object")),
        Err(error) => Err(Status::bad_request(error.to_string())),
    }
}

/// Applies a strategic merge patch to an object of a built-in kind.
fn strategic(gvr: &Gvr, object: &Value, body: &[u8]) -> Result<Value, Status> {
    static TABLE: LazyLock<Table> = LazyLock::new(Table::builtin);
    let resource = TABLE.get_gvr(gvr).ok_or_else(Status::no_such_route)?;
    let (schema, at) = resource.schema().ok_or_else(Status::no_such_route)?;
    let patched = patch::strategic(object.clone(), body, &SchemaMerge::new(schema, at));
    patched.map_err(|error| error.status())
}

/// What `POST pods/{name}/binding` does to a pod.
fn bind(pod: &Value, binding: &Value, target: &Target<'_>) -> Result<Value, Status> {
    let node = &binding["target"]["name"];
    if let Some(assigned) = pod["spec"]["nodeName"].as_str().filter(|assigned| !assigned.is_empty()) {
        let why = format!("pod {} is already assigned to node {assigned:?}", target.name);
        return Err(Status::conflict(target.gvr, target.name, why));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = node.clone();
    let condition = json!({ "type": "PodScheduled", "status": "True", "lastTransitionTime": now() });
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(condition);
    pod["status"]["conditions"] = json!(conditions);
    Ok(pod)
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn get(&self, target: Target<'_>) -> Result<ObjectRef, Status> {
        self.ask("get", &target)?;
        let found = self.state.lock().objects.get(&key_of(&target)).cloned();
        found.ok_or_else(|| Status::not_found(target.gvr, target.name))
    }

    async fn list(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<ObjectList, Status> {
        self.ask("list", &Target { gvr, namespace, name: "", subresource: None })?;
        let selection = Selection::new(gvr, namespace, options)?;
        let state = self.state.lock();
        let chosen =
            state.objects.iter().filter(|(key, object)| selection.covers(key) && selection.matches(object));
        let items = chosen.map(|(_, object)| object.clone()).collect();
        Ok(ObjectList { items, revision: state.revision, continue_token: None })
    }

    async fn watch(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<WatchStream, Status> {
        self.ask("watch", &Target { gvr, namespace, name: "", subresource: None })?;
        let selection = Selection::new(gvr, namespace, options)?;
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut state = self.state.lock();
        let past: Vec<WatchEvent> = match options.revision {
            None => {
                let covered = state.objects.iter().filter(|(key, _)| selection.covers(key));
                let chosen = covered.filter(|(_, object)| selection.matches(object));
                chosen.map(|(_, object)| WatchEvent::Added(object.clone())).collect()
            }
            Some(after) => {
                let later = state.log.iter().filter(|change| change.new.header.revision > after);
                later
                    .filter(|change| selection.covers(&change.key))
                    .filter_map(|change| selection.event(change))
                    .collect()
            }
        };
        state.watches.push(Watcher { selection: selection.clone(), sender });
        let live = stream::poll_fn(move |context| receiver.poll_recv(context))
            .filter_map(move |change| std::future::ready(selection.event(&change)));
        Ok(Box::pin(stream::iter(past).chain(live).map(Ok)))
    }

    async fn create(&self, target: Target<'_>, body: Bytes) -> Result<ObjectRef, Status> {
        self.ask("create", &target)?;
        let mut value = parse(&body)?;
        match target.subresource {
            None => {}
            Some("binding") => return self.modify(&target, |pod| bind(pod, &value, &target)),
            Some("eviction") => {
                let object = self.get(Target { subresource: None, ..target }).await?;
                self.state.lock().delete(&key_of(&target), &object)?;
                return Ok(object);
            }
            Some(other) => return Err(Status::method_not_allowed(target.gvr, other)),
        }
        let mut state = self.state.lock();
        let mut name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if name.is_empty() {
            let prefix = value["metadata"]["generateName"].as_str().unwrap_or_default();
            name = format!("{prefix}{:05}", state.revision + 1);
            value["metadata"]["name"] = json!(name);
        }
        if let Some(namespace) = target.namespace {
            value["metadata"]["namespace"] = json!(namespace);
        }
        let key = key_of(&Target { name: &name, ..target });
        if state.objects.contains_key(&key) {
            return Err(Status::already_exists(target.gvr, &name));
        }
        value["metadata"]["uid"] = json!(format!("uid-{}", state.revision + 1));
        value["metadata"]["generation"] = json!(1);
        if value["metadata"]["creationTimestamp"].is_null() {
            value["metadata"]["creationTimestamp"] = json!(now());
        }
        state.store(key, value, false)
    }

    async fn update(&self, target: Target<'_>, body: Bytes) -> Result<ObjectRef, Status> {
        self.ask("update", &target)?;
        self.modify(&target, |_| parse(&body))
    }

    async fn patch(&self, target: Target<'_>, kind: PatchKind, body: Bytes) -> Result<ObjectRef, Status> {
        self.ask("patch", &target)?;
        self.modify(&target, |object| match kind {
            PatchKind::Json => patch::json(object.clone(), &body).map_err(|error| error.status()),
            PatchKind::Merge => patch::merge(object.clone(), &body).map_err(|error| error.status()),
            PatchKind::Strategic => strategic(target.gvr, object, &body),
            PatchKind::Apply => Err(Status::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
            )),
        })
    }

    async fn delete(&self, target: Target<'_>, options: &DeleteOptions) -> Result<(), Status> {
        self.ask("delete", &target)?;
        let mut state = self.state.lock();
        let key = key_of(&target);
        let Some(object) = state.objects.get(&key).cloned() else {
            return Err(Status::not_found(target.gvr, target.name));
        };
        if options.uid.as_ref().is_some_and(|uid| **uid != *object.header.uid) {
            return Err(Status::conflict(
                target.gvr,
                target.name,
                "the UID in the precondition does not match",
            ));
        }
        if options.revision.is_some_and(|revision| revision != object.header.revision) {
            return Err(Status::modified(target.gvr, target.name));
        }
        state.delete(&key, &object)
    }

    async fn delete_collection(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        selection: &ListOptions,
        _: &DeleteOptions,
    ) -> Result<(), Status> {
        let selection = Selection::new(gvr, namespace, selection)?;
        let mut state = self.state.lock();
        let chosen: Vec<_> = state
            .objects
            .iter()
            .filter(|(key, object)| selection.covers(key) && selection.matches(object))
            .map(|(key, object)| (key.clone(), object.clone()))
            .collect();
        chosen.iter().try_for_each(|(key, object)| state.delete(key, object))
    }

    async fn raw(&self, _: &str) -> Result<Bytes, Status> {
        Err(Status::no_such_route())
    }
}
