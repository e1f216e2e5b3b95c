//! Objects in the version that a webhook or policy matches, and back.

use std::sync::Arc;

use sampan_api::apply::Typed;
use sampan_api::schema::{self, FieldValidation};
use sampan_api::table::ResourceDef;
use sampan_api::{Status, defaults};
use serde_json::Value;

use super::Attributes;
use crate::conversion;
use crate::registry::{self, Context};

/// An object of a request in the version of `def`; bodies of subresources have one version only.
pub fn to_version(attributes: &Attributes<'_>, def: &ResourceDef, object: &Value) -> Value {
    let own = &attributes.resource.def;
    if object["kind"] != own.kind.as_ref() {
        return object.clone();
    }
    conversion::convert(&own.gvr, &def.gvr, object.clone())
}

/// The way back from [`to_version`].
pub fn from_version(attributes: &Attributes<'_>, def: &ResourceDef, object: Value) -> Value {
    let own = &attributes.resource.def;
    if object["kind"] != own.kind.as_ref() {
        return object;
    }
    conversion::convert(&def.gvr, &own.gvr, object)
}

/// The type of the objects of a request in the version of `def`; none for what only travels in a query.
pub fn typed<'d>(attributes: &Attributes<'_>, def: &'d ResourceDef) -> Option<Typed<'d>> {
    let (schema, id) = match def.subresource(attributes.subresource) {
        Some(one) if one.kind != def.kind => (schema::builtin(), schema::builtin().lookup(one.schema?)?),
        _ => def.schema()?,
    };
    Some(Typed::new(schema, id))
}

/// What was made outside, held against its schema and with its defaults.
pub fn complete(
    attributes: &Attributes<'_>,
    def: &Arc<ResourceDef>,
    object: Value,
    validation: FieldValidation,
) -> Result<Value, Status> {
    if object["kind"] != def.kind.as_ref() {
        return Ok(object);
    }
    let mut context = Context::new(crate::identity::User::default());
    context.options.field_validation = validation;
    let resource = attributes.resource.with_def(def.clone());
    let checked = registry::check_object(&resource, object, &mut context);
    let mut object = checked.map_err(|status| Status::internal(status.message))?;
    defaults::apply(&def.gvr.group, &def.gvr.version, &def.kind, &mut object);
    Ok(object)
}
