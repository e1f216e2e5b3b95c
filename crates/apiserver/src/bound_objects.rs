//! The objects that tokens are bound to, out of the cache: a token dies with them.

use sampan_api::Gvr;
use serde_json::Value;

use crate::identity::authentication::{BoundObject, BoundObjects};
use crate::registry::Registry;

impl Registry {
    fn bound(&self, resource: &'static str, key: &str) -> Option<BoundObject> {
        let object = self.find(&Gvr::new("", "v1", resource), key)?;
        let deleted_at = object.header.deletion_timestamp.as_deref().and_then(|text| text.parse().ok());
        Some(BoundObject { uid: object.header.uid.to_string(), deleted_at })
    }
}

impl BoundObjects for Registry {
    fn service_account(&self, namespace: &str, name: &str) -> Option<BoundObject> {
        self.bound("serviceaccounts", &format!("{namespace}/{name}"))
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<BoundObject> {
        self.bound("pods", &format!("{namespace}/{name}"))
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<BoundObject> {
        self.bound("secrets", &format!("{namespace}/{name}"))
    }

    fn secret_object(&self, namespace: &str, name: &str) -> Option<Value> {
        self.find(&Gvr::new("", "v1", "secrets"), &format!("{namespace}/{name}"))?.decode().ok()
    }

    fn node(&self, name: &str) -> Option<BoundObject> {
        self.bound("nodes", name)
    }
}
