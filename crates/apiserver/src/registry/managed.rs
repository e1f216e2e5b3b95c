//! Managed fields and server-side apply: where [`sampan_api::apply`] meets what is stored.
//!
//! Every create, update and patch is tracked under its field manager: the request's `fieldManager`,
//! else the first part of its user agent; components of this process have the names of their
//! counterparts in Kubernetes. As there, bindings and deletions are tracked for nobody. Unlike there,
//! what this process' own components create, and the status that they report, is not tracked either:
//! a running pod's owners take 2.5 KB beside 2 KB of pod, and nobody applies to what a controller made.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use sampan_api::apply::{FieldSet, Request, Typed, Versions, fields, same_but_times};
use sampan_api::object::ObjectRef;
use sampan_api::schema::{FieldValidation, Node};
use sampan_api::table::ResourceDef;
use sampan_api::{Gvr, Status};
use serde_json::{Map, Value};

use super::read_body::{check_object, decode_applied};
use super::write::{Part, Place};
use super::{Body, Context, Registry, Resource, metadata};
use crate::conversion;

/// The most bytes of a manager's name, as in Kubernetes.
pub const MAX_MANAGER: usize = 128;
/// Attempts of an apply whose object appears or goes away meanwhile.
const ATTEMPTS: usize = 4;

/// The manager that a request's user agent names: what precedes its first slash.
pub fn manager_of_agent(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    let mut manager = String::new();
    for c in name.chars().filter(|c| !c.is_control()) {
        if manager.len() + c.len_utf8() > MAX_MANAGER {
            break;
        }
        manager.push(c);
    }
    manager
}

/// The manager of a component of this process, by its user name.
pub(super) fn manager_of_user(user: &str) -> String {
    match user.strip_prefix("system:") {
        Some(node) if node.starts_with("node:") => "kubelet".to_owned(),
        Some("apiserver") => "kube-apiserver".to_owned(),
        Some(account) if account.starts_with("serviceaccount:kube-system:") => {
            "kube-controller-manager".to_owned()
        }
        Some(component) => manager_of_agent(component),
        None => manager_of_agent(user),
    }
}

/// The versions of a resource, and what a write to one part of it ignores.
struct Served<'a> {
    registry: &'a Registry,
    resource: &'a Resource,
    part: Part<'a>,
    /// The resource at its other versions, looked up when a manager wrote at one.
    others: OnceLock<Vec<Arc<ResourceDef>>>,
}

impl<'a> Served<'a> {
    fn new(registry: &'a Registry, resource: &'a Resource, part: Part<'a>) -> Self {
        Served { registry, resource, part, others: OnceLock::new() }
    }

    fn def(&self, api_version: &str) -> Option<&ResourceDef> {
        let own = self.resource.def.as_ref();
        if own.gvr.api_version() == api_version {
            return Some(own);
        }
        let others = self.others.get_or_init(|| {
            let table = self.registry.table();
            let prefix = own.storage.as_ref().map(|storage| &storage.prefix);
            let same = |def: &&Arc<ResourceDef>| {
                def.gvr != own.gvr && def.storage.as_ref().map(|storage| &storage.prefix) == prefix
            };
            table.entries().iter().filter(same).cloned().collect()
        });
        others.iter().map(Arc::as_ref).find(|def| def.gvr.api_version() == api_version)
    }
}

impl Versions for Served<'_> {
    fn typed(&self, api_version: &str) -> Option<Typed<'_>> {
        let (schema, id) = self.def(api_version)?.schema()?;
        Some(Typed::new(schema, id))
    }

    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Option<Cow<'v, Value>> {
        let (from, to) = (self.def(from)?, self.def(to)?);
        if from.gvr == to.gvr {
            return Some(Cow::Borrowed(object));
        }
        let stored = from.storage.as_ref().map_or(&from.gvr, |storage| &storage.stored_as);
        let object = conversion::convert(&from.gvr, stored, object.clone());
        Some(Cow::Owned(conversion::convert(stored, &to.gvr, object)))
    }

    fn ignored(&self, api_version: &str) -> FieldSet {
        let Some(def) = self.def(api_version) else { return FieldSet::default() };
        match self.part {
            Part::Main if def.subresource("status").is_some() => fields(["status"]),
            Part::Subresource(name) => ignored_by(def, name).unwrap_or_default(),
            Part::Main => FieldSet::default(),
            Part::Status => {
                let Some((schema, id)) = def.schema() else { return FieldSet::default() };
                let others = schema.fields(id).iter().map(|field| field.name.as_ref());
                let others = others.filter(|name| !matches!(*name, "metadata" | "status"));
                fields(others.chain(["metadata.labels", "metadata.ownerReferences", "metadata.finalizers"]))
            }
        }
    }
}

/// What a write of a pod by a subresource cannot change, for those that write a part of its spec.
fn ignored_by(def: &ResourceDef, subresource: &str) -> Option<FieldSet> {
    let written: &[&str] = match (def.kind.as_ref(), subresource) {
        ("Pod", "ephemeralcontainers") => &["ephemeralContainers"],
        ("Pod", "resize") => &["containers", "initContainers"],
        _ => return None,
    };
    let (schema, id) = def.schema()?;
    let spec = match schema.resolve(schema.field(id, "spec")?.node) {
        Node::Type(spec) => spec,
        _ => return None,
    };
    let names = |id| schema.fields(id).iter().map(|field| field.name.as_ref());
    let others = names(id).filter(|name| !matches!(*name, "metadata" | "spec")).map(str::to_owned);
    let spec = names(spec).filter(|name| !written.contains(name)).map(|name| format!("spec.{name}"));
    let metadata = ["labels", "annotations", "finalizers", "ownerReferences"];
    let metadata = metadata.into_iter().map(|name| format!("metadata.{name}"));
    let all: Vec<String> = others.chain(spec).chain(metadata).collect();
    Some(fields(all.iter().map(String::as_str)))
}

impl Registry {
    /// Writes down who owns what after a write; `old` is None for a creation.
    pub(super) fn track(
        &self,
        resource: &Resource,
        part: Part<'_>,
        old: Option<&Value>,
        new: &mut Value,
        context: &Context,
    ) {
        if context.options.owners_settled {
            return;
        }
        if is_untracked(part, old, context) {
            keep_owners(old, new);
            return;
        }
        let now = super::timestamp(Timestamp::now());
        let served = Served::new(self, resource, part);
        let api_version = resource.def.gvr.api_version();
        request(&served, &api_version, context, &now).update(old, new);
    }

    /// Server-side apply: creates the object, or merges the configuration into it.
    pub(super) async fn server_side_apply(
        &self,
        resource: &Resource,
        place: Place<'_>,
        body: &Body,
        context: &mut Context,
    ) -> Result<ObjectRef, Status> {
        let (value, repeated) = decode_applied(body)?;
        if !repeated.is_empty() {
            let lines = repeated.join("\n  ");
            let fault = format!("error converting YAML to JSON: yaml: unmarshal errors:\n  {lines}");
            match context.options.field_validation {
                FieldValidation::Strict => {
                    return Err(Status::bad_request(format!("error strict decoding YAML: {fault}")));
                }
                FieldValidation::Warn => context.warnings.push(fault),
                FieldValidation::Ignore => {}
            }
        }
        self.apply_value(resource, place, &value, context).await
    }

    /// Applies a configuration that is already decoded.
    pub(super) async fn apply_value(
        &self,
        resource: &Resource,
        place: Place<'_>,
        config: &Value,
        context: &mut Context,
    ) -> Result<ObjectRef, Status> {
        let key = resource.key(place.namespace, place.name);
        context.options.owners_settled = true;
        // The configuration was held against its type; what is merged is pruned in silence.
        context.options.field_validation = FieldValidation::Ignore;
        for _ in 0..ATTEMPTS {
            if resource.cache.get(&key).is_some() {
                let mut change = |old: &Value, context: &mut Context| {
                    self.merged(resource, place, Some(old), config, context)
                };
                match self.change(resource, place, context, &mut change).await {
                    Err(status) if status.is_not_found() && place.part == Part::Main => {}
                    result => return result,
                }
            }
            if place.part != Part::Main {
                return Err(resource.not_found(place.name));
            }
            let object = self.merged(resource, place, None, config, context)?;
            refuse_other(&resource.def.gvr, place.name, &object)?;
            match self.create_value(resource, place.namespace, object, context).await {
                Err(status) if status.is_already_exists() && resource.cache.get(&key).is_some() => {}
                result => return result,
            }
        }
        Err(Status::modified(&resource.def.gvr, place.name))
    }

    fn merged(
        &self,
        resource: &Resource,
        place: Place<'_>,
        old: Option<&Value>,
        config: &Value,
        context: &mut Context,
    ) -> Result<Value, Status> {
        let now = super::timestamp(Timestamp::now());
        let served = Served::new(self, resource, place.part);
        let api_version = resource.def.gvr.api_version();
        let request = Request { kind: &resource.def.kind, ..request(&served, &api_version, context, &now) };
        // The live object lends no revision: only one that the configuration names is held against it.
        let live = old.cloned().map(conversion::without_revision);
        let force = context.options.force;
        let object = request.apply(live.as_ref(), config, force).map_err(|error| error.status())?;
        check_object(resource, object, context)
    }
}

/// What is written for nobody: bindings, as upstream; and what this process' own components create
/// or report as a status, which is most of what there is in a cluster. An object without owners is
/// tracked from its first apply on, whose manager then finds all before it under one name.
fn is_untracked(part: Part<'_>, old: Option<&Value>, context: &Context) -> bool {
    part == Part::Subresource("binding") || context.in_process && (old.is_none() || part == Part::Status)
}

/// A write that is not tracked leaves the owners as they are.
fn keep_owners(old: Option<&Value>, new: &mut Value) {
    let entries = old.and_then(|old| old.pointer("/metadata/managedFields"));
    match entries {
        Some(entries) => metadata::metadata(new).insert("managedFields".into(), entries.clone()),
        None => metadata::metadata(new).remove("managedFields"),
    };
}

fn request<'a>(
    served: &'a Served<'a>,
    api_version: &'a str,
    context: &'a Context,
    now: &'a str,
) -> Request<'a> {
    Request {
        versions: served,
        api_version,
        kind: &served.resource.def.kind,
        manager: context.manager(),
        subresource: served.part.subresource(),
        now,
    }
}

/// What an apply creates must not claim to be something that existed.
fn refuse_other(gvr: &Gvr, name: &str, object: &Value) -> Result<(), Status> {
    match metadata::text(object, "name") {
        "" => {
            return Err(Status::bad_request(format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )));
        }
        same if same == name => {}
        other => {
            return Err(Status::bad_request(format!(
                "the name of the object ({other}) does not match the name on the URL ({name})"
            )));
        }
    }
    let uid = metadata::text(object, "uid");
    if !uid.is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(Status::conflict(gvr, name, why));
    }
    Ok(())
}

/// A write that changes nothing but the times of its managers changes nothing.
pub(super) fn keep_times(new: &mut Value, old: &Value) {
    let entries = |object: &Value| object.pointer("/metadata/managedFields").cloned();
    let (Some(before), Some(after)) = (entries(old), entries(new)) else { return };
    if before == after || !same_but_times(&before, &after) || !same_but_owners(new, old) {
        return;
    }
    metadata::metadata(new).insert("managedFields".into(), before);
}

fn same_but_owners(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return false };
    let others = |fields: &Map<String, Value>| fields.keys().filter(|name| *name != "metadata").count();
    let same = |name: &String| matches!((new.get(name), old.get(name)), (Some(new), Some(old)) if new == old);
    let metadata = |object: &Map<String, Value>| {
        let mut metadata = object.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
        metadata.remove("managedFields");
        metadata.remove("resourceVersion");
        metadata
    };
    others(new) == others(old)
        && new.keys().filter(|name| *name != "metadata").all(same)
        && metadata(new) == metadata(old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn managers_are_named_by_agent_or_component() {
        let agent = |agent: &str, manager: &str| assert_eq!(manager_of_agent(agent), manager, "{agent}");
        agent("kubectl/v1.32.0 (linux/amd64) kubernetes/abc", "kubectl");
        agent("Mozilla", "Mozilla");
        agent("", "");
        agent("tab\there/1", "tabhere");
        agent(&"ä".repeat(100), &"ä".repeat(64));
        let user = |user: &str, manager: &str| assert_eq!(manager_of_user(user), manager, "{user}");
        user("system:node:n1", "kubelet");
        user("system:kube-controller-manager", "kube-controller-manager");
        user("system:serviceaccount:kube-system:job-controller", "kube-controller-manager");
        user("system:apiserver", "kube-apiserver");
        user("jane", "jane");
    }

    #[test]
    fn a_subresource_writes_its_part_only() {
        let table = sampan_api::table::Table::builtin();
        let pods = table.get("", "v1", "pods").expect("pods are served");
        let ignored = ignored_by(pods, "ephemeralcontainers").expect("it writes a part").to_json();
        assert!(ignored["f:spec"].get("f:containers").is_some(), "{ignored}");
        assert!(ignored["f:spec"].get("f:ephemeralContainers").is_none(), "{ignored}");
        assert!(ignored.get("f:status").is_some() && ignored.get("f:metadata").is_some(), "{ignored}");
        assert!(ignored_by(pods, "binding").is_none());
    }

    #[test]
    fn times_alone_are_no_change() {
        let object = |time: &str, owner: &str, data: &str| json!({"metadata": {"name": "c", "managedFields": [{"manager": owner, "time": time}]}, "data": data});
        let check = |new: Value, kept: &str| {
            let mut old = object("1", "a", "x");
            old["metadata"]["resourceVersion"] = "7".into();
            let mut new = new;
            keep_times(&mut new, &old);
            assert_eq!(new["metadata"]["managedFields"][0]["time"], kept, "{new}");
        };
        check(object("2", "a", "x"), "1");
        check(object("2", "b", "x"), "2");
        check(object("2", "a", "y"), "2");
    }

    #[test]
    fn what_is_untracked_keeps_its_owners() {
        let user = crate::identity::User::component("system:node:n1", &[]);
        let inside = Context::new(user.clone());
        let outside = Context::of_agent(user, "kubectl/v1");
        let old = json!({"metadata": {"managedFields": [{"manager": "a"}]}});
        assert!(is_untracked(Part::Main, None, &inside));
        assert!(is_untracked(Part::Status, Some(&old), &inside));
        assert!(!is_untracked(Part::Main, Some(&old), &inside));
        assert!(!is_untracked(Part::Main, None, &outside));
        assert!(!is_untracked(Part::Status, Some(&old), &outside));
        assert!(is_untracked(Part::Subresource("binding"), Some(&old), &outside));
        let mut new = json!({"metadata": {"managedFields": []}});
        keep_owners(Some(&old), &mut new);
        assert_eq!(new, old);
        keep_owners(None, &mut new);
        assert_eq!(new, json!({"metadata": {}}));
    }

    #[test]
    fn an_apply_creates_only_what_it_names() {
        let gvr = Gvr::new("", "v1", "configmaps");
        let check = |object: Value, code: u16| {
            let refused = refuse_other(&gvr, "c", &object).expect_err("refused");
            assert_eq!(refused.code, code, "{object}");
        };
        check(json!({"metadata": {}}), 400);
        check(json!({"metadata": {"name": "d"}}), 400);
        check(json!({"metadata": {"name": "c", "uid": "u"}}), 409);
        assert!(refuse_other(&gvr, "c", &json!({"metadata": {"name": "c"}})).is_ok());
    }
}
