//! `resource.k8s.io`: claims of devices, their templates and classes.
//!
//! Expressions are held to their length alone: who allocates devices compiles them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::csi::driver_name;
use super::field::{At, Faults, same};
use crate::names;

mod slice;
pub(super) mod status;

const LIST_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const EXPRESSION_MAX: usize = 10 * 1024;
const PARAMETERS_MAX: usize = 10 * 1024;
const POOL_MAX: usize = 253;
const ID_MAX: usize = 32;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];
const NO_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// The requests of a claim with their alternatives.
type Requests<'v> = BTreeMap<&'v str, BTreeSet<&'v str>>;

pub(super) fn create(kind: &str, root: &At<'_, '_>, faults: &mut Faults) {
    match kind {
        "ResourceClaim" => {
            let spec = root.get("spec");
            claim(&spec.get("devices"), faults);
        }
        "ResourceClaimTemplate" => {
            let outer = root.get("spec");
            super::metadata::embedded(&outer.get("metadata"), faults);
            let spec = outer.get("spec");
            claim(&spec.get("devices"), faults);
        }
        "DeviceClass" => class(&root.get("spec"), None, faults),
        "ResourceSlice" => slice::slice(&root.get("spec"), None, faults),
        _ => {}
    }
}

pub(super) fn update(kind: &str, root: &At<'_, '_>, before: &At<'_, '_>, faults: &mut Faults) {
    let (spec, old) = (root.get("spec"), before.get("spec"));
    match kind {
        "ResourceClaim" | "ResourceClaimTemplate" => faults.immutable(&spec, &old),
        "DeviceClass" => class(&spec, Some(&old), faults),
        "ResourceSlice" => slice::slice(&spec, Some(&old), faults),
        _ => {}
    }
}

/// The elements of a list that is not too long; one that is, is not looked into.
fn each(
    list: &At<'_, '_>,
    limit: usize,
    faults: &mut Faults,
    rule: impl Fn(&At<'_, '_>, &mut Faults),
) -> bool {
    if list.len() > limit {
        faults.too_many(list, list.len(), limit);
        return false;
    }
    for item in list.items() {
        rule(&item, faults);
    }
    true
}

/// The same of a list of texts that differ.
fn set(list: &At<'_, '_>, limit: usize, faults: &mut Faults, rule: impl Fn(&At<'_, '_>, &mut Faults)) {
    if each(list, limit, faults, rule) {
        distinct(list, |text| text.as_str().unwrap_or_default().to_owned(), faults);
    }
}

fn name_of(item: &Value) -> String {
    item["name"].as_str().unwrap_or_default().to_owned()
}

fn label(at: &At<'_, '_>, faults: &mut Faults) {
    for message in names::dns1123_label(at.text()) {
        faults.invalid_text(at, at.text(), &message);
    }
}

fn claim(devices: &At<'_, '_>, faults: &mut Faults) {
    let requests = requests(devices);
    let list = devices.get("requests");
    if each(&list, LIST_MAX, faults, request) {
        distinct(&list, name_of, faults);
    }
    each(&devices.get("constraints"), LIST_MAX, faults, |constraint, faults| {
        names_of_requests(&constraint.get("requests"), &requests, faults);
        let (equal, distinct) = (constraint.get("matchAttribute"), constraint.get("distinctAttribute"));
        match (equal.is_set(), distinct.is_set()) {
            (true, _) => full_name(&equal, faults),
            (false, true) => full_name(&distinct, faults),
            (false, false) => faults.required(&equal, ""),
        }
    });
    each(&devices.get("config"), LIST_MAX, faults, |config, faults| {
        names_of_requests(&config.get("requests"), &requests, faults);
        configuration(config, false, faults);
    });
}

/// No two elements may have the same key.
fn distinct(list: &At<'_, '_>, key: impl Fn(&Value) -> String, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for item in list.items() {
        let key = key(item.value);
        if !seen.insert(key.clone()) {
            faults.duplicate(&item, &Value::from(key));
        }
    }
}

/// The requests of `spec.devices`.
fn requests<'v>(devices: &At<'v, '_>) -> Requests<'v> {
    let text = |value: &'v Value| value["name"].as_str().unwrap_or_default();
    let list = devices.value["requests"].as_array().into_iter().flatten();
    list.map(|request| {
        let alternatives = request["firstAvailable"].as_array().into_iter().flatten();
        (text(request), alternatives.map(text).collect())
    })
    .collect()
}

fn request(request: &At<'_, '_>, faults: &mut Faults) {
    label(&request.get("name"), faults);
    let (exactly, alternatives) = (request.get("exactly"), request.get("firstAvailable"));
    let one_of = "exactly one of `exactly` or `firstAvailable` is required";
    match (exactly.is_set(), !alternatives.is_empty()) {
        (false, false) => faults.required(request, one_of),
        (true, true) => {
            faults.invalid_value(request, &Value::Null, &format!("{one_of}, but multiple fields are set"));
        }
        (true, false) => devices(&exactly, faults),
        (false, true) => {
            let rule = |one: &At<'_, '_>, faults: &mut Faults| {
                label(&one.get("name"), faults);
                devices(one, faults);
            };
            if each(&alternatives, ALTERNATIVES_MAX, faults, rule) {
                distinct(&alternatives, name_of, faults);
            }
        }
    }
}

/// Which devices are wanted, and how many.
fn devices(request: &At<'_, '_>, faults: &mut Faults) {
    let class = request.get("deviceClassName");
    if class.text().is_empty() {
        faults.required(&class, "");
    } else {
        faults.named(&class, names::dns1123_subdomain(class.text()));
    }
    selectors(&request.get("selectors"), faults);
    let (mode, count) = (request.get("allocationMode"), request.get("count"));
    let number = count.int().unwrap_or_default();
    let zero = Value::from(number);
    match mode.text() {
        "All" if number != 0 => {
            faults.invalid(&count, "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if number <= 0 => faults.invalid_value(&count, &zero, "must be greater than zero"),
        "All" | "ExactCount" => {}
        _ => faults.unsupported(&mode, &["All", "ExactCount"]),
    }
    for one in request.get("tolerations").items() {
        toleration(&one, faults);
    }
}

fn selectors(list: &At<'_, '_>, faults: &mut Faults) {
    each(list, LIST_MAX, faults, |selector, faults| {
        let cel = selector.get("cel");
        let expression = cel.get("expression");
        if !cel.is_set() {
            faults.required(&cel, "");
        } else if expression.text().len() > EXPRESSION_MAX {
            faults.too_long(&expression, EXPRESSION_MAX);
        }
    });
}

fn toleration(toleration: &At<'_, '_>, faults: &mut Faults) {
    let (key, value) = (toleration.get("key"), toleration.get("value"));
    if !key.text().is_empty() {
        faults.named(&key, names::qualified_name(key.text()));
    }
    let operator = toleration.get("operator");
    match operator.text() {
        "Exists" if !value.text().is_empty() => {
            faults.invalid(&value, "must be empty for operator `Exists`");
        }
        "Exists" => {}
        "Equal" => faults.named(&value, names::label_value(value.text())),
        _ => faults.one_of(&operator, &["Equal", "Exists"]),
    }
    let effect = toleration.get("effect");
    if !effect.text().is_empty() {
        faults.one_of(&effect, &EFFECTS);
    }
}

/// Requests and their alternatives by their names.
fn names_of_requests(list: &At<'_, '_>, requests: &Requests<'_>, faults: &mut Faults) {
    set(list, LIST_MAX, faults, |name, faults| name_of_request(name, requests, faults));
}

fn name_of_request(name: &At<'_, '_>, requests: &Requests<'_>, faults: &mut Faults) {
    let parts: Vec<&str> = name.text().split('/').collect();
    if parts.len() <= 2 {
        for part in &parts {
            for message in names::dns1123_label(part) {
                faults.invalid_text(name, part, &message);
            }
        }
    }
    let known = match parts.as_slice() {
        [request] => requests.contains_key(request),
        [request, one] => requests.get(request).is_some_and(|known| known.contains(one)),
        _ => false,
    };
    if !known {
        faults.invalid_text(name, name.text(), NO_REQUEST);
    }
}

/// What a driver is told. `stored`: whether it was accepted before the limit of its length.
fn configuration(config: &At<'_, '_>, stored: bool, faults: &mut Faults) {
    let opaque = config.get("opaque");
    if !opaque.is_set() {
        faults.required(&opaque, "");
        return;
    }
    driver_name(&opaque.get("driver"), faults);
    raw(&opaque.get("parameters"), stored, PARAMETERS_MAX, faults);
}

/// Any object.
fn raw(at: &At<'_, '_>, stored: bool, limit: usize, faults: &mut Faults) {
    match at.value {
        Value::Null => faults.required(at, ""),
        value if !stored && value.to_string().len() > limit => faults.too_long(at, limit),
        Value::Object(_) => {}
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            faults.invalid_text(at, "<value omitted>", "must be a valid JSON object");
        }
    }
}

fn class(spec: &At<'_, '_>, old: Option<&At<'_, '_>>, faults: &mut Faults) {
    let stored = |field: &str| old.is_some_and(|old| same(old.get(field).value, spec.get(field).value));
    if !stored("selectors") {
        selectors(&spec.get("selectors"), faults);
    }
    let stored = stored("config");
    each(&spec.get("config"), LIST_MAX, faults, |config, faults| configuration(config, stored, faults));
    let name = spec.get("extendedResourceName");
    if name.is_set() && !is_extended_resource(name.text()) {
        faults.invalid(&name, "must be a valid extended resource name");
    }
}

fn is_extended_resource(name: &str) -> bool {
    let own = |domain: &str| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io");
    name.split_once('/').is_some_and(|(domain, _)| own(domain))
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

fn pool_name(at: &At<'_, '_>, faults: &mut Faults) {
    if at.text().is_empty() {
        faults.required(at, "");
        return;
    }
    if at.text().len() > POOL_MAX {
        faults.too_long(at, POOL_MAX);
    }
    for part in at.text().split('/') {
        for message in names::dns1123_subdomain(part) {
            faults.invalid_text(at, part, &message);
        }
    }
}

/// The name of an attribute or capacity: of the driver, unless a domain is given.
fn qualified_name(at: &At<'_, '_>, name: &str, faults: &mut Faults) {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [name] => identifier(at, name, faults),
        [domain, name] => {
            if domain.is_empty() {
                faults.invalid_text(at, "", "the domain must not be empty");
            } else {
                let held = Value::from(*domain);
                let count = faults.count();
                driver_name(&At::root(&held), faults);
                faults.move_to(count, at);
            }
            if name.is_empty() {
                faults.invalid_text(at, "", "the name must not be empty");
            } else {
                identifier(at, name, faults);
            }
        }
        _ => faults.invalid_text(at, name, "must not contain more than one slash"),
    }
}

fn identifier(at: &At<'_, '_>, name: &str, faults: &mut Faults) {
    if name.len() > ID_MAX {
        faults.too_long(at, ID_MAX);
    }
    for message in names::c_identifier(name) {
        faults.invalid_text(at, name, &message);
    }
}

fn full_name(at: &At<'_, '_>, faults: &mut Faults) {
    qualified_name(at, at.text(), faults);
    if !at.text().contains('/') {
        faults.invalid(at, "a fully qualified name must be a domain and a name separated by a slash");
    }
}
