//! APIServices of what this server answers itself.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use jiff::Timestamp;
use sampan_api::Status;
use sampan_api::table::Table;
use sampan_client::DeleteOptions;
use serde_json::{Value, json};

use super::{APISERVICES, availability, context};
use crate::registry::{Context, Registry};

/// The label of what is kept here: `onstart` for built-in groups, `true` for those of definitions.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Groups in the order of discovery, with the priority of the group; versions have their own.
const PRIORITIES: [(&str, i64); 20] = [
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("resource.k8s.io", 15_900),
];
/// The group of a custom resource definition.
const CUSTOM: (i64, i64) = (1000, 100);

/// Creates what is missing, deletes what is no longer served.
pub async fn register(registry: &Registry, context: &mut Context) {
    let Ok(resource) = registry.resource(&APISERVICES) else { return };
    let wanted = wanted(&registry.table());
    let stored = resource.cache.snapshot().0;
    let missing = wanted.iter().filter(|(name, _)| !stored.contains_key(name.as_str()));
    let creations = missing.map(|(name, object)| async {
        let mut context = self::context();
        let created = registry.create_value(&resource, None, object.clone(), &mut context).await;
        let created = created
            .map(|_| ())
            .or_else(|status: Status| if status.is_already_exists() { Ok(()) } else { Err(status) });
        super::log_failure(name, created);
    });
    join_all(creations).await;
    let stored = resource.cache.snapshot().0;
    let marks = stored.values().filter_map(|object| {
        let value: Value = object.decode().ok()?;
        let is_local = !value["spec"]["service"].is_object();
        let condition = availability::local(Timestamp::now());
        (is_local && availability::differs(&value, &condition)).then_some((object, condition))
    });
    join_all(marks.map(|(object, condition)| async move {
        let name = &object.header.name;
        super::log_failure(name, availability::write(registry, name, condition).await);
    }))
    .await;
    for (name, object) in &stored {
        if object.header.label(AUTOMANAGED) == Some("true") && !wanted.contains_key(name.as_ref()) {
            let deleted =
                registry.delete(&resource, None, name, &DeleteOptions::default(), context).await.map(|_| ());
            super::log_failure(name, deleted);
        }
    }
}

/// The APIServices that there should be, by name.
fn wanted(table: &Table) -> BTreeMap<String, Value> {
    let mut wanted = BTreeMap::new();
    for group in table.groups() {
        // The group of APIServices is there whatever they say.
        if group.name == APISERVICES.group {
            continue;
        }
        for (at, version) in group.versions.iter().enumerate() {
            let built_in = PRIORITIES.iter().find(|(name, _)| *name == group.name).map(|(_, rank)| *rank);
            let custom = table.version(&group.name, version).all(|entry| entry.custom);
            let from_end = i64::try_from(group.versions.len() - at).unwrap_or(1);
            let (rank, version_rank) = match built_in {
                Some(rank) if group.name.is_empty() => (rank, 1),
                Some(rank) if !custom => (rank, 15 * from_end),
                _ => CUSTOM,
            };
            let managed = if custom { "true" } else { "onstart" };
            let name = format!("{version}.{}", group.name);
            let object = json!({
                "metadata": {"name": name, "labels": {AUTOMANAGED: managed}},
                "spec": {"group": group.name, "version": version,
                    "groupPriorityMinimum": rank, "versionPriority": version_rank},
            });
            wanted.insert(name, object);
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_has_an_api_service_but_that_of_api_services() {
        let wanted = wanted(&Table::builtin());
        assert_eq!(wanted["v1."]["spec"]["groupPriorityMinimum"], 18_000);
        assert_eq!(wanted["v2.autoscaling"]["spec"]["versionPriority"], 30);
        assert_eq!(wanted["v1.autoscaling"]["spec"]["versionPriority"], 15);
        assert!(!wanted.contains_key("v1.apiregistration.k8s.io"));
        let unranked: Vec<_> =
            wanted.iter().filter(|(_, one)| one["spec"]["groupPriorityMinimum"] == 1000).collect();
        assert!(unranked.is_empty(), "{unranked:?}");
    }
}
