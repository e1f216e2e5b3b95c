use std::borrow::Cow;

use serde_json::{Value, json};

use super::*;
use crate::schema::{self, Schema, TypeId};

mod cases;
mod ownership;
mod properties;
mod sets;

/// One version of one kind.
struct One {
    schema: &'static Schema,
    id: TypeId,
    api_version: &'static str,
    ignored: FieldSet,
}

impl One {
    fn builtin(type_name: &str, api_version: &'static str) -> Self {
        let schema = schema::builtin();
        let id = schema.lookup(type_name).expect("a built-in type");
        One { schema, id, api_version, ignored: fields(["status"]) }
    }

    fn deployment() -> Self {
        One::builtin("io.k8s.api.apps.v1.Deployment", "apps/v1")
    }

    fn config_map() -> Self {
        One::builtin("io.k8s.api.core.v1.ConfigMap", "v1")
    }

    fn service() -> Self {
        One::builtin("io.k8s.api.core.v1.Service", "v1")
    }

    fn kind(&self) -> &'static str {
        let name = &self.schema.type_def(self.id).name;
        match name {
            Cow::Borrowed(name) => name.rsplit('.').next().expect("one part"),
            Cow::Owned(_) => "Thing",
        }
    }

    fn typed(&self) -> Typed<'_> {
        Typed::new(self.schema, self.id)
    }

    fn request<'a>(&'a self, manager: &'a str) -> Request<'a> {
        Request {
            versions: self,
            api_version: self.api_version,
            kind: self.kind(),
            manager,
            subresource: "",
            now: "2026-01-01T00:00:00Z",
        }
    }

    /// Applies, and fails the test on a conflict.
    fn apply(&self, live: Option<&Value>, manager: &str, config: &Value) -> Value {
        self.stored(self.request(manager).apply(live, config, false).expect("no conflict"))
    }

    fn force(&self, live: &Value, manager: &str, config: &Value) -> Value {
        self.stored(self.request(manager).apply(Some(live), config, true).expect("forced"))
    }

    fn update(&self, old: Option<&Value>, manager: &str, new: &Value) -> Value {
        let mut new = new.clone();
        self.request(manager).update(old, &mut new);
        self.stored(new)
    }

    fn conflict(&self, live: &Value, manager: &str, config: &Value) -> crate::Status {
        self.request(manager).apply(Some(live), config, false).expect_err("a conflict").status()
    }

    /// As the registry leaves an object: checked, and with an identity.
    fn stored(&self, mut object: Value) -> Value {
        let report = schema::check(self.schema, self.id, &mut object);
        assert_eq!(report, schema::Report::default(), "{object}");
        object["metadata"]["uid"] = "u".into();
        object
    }
}

impl Versions for One {
    fn typed(&self, api_version: &str) -> Option<Typed<'_>> {
        (api_version == self.api_version).then(|| One::typed(self))
    }

    fn convert<'v>(&self, _object: &'v Value, _from: &str, _to: &str) -> Option<Cow<'v, Value>> {
        None
    }

    fn ignored(&self, _api_version: &str) -> FieldSet {
        self.ignored.clone()
    }
}

/// The fields of a manager, as `fieldsV1`; null where it owns none.
fn owned(object: &Value, manager: &str, operation: &str) -> Value {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut entries = entries.into_iter().flatten();
    let entry = entries.find(|entry| entry["manager"] == manager && entry["operation"] == operation);
    entry.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

fn applied(object: &Value, manager: &str) -> Value {
    owned(object, manager, "Apply")
}

fn updated(object: &Value, manager: &str) -> Value {
    owned(object, manager, "Update")
}

fn config_map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "n"}, "data": data})
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}, "spec": spec})
}
