//! Aggregated cluster roles: `admin`, `edit` and `view` are made of the roles that carry their label.
//!
//! Authorisation computes the same by itself; this keeps what `kubectl describe` shows true.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use sampan_api::Status;
use sampan_api::selector::Selector;
use sampan_client::{InformerEvent, PatchKind, WorkQueue};
use serde_json::json;

use crate::Shared;
use crate::controller::{Controller, subjects};
use crate::view::{Kind, decode};

/// Keys are names of aggregated cluster roles.
pub(crate) struct ClusterRoleAggregation;

#[async_trait]
impl Controller for ClusterRoleAggregation {
    fn name(&self) -> &'static str {
        "clusterrole-aggregation"
    }

    fn affected(&self, shared: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>) {
        if kind != Kind::ClusterRole {
            return;
        }
        for object in subjects(event) {
            queue.add(object.header.name.to_string());
            // A part of something: every aggregate may be concerned, and there are few.
            if !object.header.labels.is_empty() {
                let aggregates = shared.view.of(Kind::ClusterRole).list("");
                let aggregates = aggregates.iter().filter_map(decode::<ClusterRole>);
                aggregates
                    .filter(|role| role.aggregation_rule.is_some())
                    .filter_map(|role| role.metadata.name)
                    .for_each(|name| queue.add(name));
            }
        }
    }

    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status> {
        let Some(role) = shared.view.get::<ClusterRole>(Kind::ClusterRole, key) else { return Ok(None) };
        let parts: Vec<ClusterRole> =
            shared.view.of(Kind::ClusterRole).list("").iter().filter_map(decode).collect();
        let Some(rules) = rules(&role, &parts) else { return Ok(None) };
        if role.rules.as_ref() != Some(&rules) {
            let patch = json!({"rules": rules});
            shared.client.all::<ClusterRole>().patch(key, PatchKind::Merge, &patch).await?;
        }
        Ok(None)
    }
}

/// The rules of an aggregated role: those of its parts in the order of names, each once. `None` for a
/// plain role.
fn rules(role: &ClusterRole, parts: &[ClusterRole]) -> Option<Vec<PolicyRule>> {
    let aggregation = role.aggregation_rule.as_ref()?;
    let selectors: Vec<Selector> = aggregation
        .cluster_role_selectors
        .iter()
        .flatten()
        .filter_map(|selector| Selector::from_json(&serde_json::to_value(selector).ok()?).ok())
        .collect();
    let mut parts: Vec<&ClusterRole> = parts
        .iter()
        .filter(|part| part.metadata.name != role.metadata.name)
        .filter(|part| {
            let label = |key: &str| part.metadata.labels.as_ref()?.get(key).map(String::as_str);
            selectors.iter().any(|selector| selector.matches(label))
        })
        .collect();
    parts.sort_by_key(|part| part.metadata.name.clone());
    let mut seen = BTreeSet::new();
    let all = parts.iter().flat_map(|part| part.rules.iter().flatten());
    Some(all.filter(|rule| seen.insert(format!("{rule:?}"))).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_chosen_by_label_and_their_rules_taken_once() {
        let role = |name: &str, label: &str, verb: &str| -> ClusterRole {
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"part": label}},
                "rules": [{"verbs": [verb], "resources": ["pods"], "apiGroups": [""]}]}))
            .expect("a role")
        };
        let aggregate: ClusterRole = serde_json::from_value(json!({"metadata": {"name": "all"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"part": "yes"}}]}}))
        .expect("a role");
        let parts = [
            role("b", "yes", "get"),
            role("a", "yes", "list"),
            role("c", "no", "delete"),
            role("d", "yes", "get"),
        ];
        let verbs: Vec<String> = rules(&aggregate, &parts)
            .expect("aggregated")
            .into_iter()
            .map(|rule| rule.verbs[0].clone())
            .collect();
        assert_eq!(verbs, ["list", "get"]);
        assert_eq!(rules(&parts[0], &parts), None);
    }
}
