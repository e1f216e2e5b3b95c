//! The version that a request speaks, and the one in which an object is stored.
//!
//! What is stored as it was asked for is handed on as it is. Built-in kinds convert by value; custom
//! resources as their definition says.

use std::sync::Arc;

use sampan_api::object::ObjectRef;
use sampan_api::table::ResourceDef;
use sampan_api::{Header, Object, Status};
use serde_json::Value;

use super::{Registry, Resource};
use crate::fields::FieldReader;
use crate::{conversion, custom};

impl Registry {
    /// The stored object as JSON values in the version that was asked for.
    pub(super) async fn value_in_version(
        &self,
        resource: &Resource,
        stored: &ObjectRef,
    ) -> Result<Value, Status> {
        let value: Value = stored.decode().map_err(Status::internal)?;
        self.converted(resource, value).await
    }

    /// A stored value in the version that was asked for.
    pub(super) async fn converted(&self, resource: &Resource, value: Value) -> Result<Value, Status> {
        if !resource.def.custom {
            return conversion::from_stored(&resource.def, value);
        }
        if value["apiVersion"] == resource.def.gvr.api_version().as_str() {
            return Ok(value);
        }
        let mut converted =
            custom::conversion::convert(self, &resource.def, &resource.def.gvr, vec![value]).await?;
        converted.pop().ok_or_else(|| Status::internal("a conversion answered no object"))
    }

    /// The stored object in the version that was asked for; the object itself where it is stored in
    /// that version.
    pub async fn in_version(&self, resource: &Resource, stored: ObjectRef) -> Result<ObjectRef, Status> {
        if !resource.def.custom {
            return conversion::object_from_stored(&resource.def, stored);
        }
        if speaks(&resource.def, &stored) {
            return Ok(stored);
        }
        let mut converted = self.all_in_version(resource, vec![stored]).await?;
        converted.pop().ok_or_else(|| Status::internal("a conversion answered no object"))
    }

    /// The same without asking anybody: only for what no webhook converts.
    pub fn in_version_now(&self, resource: &Resource, stored: ObjectRef) -> Result<ObjectRef, Status> {
        if !resource.def.custom {
            return conversion::object_from_stored(&resource.def, stored);
        }
        if speaks(&resource.def, &stored) {
            return Ok(stored);
        }
        let mut value: Value = stored.decode().map_err(Status::internal)?;
        value["apiVersion"] = resource.def.gvr.api_version().into();
        let bytes = serde_json::to_vec(&value).map_err(Status::internal)?.into();
        Ok(Arc::new(Object::new(stored.header.clone(), bytes)))
    }

    /// The same for several objects, which a webhook converts in one call.
    pub async fn all_in_version(
        &self,
        resource: &Resource,
        mut objects: Vec<ObjectRef>,
    ) -> Result<Vec<ObjectRef>, Status> {
        let def = &resource.def;
        if !def.custom {
            if def.storage.as_ref().is_none_or(|storage| storage.stored_as == def.gvr) {
                return Ok(objects);
            }
            return objects.into_iter().map(|object| conversion::object_from_stored(def, object)).collect();
        }
        let others: Vec<usize> = (0..objects.len()).filter(|at| !speaks(def, &objects[*at])).collect();
        if others.is_empty() {
            return Ok(objects);
        }
        let values: Vec<Value> = others
            .iter()
            .map(|at| objects[*at].decode().map_err(Status::internal))
            .collect::<Result<_, _>>()?;
        let converted = custom::conversion::convert(self, def, &def.gvr, values).await?;
        for (at, value) in others.into_iter().zip(converted) {
            let bytes = serde_json::to_vec(&value).map_err(Status::internal)?.into();
            objects[at] = Arc::new(Object::new(objects[at].header.clone(), bytes));
        }
        Ok(objects)
    }

    /// The same, with those of their fields that this version lets be selected.
    pub async fn all_with_fields(
        &self,
        resource: &Resource,
        objects: Vec<ObjectRef>,
    ) -> Result<Vec<ObjectRef>, Status> {
        let reader = FieldReader::new(resource.def.fields.clone());
        let objects = self.all_in_version(resource, objects).await?.into_iter();
        Ok(objects
            .map(|object| {
                let bytes = object.bytes();
                let header = Header { fields: reader.read(&bytes), ..object.header.clone() };
                Arc::new(Object::new(header, bytes))
            })
            .collect())
    }

    /// The form in which an object is stored: in the stored version and without a revision.
    pub(super) async fn stored_form(&self, resource: &Resource, object: Value) -> Result<Value, Status> {
        let def = &resource.def;
        let Some(storage) = def.storage.as_ref().filter(|storage| def.custom && storage.stored_as != def.gvr)
        else {
            return conversion::to_stored(def, object);
        };
        let stored = custom::conversion::convert(self, def, &storage.stored_as, vec![object]).await?.pop();
        let stored = stored.ok_or_else(|| Status::internal("a conversion answered no object"))?;
        Ok(conversion::without_revision(stored))
    }
}

/// Whether the bytes of an object are in the version of an entry. This process encodes the fields of an
/// object in the order of their names, so that its version comes first.
fn speaks(def: &ResourceDef, object: &ObjectRef) -> bool {
    const FIELD: &[u8] = b"{\"apiVersion\":\"";
    let json = object.bytes();
    let rest = json.strip_prefix(FIELD).unwrap_or_default();
    let (group, version) = (def.gvr.group.as_bytes(), def.gvr.version.as_bytes());
    rest.strip_prefix(group)
        .and_then(|rest| rest.strip_prefix(b"/"))
        .and_then(|rest| rest.strip_prefix(version))
        .is_some_and(|rest| rest.starts_with(b"\""))
}
