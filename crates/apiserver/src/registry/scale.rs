//! The scale subresource: `autoscaling/v1` Scale over a resource's own fields.

use sampan_api::Status;
use sampan_api::selector::Selector;
use sampan_api::status::Cause;
use sampan_api::table::SubresourceRole;
use sampan_client::PatchKind;
use serde_json::{Value, json};

use super::read_body::{decode_applied, decode_value};
use super::write::{Part, Place};
use super::{Body, Context, Registry, Resource, metadata};

impl Registry {
    /// Reads the scale of an object.
    pub async fn scale(
        &self,
        resource: &Resource,
        role: &SubresourceRole,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, Status> {
        let stored =
            resource.cache.get(&resource.key(namespace, name)).ok_or_else(|| resource.not_found(name))?;
        scale_of(role, &self.value_in_version(resource, &stored).await?)
    }

    /// Replaces or patches the scale of an object.
    #[allow(clippy::too_many_arguments)]
    pub async fn write_scale(
        &self,
        resource: &Resource,
        role: &SubresourceRole,
        namespace: Option<&str>,
        name: &str,
        patch: Option<PatchKind>,
        body: &Body,
        context: &mut Context,
    ) -> Result<Value, Status> {
        let SubresourceRole::Scale { spec_replicas, .. } = role else {
            return Err(Status::method_not_allowed(&resource.def.gvr, "update"));
        };
        if patch == Some(PatchKind::Apply) {
            return self.apply_scale(resource, role, namespace, name, body, context).await;
        }
        let replacement = if patch.is_none() { decode_value(body)?.value } else { Value::Null };
        let mut change = |object: &Value, _: &mut Context| {
            let scale = scale_of(role, object)?;
            let wanted = match patch {
                None => Ok(replacement.clone()),
                Some(PatchKind::Json) => sampan_api::patch::json(scale, &body.bytes),
                Some(_) => sampan_api::patch::merge(scale, &body.bytes),
            };
            let wanted = wanted.map_err(|error| error.status())?;
            let replicas = replicas_of(&wanted, name)?.unwrap_or(0);
            let mut object = object.clone();
            let revision = metadata::text(&wanted, "resourceVersion").to_owned();
            if revision.is_empty() {
                super::metadata_of(&mut object).remove("resourceVersion");
            } else {
                super::metadata_of(&mut object).insert("resourceVersion".into(), revision.into());
            }
            set_path(&mut object, spec_replicas, replicas.into());
            Ok(object)
        };
        let place = Place { namespace, name, part: Part::Subresource("scale") };
        let written = self.change(resource, place, context, &mut change).await?;
        scale_of(role, &written.decode().map_err(Status::internal)?)
    }

    /// Server-side apply of a scale: one of the object's own replicas, so that whoever owns those
    /// is asked, and the applier owns the field of the object.
    async fn apply_scale(
        &self,
        resource: &Resource,
        role: &SubresourceRole,
        namespace: Option<&str>,
        name: &str,
        body: &Body,
        context: &mut Context,
    ) -> Result<Value, Status> {
        let SubresourceRole::Scale { spec_replicas, .. } = role else {
            return Err(Status::method_not_allowed(&resource.def.gvr, "update"));
        };
        let (scale, _) = decode_applied(body)?;
        let text = |field: &str| scale.get(field).and_then(Value::as_str).unwrap_or_default();
        if (text("apiVersion"), text("kind")) != ("autoscaling/v1", "Scale") {
            let (version, kind) = (text("apiVersion"), text("kind"));
            return Err(Status::bad_request(format!("invalid object type: {version}, Kind={kind}")));
        }
        let def = &resource.def;
        let mut config =
            json!({"apiVersion": def.gvr.api_version(), "kind": def.kind, "metadata": {"name": name}});
        for field in ["resourceVersion", "uid"] {
            if let Some(value) = scale.pointer(&format!("/metadata/{field}")) {
                config["metadata"][field] = value.clone();
            }
        }
        if let Some(replicas) = replicas_of(&scale, name)? {
            set_path(&mut config, spec_replicas, replicas.into());
        }
        let place = Place { namespace, name, part: Part::Subresource("scale") };
        let written = self.apply_value(resource, place, &config, context).await?;
        scale_of(role, &written.decode().map_err(Status::internal)?)
    }
}

/// What admission is shown of a write to a scale: the scale, not the object that it is a part of.
pub(super) struct Scaled<'r> {
    role: &'r SubresourceRole,
    pub new: Value,
}

impl<'r> Scaled<'r> {
    /// With the old scale; none for writes to other parts.
    pub fn of_update(
        resource: &'r Resource,
        part: Part<'_>,
        new: &Value,
        old: &Value,
    ) -> Result<Option<(Self, Value)>, Status> {
        let Some(subresource) = resource.def.subresource(part.subresource()) else { return Ok(None) };
        let role = &subresource.role;
        if !matches!(role, SubresourceRole::Scale { .. }) {
            return Ok(None);
        }
        Ok(Some((Scaled { role, new: scale_of(role, new)? }, scale_of(role, old)?)))
    }

    /// Gives the object the replicas that admission left in the scale.
    pub fn put_into(&self, object: &mut Value) -> Result<(), Status> {
        let SubresourceRole::Scale { spec_replicas, .. } = self.role else { return Ok(()) };
        let name = metadata::text(object, "name").to_owned();
        let replicas = replicas_of(&self.new, &name)?.unwrap_or(0);
        set_path(object, spec_replicas, replicas.into());
        Ok(())
    }
}

/// The replicas that a scale asks for, which must be a count.
fn replicas_of(scale: &Value, name: &str) -> Result<Option<i64>, Status> {
    let replicas = match scale.pointer("/spec/replicas") {
        None | Some(Value::Null) => return Ok(None),
        Some(replicas) => replicas,
    };
    match replicas.as_i64() {
        Some(count) if (0..=i64::from(i32::MAX)).contains(&count) => Ok(Some(count)),
        _ => {
            let cause = Cause {
                reason: "FieldValueInvalid".into(),
                message: format!("Invalid value: {replicas}: must be greater than or equal to 0"),
                field: "spec.replicas".into(),
            };
            Err(Status::invalid("autoscaling", "Scale", name, vec![cause]))
        }
    }
}

/// `autoscaling/v1` Scale of an object.
fn scale_of(role: &SubresourceRole, object: &Value) -> Result<Value, Status> {
    let SubresourceRole::Scale { spec_replicas, status_replicas, selector } = role else {
        return Err(Status::internal("not a scale subresource"));
    };
    let read = |path: &str| object.pointer(&pointer(path)).and_then(Value::as_i64).unwrap_or(0);
    let selector = match selector.as_deref().and_then(|path| object.pointer(&pointer(path))) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(map) if map.get("matchLabels").is_some() || map.get("matchExpressions").is_some() => {
            Selector::from_json(map).map_err(Status::internal)?.to_string()
        }
        Some(map) => Selector::from_map(map).map_err(Status::internal)?.to_string(),
    };
    let kept = |field: &str| object.pointer(&format!("/metadata/{field}")).cloned().unwrap_or(Value::Null);
    let mut status = json!({"replicas": read(status_replicas)});
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    Ok(json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {"name": kept("name"), "namespace": kept("namespace"), "uid": kept("uid"),
            "resourceVersion": kept("resourceVersion"), "creationTimestamp": kept("creationTimestamp")},
        "spec": {"replicas": read(spec_replicas)},
        "status": status,
    }))
}

fn pointer(path: &str) -> String {
    format!("/{}", path.replace('.', "/"))
}

fn set_path(object: &mut Value, path: &str, value: Value) {
    let mut at = object;
    for step in path.split('.') {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[step];
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_reads_paths_and_selector() {
        let role = SubresourceRole::Scale {
            spec_replicas: "spec.replicas".into(),
            status_replicas: "status.replicas".into(),
            selector: Some("spec.selector".into()),
        };
        let object = json!({"metadata": {"name": "a"}, "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}}});
        let scale = scale_of(&role, &object).expect("a scale");
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"], json!({"replicas": 0, "selector": "a=b"}));
    }
}
