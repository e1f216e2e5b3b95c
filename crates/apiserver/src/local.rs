//! The API for components in this process: the registry itself, without encoding, HTTP or TLS.
//!
//! Objects are the cached ones. Requests are authorised like everybody's, under the component's own
//! user.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use sampan_api::object::ObjectRef;
use sampan_api::schema::FieldValidation;
use sampan_api::selector::FieldSelector;
use sampan_api::table::Verb;
use sampan_api::{Gvr, Object, Status};
use sampan_client::{Backend, DeleteOptions, ListOptions, ObjectList, PatchKind, Target, WatchStream};
use serde_json::Value;

use crate::ApiServer;
use crate::identity::User;
use crate::identity::authorization::Attributes;
use crate::leadership::Fence;
use crate::registry::{Body, Context, Part, Place, Selection};
use crate::route::ResourceRoute;
use crate::watch::{Start, Watcher};

/// The API under one user.
pub struct LocalBackend {
    server: Arc<ApiServer>,
    user: User,
    /// What its writes depend on.
    fence: Option<Fence>,
}

impl LocalBackend {
    pub fn new(server: Arc<ApiServer>, user: User) -> Self {
        LocalBackend { server, user, fence: None }
    }

    pub fn fenced(self, fence: Fence) -> Self {
        LocalBackend { fence: Some(fence), ..self }
    }

    fn authorize(
        &self,
        verb: Verb,
        gvr: &Gvr,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
    ) -> Result<(), Status> {
        self.server.authorize(&self.attributes(verb, gvr, namespace, name, subresource))
    }

    /// The same for what a selection holds: to whom one object is open by its name, a list of it alone is.
    fn authorize_selected(
        &self,
        verb: Verb,
        gvr: &Gvr,
        namespace: Option<&str>,
        selection: &ListOptions,
    ) -> Result<(), Status> {
        // One that cannot be read is refused where it is used.
        let text = selection.field_selector.as_deref().unwrap_or_default();
        let selector: FieldSelector = text.parse().unwrap_or_default();
        let reads = verb != Verb::DeleteCollection;
        let name = selector.exact("metadata.name").filter(|_| reads).unwrap_or_default();
        let attributes = self.attributes(verb, gvr, namespace, name, None);
        let field_selector = Some(&selector).filter(|selector| !selector.is_everything());
        self.server.authorize(&Attributes { field_selector, ..attributes })
    }

    fn attributes<'a>(
        &'a self,
        verb: Verb,
        gvr: &'a Gvr,
        namespace: Option<&'a str>,
        name: &'a str,
        subresource: Option<&'a str>,
    ) -> Attributes<'a> {
        Attributes {
            user: &self.user,
            verb: verb.as_str(),
            group: &gvr.group,
            version: &gvr.version,
            resource: &gvr.resource,
            subresource: subresource.unwrap_or_default(),
            namespace: namespace.unwrap_or_default(),
            name,
            path: "",
            field_selector: None,
        }
    }

    /// Answers a resource that is never stored.
    async fn review(&self, target: &Target<'_>, body: Bytes, context: &Context) -> Result<ObjectRef, Status> {
        let route = ResourceRoute {
            verb: Verb::Create,
            gvr: target.gvr.clone(),
            namespace: target.namespace.map(str::to_owned),
            name: None,
            subresource: None,
            rest: String::new(),
        };
        let answer = crate::reviews::create(&self.server, &route, &Body::json(body), context).await?;
        object_of(&answer.ok_or_else(Status::no_such_route)?)
    }

    fn context(&self) -> Context {
        let mut context = Context::new(self.user.clone());
        context.options.field_validation = FieldValidation::Ignore;
        context.fence = self.fence.clone();
        context
    }
}

fn object_of(value: &Value) -> Result<ObjectRef, Status> {
    let bytes = serde_json::to_vec(value).map_err(Status::internal)?;
    Object::parse(bytes.into()).map(Arc::new).map_err(Status::internal)
}

fn place<'a>(target: &Target<'a>) -> Place<'a> {
    Place { namespace: target.namespace, name: target.name, part: Part::of(target.subresource) }
}

#[async_trait]
impl Backend for LocalBackend {
    async fn get(&self, target: Target<'_>) -> Result<ObjectRef, Status> {
        self.authorize(Verb::Get, target.gvr, target.namespace, target.name, target.subresource)?;
        let registry = &self.server.registry;
        registry.fresh().await?;
        let resource = registry.resource(target.gvr)?;
        match target.subresource {
            Some("scale") => {
                let subresource = resource.def.subresource("scale").ok_or_else(Status::no_such_route)?;
                let (namespace, name) = (target.namespace, target.name);
                object_of(&registry.scale(&resource, &subresource.role, namespace, name).await?)
            }
            Some(_) | None => {
                let found = registry.get(target.gvr, target.namespace, target.name)?;
                registry.in_version(&resource, found).await
            }
        }
    }

    async fn list(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<ObjectList, Status> {
        self.authorize_selected(Verb::List, gvr, namespace, options)?;
        self.server.registry.list(gvr, namespace, options).await
    }

    async fn watch(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<WatchStream, Status> {
        self.authorize_selected(Verb::Watch, gvr, namespace, options)?;
        let registry = self.server.registry.clone();
        let resource = registry.resource(gvr)?;
        let selection = Selection::parse(&resource.def, namespace, options)?;
        if options.revision.is_none() {
            registry.fresh().await?;
        }
        let start = options.revision.filter(|revision| *revision > 0).map_or(Start::Existing, Start::After);
        let watcher = Watcher::open(registry, resource, selection, start).await?;
        let batches = stream::unfold(Some(watcher), |watcher| async {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(events) if events.is_empty() => None,
                Ok(events) => {
                    let events: Vec<_> = events.into_iter().map(Ok).collect();
                    Some((stream::iter(events), Some(watcher)))
                }
                Err(status) => Some((stream::iter(vec![Err(status)]), None)),
            }
        });
        Ok(Box::pin(futures_util::StreamExt::flatten(batches)))
    }

    async fn create(&self, target: Target<'_>, body: Bytes) -> Result<ObjectRef, Status> {
        self.authorize(Verb::Create, target.gvr, target.namespace, target.name, target.subresource)?;
        let registry = &self.server.registry;
        let mut context = self.context();
        let stored = registry.table().get_gvr(target.gvr).is_none_or(|def| def.storage.is_some());
        if !stored {
            return self.review(&target, body, &context).await;
        }
        let resource = registry.resource(target.gvr)?;
        match target.subresource {
            None => registry.create(&resource, target.namespace, &Body::json(body), &mut context).await,
            Some(name) => {
                let subresource = resource.def.subresource(name).ok_or_else(Status::no_such_route)?;
                let body = Body::json(body);
                let answer = registry
                    .act(&resource, subresource, target.namespace, target.name, &body, &mut context)
                    .await?;
                object_of(&answer)
            }
        }
    }

    async fn update(&self, target: Target<'_>, body: Bytes) -> Result<ObjectRef, Status> {
        self.authorize(Verb::Update, target.gvr, target.namespace, target.name, target.subresource)?;
        let registry = &self.server.registry;
        let resource = registry.resource(target.gvr)?;
        let place = place(&target);
        let body = Body::json(body);
        registry.update(&resource, place, &body, &mut self.context()).await
    }

    async fn patch(&self, target: Target<'_>, kind: PatchKind, body: Bytes) -> Result<ObjectRef, Status> {
        self.authorize(Verb::Patch, target.gvr, target.namespace, target.name, target.subresource)?;
        let registry = &self.server.registry;
        let resource = registry.resource(target.gvr)?;
        let place = place(&target);
        let body = Body::json(body);
        registry.patch(&resource, place, kind, &body, &mut self.context()).await
    }

    async fn delete(&self, target: Target<'_>, options: &DeleteOptions) -> Result<(), Status> {
        self.authorize(Verb::Delete, target.gvr, target.namespace, target.name, None)?;
        let registry = &self.server.registry;
        let resource = registry.resource(target.gvr)?;
        registry.delete(&resource, target.namespace, target.name, options, &mut self.context()).await?;
        Ok(())
    }

    async fn delete_collection(
        &self,
        gvr: &Gvr,
        namespace: Option<&str>,
        selection: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        self.authorize_selected(Verb::DeleteCollection, gvr, namespace, selection)?;
        let registry = &self.server.registry;
        let resource = registry.resource(gvr)?;
        registry.delete_collection(&resource, namespace, selection, options, &mut self.context()).await?;
        Ok(())
    }

    async fn raw(&self, path: &str) -> Result<Bytes, Status> {
        self.server.authorize(&Attributes::path(&self.user, "get", path))?;
        self.server.documents.get(path).ok_or_else(Status::no_such_route)
    }
}
