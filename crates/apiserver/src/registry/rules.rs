//! Defaults and validation of an object: those of its built-in kind, or those of its definition.

use sampan_api::status::Cause;
use sampan_api::{defaults, validation};
use serde_json::Value;

use super::{Part, Resource, device_selectors};

/// Fills in what the author left out.
pub(super) fn complete(resource: &Resource, object: &mut Value) {
    let def = &resource.def;
    match &def.version {
        Some(version) => {
            version.normalise(object);
        }
        None => defaults::apply(&def.gvr.group, &def.gvr.version, &def.kind, object),
    }
}

/// The faults of a new object.
pub(super) fn faults_of_new(resource: &Resource, object: &Value) -> Vec<Cause> {
    let def = &resource.def;
    let Some(version) = &def.version else {
        let mut faults = validation::create(&def.gvr.group, &def.kind, object);
        faults.extend(device_selectors::faults(&def.gvr.group, &def.kind, object, None));
        return faults;
    };
    let mut faults = validation::create_custom(object);
    faults.extend(version.check_new(object));
    faults
}

/// The faults of an object that is to replace `old`.
pub(super) fn faults_of_update(resource: &Resource, part: Part<'_>, new: &Value, old: &Value) -> Vec<Cause> {
    let def = &resource.def;
    match (&def.version, part) {
        (Some(version), _) => {
            let mut faults = validation::update_custom(new, old);
            faults.extend(version.check_update(new, old));
            faults
        }
        (None, Part::Main) => {
            let mut faults = validation::update(&def.gvr.group, &def.kind, new, old);
            faults.extend(device_selectors::faults(&def.gvr.group, &def.kind, new, Some(old)));
            faults
        }
        (None, Part::Subresource("ephemeralcontainers")) => validation::update_ephemeral_containers(new, old),
        (None, Part::Subresource("approval")) => validation::update_approval(new, old),
        (None, Part::Subresource("resize")) => validation::update_resize(new, old),
        (None, Part::Status) => validation::update_status(&def.gvr.group, &def.kind, new, old),
        (None, Part::Subresource(_)) => Vec::new(),
    }
}
