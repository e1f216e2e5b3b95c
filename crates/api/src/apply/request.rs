//! The two doors: an update that is tracked, and a configuration that is applied.

use serde_json::{Map, Value, json};

use super::compare::compare;
use super::extract::field_set;
use super::managed::{Managed, ManagedError, Manager, Operation, is_reset};
use super::path::Element;
use super::set::FieldSet;
use super::typed::{ItemError, Typed};
use super::update::{Conflict, Step, UpdateError, Versions};
use super::validate::{Duplicates, Mismatch, validate};
use crate::status::{Cause, Status, StatusDetails};

/// The manager of what was there before an object was first applied to.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager whose client keeps the configuration that it applied in an annotation.
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The most bytes of all annotations together, as Kubernetes validates them.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Who writes what at which place.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub versions: &'a dyn Versions,
    /// Of the request, as `apps/v1`.
    pub api_version: &'a str,
    pub kind: &'a str,
    pub manager: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// RFC 3339.
    pub now: &'a str,
}

/// Why a configuration was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("failed to decode managed fields: {0}")]
    Managed(#[from] ManagedError),
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    #[error("invalid object type: {0}")]
    Kind(String),
    #[error("failed to create typed patch object ({object}): {mismatch}")]
    Config { object: String, mismatch: Mismatch },
    #[error("failed to merge config: {0}")]
    Item(#[from] ItemError),
    #[error("{0} is not served")]
    Version(String),
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
}

impl From<UpdateError> for ApplyError {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Item(error) => ApplyError::Item(error),
            UpdateError::Version(version) => ApplyError::Version(version),
            UpdateError::Conflicts(conflicts) => ApplyError::Conflicts(conflicts),
        }
    }
}

impl ApplyError {
    /// What the client is told.
    pub fn status(&self) -> Status {
        match self {
            ApplyError::ManagedFields | ApplyError::Kind(_) => Status::bad_request(self.to_string()),
            ApplyError::Conflicts(conflicts) => {
                let mut status = Status::failure(409, "Conflict", self.to_string());
                let causes = conflicts.iter().map(|conflict| Cause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {}", conflict.manager),
                    field: path_text(&conflict.path),
                });
                status.details = Some(StatusDetails { causes: causes.collect(), ..StatusDetails::default() });
                status
            }
            ApplyError::Managed(_)
            | ApplyError::Config { .. }
            | ApplyError::Item(_)
            | ApplyError::Version(_) => Status::failure(500, "", self.to_string()),
        }
    }
}

fn path_text(path: &[Element]) -> String {
    path.iter().map(Element::to_string).collect()
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.manager,
            path_text(&one.path)
        );
    }
    let mut lines = Vec::new();
    let mut last = None;
    // They come in the order of managers.
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", path_text(&conflict.path)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

impl<'a> Request<'a> {
    /// Works out who owns what after an update, and writes it into the new state. `old` is None for
    /// a creation. What cannot be worked out leaves the object without owners.
    pub fn update(&self, old: Option<&Value>, new: &mut Value) {
        let sent = take_managed(new);
        let live = || {
            let entries = old.and_then(|old| old.pointer("/metadata/managedFields"));
            Managed::from_json(entries).unwrap_or_default()
        };
        let managed = if !self.subresource.is_empty() {
            live()
        } else if is_reset(sent.as_ref()) {
            Managed::default()
        } else {
            // Clients that do not know the field must not drop it by accident.
            Managed::from_json(sent.as_ref()).ok().filter(|sent| !sent.is_empty()).unwrap_or_else(live)
        };
        // Who owned nothing yet is not tracked before the first apply.
        let exists = old.is_some_and(|old| old.pointer("/metadata/uid").is_some());
        if managed.is_empty() && exists {
            return;
        }
        let skeleton;
        let old = match old {
            Some(old) => old,
            None => {
                skeleton = self.skeleton();
                &skeleton
            }
        };
        if let Ok(managed) = self.track(old, new, managed, self.manager) {
            put_managed(new, &managed);
        }
    }

    fn track(
        &self,
        old: &Value,
        new: &Value,
        mut managed: Managed,
        manager: &str,
    ) -> Result<Managed, UpdateError> {
        let manager = Manager::new(manager, Operation::Update, self.api_version, self.subresource);
        let took = self.step().update(old, new, &mut managed, &manager)?;
        if let Some(owned) = managed.entries.get_mut(&manager).filter(|_| took) {
            owned.time = Some(self.now.to_owned());
        }
        managed.cap();
        Ok(managed)
    }

    /// What an applied configuration makes of the live object, with its new owners. `live` is None
    /// for an object that does not exist yet.
    pub fn apply(&self, live: Option<&Value>, config: &Value, force: bool) -> Result<Value, ApplyError> {
        let typed = self.check(config)?;
        let mut live = live.cloned();
        let entries = live.as_mut().and_then(take_managed);
        let mut managed = Managed::from_json(entries.as_ref())?;
        let live = match live {
            Some(live) => {
                if managed.is_empty() {
                    managed = self.track(&self.skeleton(), &live, managed, BEFORE_FIRST_APPLY)?;
                }
                live
            }
            None => Value::Object(Map::new()),
        };
        let manager = Manager::new(self.manager, Operation::Apply, self.api_version, self.subresource);
        let mut after = managed.clone();
        let object = match self.step().apply(&live, config, &mut after, &manager, force) {
            Err(UpdateError::Conflicts(conflicts)) if self.manager == KUBECTL => {
                let allowed = self.allowed_by_last_applied(typed, &live);
                let left: Vec<Conflict> =
                    conflicts.into_iter().filter(|conflict| !allowed.has(&conflict.path)).collect();
                if !left.is_empty() {
                    return Err(ApplyError::Conflicts(left));
                }
                after = managed;
                self.step().apply(&live, config, &mut after, &manager, true)?
            }
            result => result?,
        };
        if let Some(owned) = after.entries.get_mut(&manager) {
            owned.time = Some(self.now.to_owned());
        }
        let mut object = object;
        if self.manager == KUBECTL {
            follow_last_applied(&mut object, config);
        }
        put_managed(&mut object, &after);
        Ok(object)
    }

    /// A configuration is of the right kind and fits its type.
    fn check(&self, config: &Value) -> Result<Typed<'a>, ApplyError> {
        let text = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if version != self.api_version || kind != self.kind {
            return Err(ApplyError::Kind(kind_text(version, kind)));
        }
        if config.pointer("/metadata/managedFields").is_some_and(|entries| !entries.is_null()) {
            return Err(ApplyError::ManagedFields);
        }
        let typed = self
            .versions
            .typed(self.api_version)
            .ok_or_else(|| ApplyError::Version(self.api_version.to_owned()))?;
        validate(typed, config, Duplicates::Refused).map_err(|mismatch| {
            let metadata = |name: &str| {
                config.pointer(&format!("/metadata/{name}")).and_then(Value::as_str).unwrap_or_default()
            };
            let object =
                format!("{}/{}; {}", metadata("namespace"), metadata("name"), kind_text(version, kind));
            ApplyError::Config { object, mismatch }
        })?;
        Ok(typed)
    }

    /// The fields that client-side apply set and nobody changed since: they may be taken over.
    fn allowed_by_last_applied(&self, typed: Typed<'_>, live: &Value) -> FieldSet {
        let last = live
            .pointer("/metadata/annotations")
            .and_then(|annotations| annotations.get(LAST_APPLIED))
            .and_then(Value::as_str)
            .and_then(|text| serde_json::from_str::<Value>(text).ok())
            .filter(|last| last.get("apiVersion").and_then(Value::as_str) == Some(self.api_version))
            .filter(|last| validate(typed, last, Duplicates::Allowed).is_ok());
        let Some(last) = last else { return FieldSet::default() };
        let (Ok(fields), Ok(since)) = (field_set(typed, &last), compare(typed, &last, live)) else {
            return FieldSet::default();
        };
        fields.difference(&since.modified).difference(&since.added).difference(&since.removed)
    }

    fn step(&self) -> Step<'a> {
        Step { versions: self.versions, api_version: self.api_version }
    }

    /// An object of the kind with nothing in it: what a new one is compared with.
    fn skeleton(&self) -> Value {
        let mut empty = self.versions.typed(self.api_version).map_or_else(|| json!({}), Typed::skeleton);
        empty["apiVersion"] = self.api_version.into();
        empty["kind"] = self.kind.into();
        empty
    }
}

/// Group, version and kind as Go prints them.
fn kind_text(api_version: &str, kind: &str) -> String {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    format!("{group}/{version}, Kind={kind}")
}

fn take_managed(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

fn put_managed(object: &mut Value, managed: &Managed) {
    let Some(entries) = managed.to_json() else { return };
    if let Some(object) = object.as_object_mut() {
        let metadata = object.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("managedFields".into(), entries);
        }
    }
}

/// Keeps the annotation of client-side apply true where an object has one, so that a client may go
/// back to it.
fn follow_last_applied(object: &mut Value, config: &Value) {
    let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let Some(annotations) = annotations.filter(|annotations| annotations.contains_key(LAST_APPLIED)) else {
        return;
    };
    let mut config = config.clone();
    take_managed(&mut config);
    if let Some(own) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        own.remove(LAST_APPLIED);
    }
    let text = format!("{config}\n");
    let others: usize = annotations
        .iter()
        .filter(|(key, _)| key.as_str() != LAST_APPLIED)
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if others + LAST_APPLIED.len() + text.len() > MAX_ANNOTATIONS {
        annotations.remove(LAST_APPLIED);
    } else {
        annotations.insert(LAST_APPLIED.into(), text.into());
    }
}
