//! Create, update and patch.

use std::sync::Arc;

use bytes::Bytes;
use sampan_api::object::ObjectRef;
use sampan_api::status::Cause;
use sampan_api::strategic::SchemaMerge;
use sampan_api::{Object, Status, patch, warnings};
use sampan_client::PatchKind;
use sampan_storage::{CommitError, Entry, Expect, StoreError, Write};
use serde_json::Value;

use super::scale::Scaled;
use super::{Body, Context, Registry, Resource, metadata, rules};
use crate::admission::{self, Attributes, Mutated, Operation};
use crate::{conversion, strategy};

/// Attempts of a write that names no revision before a conflict is reported.
const ATTEMPTS: usize = 16;

/// An update of one object: the stored state in, the wanted state out.
pub(crate) type Change<'a> = dyn FnMut(&Value, &mut Context) -> Result<Value, Status> + Send + 'a;

/// Which part of an object an update may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// Everything except the status, where the resource has a status subresource.
    Main,
    /// The status only.
    Status,
    /// What another subresource writes; named, since hooks differ by it.
    Subresource(&'a str),
}

/// The object that an update is about, and its part.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub namespace: Option<&'a str>,
    pub name: &'a str,
    pub part: Part<'a>,
}

impl<'a> Part<'a> {
    /// The name in the path; empty for the object itself.
    pub fn subresource(self) -> &'a str {
        match self {
            Part::Main => "",
            Part::Status => "status",
            Part::Subresource(name) => name,
        }
    }

    pub fn of(subresource: Option<&'a str>) -> Self {
        match subresource {
            None => Part::Main,
            Some("status") => Part::Status,
            Some(other) => Part::Subresource(other),
        }
    }
}

impl Registry {
    /// Creates an object.
    pub async fn create(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        body: &Body,
        context: &mut Context,
    ) -> Result<ObjectRef, Status> {
        let object = self.read_object(resource, body, context)?;
        self.create_value(resource, namespace, object, context).await
    }

    /// Creates an object that is already decoded.
    pub async fn create_value(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        mut object: Value,
        context: &mut Context,
    ) -> Result<ObjectRef, Status> {
        let def = &resource.def;
        super::read_body::name_type(def, &mut object);
        metadata::prepare_create(&mut object, namespace, &def.gvr, &def.kind)?;
        rules::complete(resource, &mut object);
        self.track(resource, Part::Main, None, &mut object, context);
        let name = metadata::text(&object, "name").to_owned();
        let attributes = Attributes {
            registry: self,
            resource,
            subresource: "",
            operation: Operation::Create,
            namespace,
            name: &name,
            old: None,
            deletion: None,
        };
        if admission::mutate(&attributes, &mut object, context).await? == Mutated::Outside {
            rules::complete(resource, &mut object);
        }
        strategy::prepare_create(resource, &mut object, &context.user);
        let mut guard = strategy::service::guard(self, resource).await.map_err(store_status)?;
        let reserved = self.allocators.reserve(resource, &mut object, None)?;
        let faults = rules::faults_of_new(resource, &object);
        refuse_invalid(resource, &object, faults)?;
        warn(resource, &object, None, context);
        admission::validate(&attributes, Some(&object), context).await?;

        let key = resource.key(namespace, &name);
        let has_revision = metadata::take_revision(&mut object);
        let stored = self.stored_form(resource, object).await?;
        let value = conversion::encode(def, &stored)?;
        for _ in 0..ATTEMPTS {
            let charge = admission::charge(&attributes, &stored).await?;
            if context.options.dry_run {
                if resource.cache.get(&key).is_some() {
                    return Err(Status::already_exists(&def.gvr, &name));
                }
                return Object::parse(value).map(Arc::new).map_err(Status::internal);
            }
            // Upstream's store says this, after all admission, and what a store says has no reason.
            if has_revision {
                let message = "resourceVersion should not be set on objects to be created";
                return Err(Status::failure(500, "", message));
            }
            let mut writes = charge.with(Write::create(resource.storage_key(&key), value.clone()));
            writes.extend(reserved.guarded(guard));
            match self.commit(writes, context).await {
                Ok(revision) => {
                    reserved.keep();
                    let written = self.written(resource, &key, &value, revision).await?;
                    return self.in_version(resource, written).await;
                }
                Err(CommitError::Mismatch { index: 0, .. }) => {
                    return Err(Status::already_exists(&def.gvr, &name));
                }
                // A quota changed since the write was charged to it, or another server allocated something.
                Err(CommitError::Mismatch { current, .. }) => {
                    self.seen(current.as_deref()).await?;
                    guard = strategy::service::guard(self, resource).await.map_err(store_status)?;
                    if guard.is_some() && !reserved.is_free() {
                        return Err(Status::too_many_requests("another server took the same; try again", 1));
                    }
                }
                Err(error) => return Err(commit_status(error)),
            }
        }
        Err(Status::modified(&def.gvr, &name))
    }

    /// Waits until the caches show what a commit collided with.
    async fn seen(&self, current: Option<&Entry>) -> Result<(), Status> {
        let revision = match current {
            Some(entry) => entry.revision,
            None => self.store.revision().await.map_err(store_status)?,
        };
        self.caches.applied(revision).await;
        Ok(())
    }

    /// Replaces an object or one part of it.
    pub async fn update(
        &self,
        resource: &Resource,
        place: Place<'_>,
        body: &Body,
        context: &mut Context,
    ) -> Result<ObjectRef, Status> {
        let new = self.read_object(resource, body, context)?;
        let key = resource.key(place.namespace, place.name);
        if resource.cache.get(&key).is_none()
            && place.part == Part::Main
            && strategy::creates_on_update(resource)
        {
            return self.create_value(resource, place.namespace, new, context).await;
        }
        let mut change = |_: &Value, _: &mut Context| Ok(new.clone());
        self.change(resource, place, context, &mut change).await
    }

    /// Replaces an object by one that is already decoded.
    pub async fn replace(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        object: Value,
        context: &mut Context,
    ) -> Result<(), Status> {
        let object = super::read_body::check_object(resource, object, context)?;
        let mut change = |_: &Value, _: &mut Context| Ok(object.clone());
        self.change(resource, Place { namespace, name, part: Part::Main }, context, &mut change)
            .await
            .map(|_| ())
    }

    /// Changes an object, or one part of it, by a patch.
    pub async fn patch(
        &self,
        resource: &Resource,
        place: Place<'_>,
        kind: PatchKind,
        body: &Body,
        context: &mut Context,
    ) -> Result<ObjectRef, Status> {
        if kind == PatchKind::Apply {
            return self.server_side_apply(resource, place, body, context).await;
        }
        let mut change = |current: &Value, context: &mut Context| {
            let patched = apply_patch(resource, current.clone(), &body.bytes, kind)?;
            super::read_body::check_object(resource, patched, context)
        };
        self.change(resource, place, context, &mut change).await
    }

    /// Runs a change against the stored state until it commits, and finishes a deletion that waits
    /// only for the finalizers that the change removed.
    pub(crate) async fn change(
        &self,
        resource: &Resource,
        place: Place<'_>,
        context: &mut Context,
        change: &mut Change<'_>,
    ) -> Result<ObjectRef, Status> {
        let Place { namespace, name, .. } = place;
        let key = resource.key(namespace, name);
        for _ in 0..ATTEMPTS {
            let stored = resource.cache.get(&key).ok_or_else(|| resource.not_found(name))?;
            let old = self.value_in_version(resource, &stored).await?;
            let mut new = change(&old, context)?;
            let expected = expected_revision(&new)?;
            if expected.is_some_and(|revision| revision != stored.header.revision) {
                return Err(Status::modified(&resource.def.gvr, name));
            }
            let guard = strategy::service::guard(self, resource).await.map_err(store_status)?;
            let reserved = self.prepare_update(resource, place, &mut new, &old, context).await?;
            super::managed::keep_times(&mut new, &old);
            let charge = self.charge_update(resource, place, &new, &old).await?;
            let removes = metadata::is_terminating(&new) && is_finished(resource, &new);
            let value = conversion::encode(&resource.def, &self.stored_form(resource, new).await?)?;
            if context.options.dry_run {
                let bytes = crate::cache::with_revision(&value, stored.header.revision);
                return Object::parse(bytes).map(Arc::new).map_err(Status::internal);
            }
            let committed = if removes {
                self.remove(resource, &key, &stored, context).await
            } else if same_but_revision(&stored, &value) {
                return self.in_version(resource, stored).await;
            } else {
                let write = Write::update(resource.storage_key(&key), stored.header.revision, value.clone());
                let mut writes = charge.with(write);
                writes.extend(reserved.guarded(guard));
                self.commit(writes, context).await
            };
            match committed {
                Ok(revision) => {
                    reserved.keep();
                    // What an update removes was never stored: it is answered with the revision that it replaced.
                    let shown_at = if removes { stored.header.revision } else { revision };
                    self.caches.applied(revision).await;
                    let written = self.written(resource, &key, &value, shown_at).await?;
                    return self.in_version(resource, written).await;
                }
                Err(CommitError::Mismatch { index: 0, current: None }) => {
                    return Err(resource.not_found(name));
                }
                // What was made for one revision fails the comparison above in the next round. A patch
                // that names none is made again: what it was applied to only lent it its revision.
                Err(CommitError::Mismatch { current, .. }) => self.seen(current.as_deref()).await?,
                Err(error) => return Err(commit_status(error)),
            }
        }
        Err(Status::modified(&resource.def.gvr, name))
    }

    async fn charge_update(
        &self,
        resource: &Resource,
        place: Place<'_>,
        new: &Value,
        old: &Value,
    ) -> Result<admission::Charge, Status> {
        let attributes = Attributes {
            registry: self,
            resource,
            subresource: place.part.subresource(),
            operation: Operation::Update,
            namespace: place.namespace,
            name: place.name,
            old: Some(old),
            deletion: None,
        };
        admission::charge(&attributes, new).await
    }

    /// Everything between the wanted state and the commit.
    async fn prepare_update<'a>(
        &'a self,
        resource: &Resource,
        place: Place<'_>,
        new: &mut Value,
        old: &Value,
        context: &mut Context,
    ) -> Result<strategy::service::Reservation<'a>, Status> {
        let def = &resource.def;
        let Place { namespace, name, part } = place;
        metadata::prepare_update(new, old, namespace, name, &def.gvr)?;
        rules::complete(resource, new);
        // What does not get in is nobody's.
        if matches!(part, Part::Subresource(_)) {
            strategy::keep_other_parts(resource, part, new, old);
        }
        self.track(resource, part, Some(old), new, context);
        let (mut scaled, old_scale) = Scaled::of_update(resource, part, new, old)?.unzip();
        let attributes = Attributes {
            registry: self,
            resource,
            subresource: part.subresource(),
            operation: Operation::Update,
            namespace,
            name,
            old: Some(old_scale.as_ref().unwrap_or(old)),
            deletion: None,
        };
        // A binding was admitted as the object that it is.
        let admits = part != Part::Subresource("binding");
        let shown = scaled.as_mut().map_or(&mut *new, |scaled| &mut scaled.new);
        if admits && admission::mutate(&attributes, shown, context).await? == Mutated::Outside {
            if let Some(scaled) = &scaled {
                scaled.put_into(new)?;
            }
            metadata::prepare_update(new, old, namespace, name, &def.gvr)?;
            rules::complete(resource, new);
        }
        strategy::keep_other_parts(resource, part, new, old);
        strategy::prepare_update(resource, part, new, old);
        if strategy::is_next_generation(resource, new, old) {
            metadata::set_generation(new, metadata::generation(old) + 1);
        }
        let reserved = self.allocators.reserve(resource, new, Some(old))?;
        let faults = rules::faults_of_update(resource, part, new, old);
        refuse_invalid(resource, new, faults)?;
        if part == Part::Main {
            warn(resource, new, Some(old), context);
        }
        if admits {
            let shown = scaled.as_ref().map_or(&*new, |scaled| &scaled.new);
            admission::validate(&attributes, Some(shown), context).await?;
        }
        Ok(reserved)
    }
}

/// Whether nothing holds back an object that is being deleted.
fn is_finished(resource: &Resource, object: &Value) -> bool {
    let waits_for_grace = object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64)
        .is_some_and(|seconds| seconds > 0);
    metadata::finalizers(object).is_empty()
        && !waits_for_grace
        && strategy::spec_finalizers(resource, object).is_empty()
}

fn apply_patch(resource: &Resource, current: Value, patch: &[u8], kind: PatchKind) -> Result<Value, Status> {
    if patch.len() > super::MAX_BODY {
        return Err(Status::too_large(super::MAX_BODY));
    }
    let accepted = [PatchKind::Json, PatchKind::Merge, PatchKind::Strategic];
    match kind {
        PatchKind::Json => patch::json(current, patch),
        PatchKind::Merge => patch::merge(current, patch),
        PatchKind::Strategic if !resource.def.custom => match resource.def.schema() {
            Some((schema, id)) => patch::strategic(current, patch, &SchemaMerge::new(schema, id)),
            None => return Err(Status::internal(format!("{} has no schema", resource.def.gvr))),
        },
        PatchKind::Strategic => {
            return Err(Status::unsupported_media_type(
                &accepted.map(PatchKind::content_type)[..2].join(", "),
            ));
        }
        PatchKind::Apply => {
            return Err(Status::unsupported_media_type(&accepted.map(PatchKind::content_type).join(", ")));
        }
    }
    .map_err(|error| error.status())
}

/// The revision that an update is based on; absent when it takes whatever is stored.
fn expected_revision(object: &Value) -> Result<Option<u64>, Status> {
    match metadata::text(object, "resourceVersion") {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!(
                "metadata.resourceVersion: Invalid value: \"{text}\": must be a number"
            ))
        }),
    }
}

/// Whether a write would change nothing: then none is made, so that nobody is woken.
fn same_but_revision(stored: &ObjectRef, value: &Bytes) -> bool {
    crate::cache::with_revision(value, stored.header.revision) == stored.bytes()
}

/// Tells the client what is accepted and may not be meant.
fn warn(resource: &Resource, object: &Value, old: Option<&Value>, context: &mut Context) {
    let def = &resource.def;
    context.warnings.extend(if def.custom {
        warnings::custom(object)
    } else {
        warnings::object(&def.gvr.group, &def.kind, object, old)
    });
}

fn refuse_invalid(resource: &Resource, object: &Value, faults: Vec<Cause>) -> Result<(), Status> {
    if faults.is_empty() {
        return Ok(());
    }
    let def = &resource.def;
    Err(Status::invalid(&def.gvr.group, &def.kind, metadata::text(object, "name"), faults))
}

/// What a client is told when the store did not take a write.
pub(super) fn commit_status(error: CommitError) -> Status {
    match error {
        CommitError::Mismatch { .. } => Status::failure(409, "Conflict", error.to_string()),
        CommitError::Check { .. } => {
            Status::failure(409, "Conflict", "the writer does not lead any more: another server does")
        }
        CommitError::Invalid { .. } | CommitError::Size { .. } | CommitError::Count { .. } => {
            Status::failure(413, "RequestEntityTooLarge", error.to_string())
        }
        CommitError::Store(error) => store_status(error),
    }
}

pub(super) fn store_status(error: StoreError) -> Status {
    tracing::error!(%error, "the store failed");
    match error {
        StoreError::Io { full: true, .. } => Status::failure(
            507,
            "InsufficientStorage",
            format!("{error}: free some disk space; writes then go on"),
        ),
        StoreError::Full { .. } => Status::failure(
            507,
            "InsufficientStorage",
            format!("{error}: compact and defragment it (sampan storage compact); writes then go on"),
        ),
        // Neither "it was done" nor "it was not" would be true.
        StoreError::Unknown { .. } => Status::timeout(error.to_string()),
        StoreError::Unavailable { .. } => Status::unavailable(error.to_string()),
        StoreError::Closed => Status::unavailable("the server is shutting down"),
        StoreError::Io { .. }
        | StoreError::Corrupt { .. }
        | StoreError::Format { .. }
        | StoreError::Transform { .. }
        | StoreError::Locked { .. }
        | StoreError::CutOff => Status::internal(error),
    }
}

/// Expectation of a deletion based on what was read.
pub(super) fn unchanged(stored: &ObjectRef) -> Expect {
    Expect::Revision(stored.header.revision)
}
