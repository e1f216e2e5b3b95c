//! Claims on storage, in total and by storage class, and claims on devices by device class.

use serde_json::Value;

use super::one;
use crate::pod_resources::ResourceList;
use crate::quantity::{Format, Quantity};

const STORAGE: &str = "requests.storage";
const CLAIMS: &str = "persistentvolumeclaims";
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const BY_DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// The most devices of one claim, which a request for all of them may get.
const ALL_DEVICES: i64 = 32;

pub(super) fn counts(name: &str) -> bool {
    let by_class =
        |resource: &str| name.strip_suffix(resource).is_some_and(|class| class.ends_with(BY_CLASS));
    matches!(name, CLAIMS | STORAGE) || by_class(CLAIMS) || by_class(STORAGE)
}

pub(super) fn usage(claim: &Value) -> ResourceList {
    let mut used = ResourceList::from([(CLAIMS.to_owned(), one())]);
    let class = class(claim);
    if !class.is_empty() {
        used.insert(format!("{class}{BY_CLASS}{CLAIMS}"), one());
    }
    let read = |value: &Value| match value {
        Value::Null => None,
        value => Quantity::from_json(value).ok(),
    };
    let asked = read(&claim["spec"]["resources"]["requests"]["storage"]);
    let allocated = read(&claim["status"]["allocatedResources"]["storage"]);
    if let Some(asked) = asked {
        // A fraction of a byte is no amount that a quota could state.
        let amount = asked.max(allocated.unwrap_or(asked));
        let amount = if amount.is_whole() { amount } else { Quantity::new(amount.value(), amount.format()) };
        if !class.is_empty() {
            used.insert(format!("{class}{BY_CLASS}{STORAGE}"), amount);
        }
        used.insert(STORAGE.to_owned(), amount);
    }
    used
}

/// The storage class of a claim; the annotation from before there was a field comes first.
pub(super) fn class(claim: &Value) -> &str {
    let annotated = claim["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
    annotated.or_else(|| claim["spec"]["storageClassName"].as_str()).unwrap_or_default()
}

pub(super) fn counts_devices(name: &str) -> bool {
    name.ends_with(BY_DEVICE_CLASS)
}

pub(super) fn device_usage(claim: &Value) -> ResourceList {
    let mut used = ResourceList::new();
    let mut add = |class: &str, count: i64| {
        let name = format!("{class}{BY_DEVICE_CLASS}");
        *used.entry(name).or_default() += Quantity::new(count, Format::DecimalSi);
    };
    for request in claim["spec"]["devices"]["requests"].as_array().into_iter().flatten() {
        if request["exactly"].is_object() {
            let exactly = &request["exactly"];
            add(exactly["deviceClassName"].as_str().unwrap_or_default(), devices(exactly));
        }
        // Of alternatives one is chosen: each class may get what the greatest of them asks.
        let mut greatest = std::collections::BTreeMap::new();
        for alternative in request["firstAvailable"].as_array().into_iter().flatten() {
            let class = alternative["deviceClassName"].as_str().unwrap_or_default();
            let known = greatest.entry(class).or_insert(0);
            *known = devices(alternative).max(*known);
        }
        greatest.into_iter().for_each(|(class, count)| add(class, count));
    }
    used
}

fn devices(request: &Value) -> i64 {
    match request["allocationMode"].as_str() {
        Some("All") => ALL_DEVICES,
        _ => request["count"].as_i64().unwrap_or(1),
    }
}
