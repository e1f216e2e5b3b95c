//! Deletion: preconditions, grace, finalizers and propagation.

use jiff::{SignedDuration, Timestamp};
use sampan_api::Status;
use sampan_api::object::ObjectRef;
use sampan_client::{DeleteOptions, ListOptions};
use sampan_storage::{CommitError, Revision, Write};
use serde_json::{Value, json};

use super::write::{commit_status, unchanged};
use super::{Context, Registry, Resource, metadata};
use crate::admission::{self, Attributes, Operation};
use crate::{conversion, strategy};

const ATTEMPTS: usize = 16;
/// The finalizers through which the garbage collector is asked to act first.
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a deletion did.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// The object is gone; this was its last state.
    Gone(ObjectRef),
    /// The object waits for its grace period or its finalizers.
    Waits(ObjectRef),
}

/// What one attempt does.
enum Step {
    Remove,
    Mark(Value),
    /// It is being deleted already, and nothing about that changes.
    Nothing,
}

impl Registry {
    /// Deletes an object, or starts its deletion.
    pub async fn delete(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        name: &str,
        options: &DeleteOptions,
        context: &mut Context,
    ) -> Result<Deleted, Status> {
        let key = resource.key(namespace, name);
        if options.propagation_policy.is_none() {
            warn_of_orphans(resource, context);
        }
        for _ in 0..ATTEMPTS {
            let stored = resource.cache.get(&key).ok_or_else(|| resource.not_found(name))?;
            check_preconditions(resource, &stored, options)?;
            let object: Value = stored.decode().map_err(Status::internal)?;
            let shown = self.converted(resource, object.clone()).await?;
            let attributes = Attributes {
                registry: self,
                resource,
                subresource: "",
                operation: Operation::Delete,
                namespace,
                name,
                old: Some(&shown),
                deletion: Some(options),
            };
            admission::validate(&attributes, None, context).await?;
            let step = plan(resource, object, options, Timestamp::now())?;
            if context.options.dry_run {
                return Ok(Deleted::Gone(self.in_version(resource, stored).await?));
            }
            let marked = match step {
                Step::Nothing => return Ok(Deleted::Waits(self.in_version(resource, stored).await?)),
                Step::Remove => None,
                Step::Mark(object) => {
                    Some(conversion::encode(&resource.def, &conversion::without_revision(object))?)
                }
            };
            let committed = match &marked {
                None => self.remove(resource, &key, &stored, context).await,
                Some(value) => {
                    let (key, revision) = (resource.storage_key(&key), stored.header.revision);
                    self.commit(vec![Write::update(key, revision, value.clone())], context).await
                }
            };
            match committed {
                Ok(revision) => {
                    let Some(value) = marked else {
                        self.caches.applied(revision).await;
                        return Ok(Deleted::Gone(self.in_version(resource, stored).await?));
                    };
                    let left = self.written(resource, &key, &value, revision).await?;
                    return Ok(Deleted::Waits(self.in_version(resource, left).await?));
                }
                Err(CommitError::Mismatch { current: None, .. }) => return Err(resource.not_found(name)),
                Err(CommitError::Mismatch { current: Some(current), .. }) => {
                    self.caches.applied(current.revision).await;
                }
                Err(error) => return Err(commit_status(error)),
            }
        }
        Err(Status::modified(&resource.def.gvr, name))
    }

    /// Deletes what a selection holds; answers what it held.
    pub async fn delete_collection(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        selection: &ListOptions,
        options: &DeleteOptions,
        context: &mut Context,
    ) -> Result<Vec<ObjectRef>, Status> {
        let page = self.page(resource, namespace, selection, None).await?;
        for object in &page.items {
            let header = &object.header;
            let namespace = Some(header.namespace.as_ref()).filter(|namespace| !namespace.is_empty());
            match self.delete(resource, namespace, &header.name, options, context).await {
                Ok(_) => {}
                Err(status) if status.is_not_found() => {}
                Err(status) => return Err(status),
            }
        }
        Ok(page.items)
    }

    /// Removes an object whose time is over, if it is still as it was read.
    pub(crate) async fn expire(
        &self,
        resource: &Resource,
        key: &str,
        stored: &ObjectRef,
    ) -> Result<Revision, CommitError> {
        self.store.commit(Write::delete(resource.storage_key(key), unchanged(stored))).await
    }

    pub(super) async fn remove(
        &self,
        resource: &Resource,
        key: &str,
        stored: &ObjectRef,
        context: &Context,
    ) -> Result<Revision, CommitError> {
        self.commit(vec![Write::delete(resource.storage_key(key), unchanged(stored))], context).await
    }
}

fn check_preconditions(
    resource: &Resource,
    stored: &ObjectRef,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let (header, gvr) = (&stored.header, &resource.def.gvr);
    if let Some(uid) = options.uid.as_deref().filter(|uid| **uid != *header.uid) {
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", header.uid);
        return Err(Status::conflict(gvr, &header.name, why));
    }
    if let Some(revision) = options.revision.filter(|revision| *revision != header.revision) {
        let why = format!(
            "Precondition failed: ResourceVersion in precondition: {revision}, ResourceVersion in object meta: {}",
            header.revision
        );
        return Err(Status::conflict(gvr, &header.name, why));
    }
    Ok(())
}

/// Decides what a deletion does to an object in its stored form.
fn plan(
    resource: &Resource,
    mut object: Value,
    options: &DeleteOptions,
    now: Timestamp,
) -> Result<Step, Status> {
    let was_terminating = metadata::is_terminating(&object);
    let grace = strategy::grace_seconds(resource, &object, options.grace_period_seconds);
    let before = object.clone();
    let policy = options.propagation_policy.or_else(|| default_policy(resource, &object));
    set_propagation(&mut object, policy)?;
    if !was_terminating {
        strategy::prepare_delete(resource, &mut object, now);
    }
    let held =
        !metadata::finalizers(&object).is_empty() || !strategy::spec_finalizers(resource, &object).is_empty();
    if !held && grace == 0 {
        return Ok(Step::Remove);
    }
    let fields = metadata::metadata(&mut object);
    let granted = fields.get("deletionGracePeriodSeconds").and_then(Value::as_i64);
    // A second deletion may only shorten the grace period.
    if !was_terminating || granted.is_some_and(|granted| grace < granted) {
        let at = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now);
        fields.insert("deletionTimestamp".into(), super::timestamp(at).into());
        fields.insert("deletionGracePeriodSeconds".into(), grace.into());
        if strategy::counts_generations(resource) {
            let generation = metadata::generation(&object) + 1;
            metadata::set_generation(&mut object, generation);
        }
        strategy::mark_terminating(resource, &mut object);
    }
    Ok(if object == before { Step::Nothing } else { Step::Mark(object) })
}

/// Tells a client once, however many objects it deletes.
fn warn_of_orphans(resource: &Resource, context: &mut Context) {
    if let Some(warning) = strategy::orphan_warning(resource)
        && !context.warnings.iter().any(|told| told == warning)
    {
        context.warnings.push(warning.to_owned());
    }
}

/// What becomes of what an object owns when its deletion does not say: what a finalizer of its says already, or what
/// is usual for its resource.
fn default_policy(resource: &Resource, object: &Value) -> Option<&'static str> {
    let decided = metadata::is_terminating(object)
        || metadata::finalizers(object).iter().any(|finalizer| [ORPHAN, FOREGROUND].contains(finalizer));
    (strategy::orphans_by_default(resource) && !decided).then_some("Orphan")
}

/// Puts the garbage collector's finalizers as the propagation policy asks.
fn set_propagation(object: &mut Value, policy: Option<&str>) -> Result<(), Status> {
    let wanted = match policy {
        None => return Ok(()),
        Some("Background") => None,
        Some("Orphan") => Some(ORPHAN),
        Some("Foreground") => Some(FOREGROUND),
        Some(other) => {
            return Err(Status::bad_request(format!(
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"{other}\": \
                 supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            )));
        }
    };
    let mut finalizers: Vec<Value> = metadata::finalizers(object)
        .into_iter()
        .filter(|finalizer| *finalizer != ORPHAN && *finalizer != FOREGROUND)
        .map(Value::from)
        .collect();
    finalizers.extend(wanted.map(Value::from));
    let fields = metadata::metadata(object);
    if finalizers.is_empty() {
        fields.remove("finalizers");
    } else {
        fields.insert("finalizers".into(), json!(finalizers));
    }
    Ok(())
}
