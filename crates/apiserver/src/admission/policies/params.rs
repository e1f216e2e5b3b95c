//! The parameters of a binding.

use sampan_api::object::ObjectRef;
use sampan_api::selector::Selector;
use serde::Deserialize;
use serde_json::Value;

use crate::admission::Attributes;
use crate::admission::namespace_lifecycle::NAMESPACES;

/// The kind of a policy's parameters.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParamKind {
    #[serde(default)]
    pub api_version: String,
    #[serde(default)]
    pub kind: String,
}

/// Where a binding finds its parameters.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParamRef {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub namespace: String,
    pub selector: Option<Value>,
    pub parameter_not_found_action: Option<String>,
}

/// The objects that a policy is evaluated with, once with each: one `None` where it uses none.
pub async fn of(
    attributes: &Attributes<'_>,
    kind: Option<&ParamKind>,
    reference: Option<&ParamRef>,
) -> Result<Vec<Option<Value>>, String> {
    let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![None]) };
    let registry = attributes.registry;
    let table = registry.table();
    let unknown = || format!("paramKind kind `{}, Kind={}` not known", kind.api_version, kind.kind);
    let def = table.by_kind(&kind.api_version, &kind.kind).ok_or_else(unknown)?;
    let resource = registry.resource(&def.gvr).map_err(|_| unknown())?;
    let namespace = match (def.namespaced, reference.namespace.as_str()) {
        (false, "") => None,
        (false, _) => {
            return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into());
        }
        (true, "") => {
            let own = attributes.namespace.filter(|_| *attributes.resource.gvr() != NAMESPACES);
            Some(own.ok_or(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources",
            )?)
        }
        (true, namespace) => Some(namespace),
    };
    let found: Vec<ObjectRef> = if !reference.name.is_empty() {
        resource.cache.get(&resource.key(namespace, &reference.name)).into_iter().collect()
    } else {
        let selector = match &reference.selector {
            Some(selector) => Selector::from_json(selector).map_err(|error| error.to_string())?,
            None => return Err("one of name or selector must be provided".into()),
        };
        let (all, _) = resource.cache.snapshot();
        let selected = all
            .values()
            .filter(|object| namespace.is_none_or(|namespace| &*object.header.namespace == namespace))
            .filter(|object| selector.matches(|key| object.header.label(key)));
        selected.cloned().collect()
    };
    if found.is_empty() && reference.parameter_not_found_action.as_deref() != Some("Allow") {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    let mut params = Vec::with_capacity(found.len());
    for object in found {
        let object = registry.in_version(&resource, object).await.map_err(|error| error.to_string())?;
        params.push(Some(object.decode::<Value>().map_err(|error| error.to_string())?));
    }
    Ok(params)
}
