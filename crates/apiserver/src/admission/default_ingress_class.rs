//! DefaultIngressClass: an ingress that names no class gets the one that is marked as the default.

use sampan_api::{Gvr, Status};
use serde_json::Value;

use super::default_storage_class::newest_default;
use super::{Attributes, Operation};

const INGRESS_CLASSES: Gvr = Gvr::new("networking.k8s.io", "v1", "ingressclasses");
const MARK: &str = "ingressclass.kubernetes.io/is-default-class";
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub fn mutate(attributes: &Attributes<'_>, ingress: &mut Value) -> Result<(), Status> {
    let named = ingress["metadata"]["annotations"].get(CLASS_ANNOTATION).is_some()
        || ingress["spec"]["ingressClassName"].is_string();
    if !attributes.is(Operation::Create, "networking.k8s.io", "ingresses") || named {
        return Ok(());
    }
    if let Some(class) = newest_default(attributes.registry, &INGRESS_CLASSES, &[MARK])?
        && let Some(spec) = ingress.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.insert("ingressClassName".into(), class.into());
    }
    Ok(())
}
