//! Replication controllers, seen as the replica sets that they are the elder form of.

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    ReplicationController, ReplicationControllerCondition, ReplicationControllerSpec,
    ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// The same object as a replica set. The two differ in the selector, which is a plain map here.
pub(crate) fn as_set(controller: ReplicationController) -> ReplicaSet {
    ReplicaSet {
        metadata: controller.metadata,
        spec: controller.spec.map(spec),
        status: controller.status.map(status),
    }
}

fn spec(spec: ReplicationControllerSpec) -> ReplicaSetSpec {
    ReplicaSetSpec {
        min_ready_seconds: spec.min_ready_seconds,
        replicas: spec.replicas,
        selector: LabelSelector { match_labels: spec.selector, match_expressions: None },
        template: spec.template,
    }
}

fn status(status: ReplicationControllerStatus) -> ReplicaSetStatus {
    ReplicaSetStatus {
        available_replicas: status.available_replicas,
        conditions: status.conditions.map(|all| all.into_iter().map(condition).collect()),
        fully_labeled_replicas: status.fully_labeled_replicas,
        observed_generation: status.observed_generation,
        ready_replicas: status.ready_replicas,
        replicas: status.replicas,
        terminating_replicas: None,
    }
}

fn condition(condition: ReplicationControllerCondition) -> ReplicaSetCondition {
    ReplicaSetCondition {
        last_transition_time: condition.last_transition_time,
        message: condition.message,
        reason: condition.reason,
        status: condition.status,
        type_: condition.type_,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;
    use crate::controller::Controller;
    use crate::replica_set::{Flavour, ReplicaSets};
    use crate::testing::Bench;
    use crate::view::Kind;

    fn controller() -> ReplicationController {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": 2, "selector": {"app": "web"}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}}}))
        .expect("a replication controller")
    }

    #[test]
    fn nothing_but_the_selectors_form_changes() {
        let mut controller = controller();
        controller.status = serde_json::from_value(json!({"replicas": 2, "readyReplicas": 1,
            "observedGeneration": 3, "conditions": [{"type": "ReplicaFailure", "status": "True"}]}))
        .expect("a status");
        let (before, set) = (json!(controller), json!(as_set(controller.clone())));
        assert_eq!(set["spec"]["selector"], json!({"matchLabels": {"app": "web"}}));
        for path in ["/metadata", "/spec/template", "/spec/replicas", "/status"] {
            assert_eq!(set.pointer(path), before.pointer(path), "{path}");
        }
    }

    #[tokio::test]
    async fn pods_appear_under_the_controllers_own_kind() {
        let bench = Bench::start().await;
        let client = &bench.shared.client;
        let api = client.namespaced::<ReplicationController>("default");
        api.create(&controller()).await.expect("created");
        bench.shown(Kind::ReplicationController, "default/web").await;
        let sets = ReplicaSets::new(Flavour::ReplicationController);
        sets.reconcile(&bench.shared, "default/web").await.expect("reconciled");
        let pods = client.namespaced::<Pod>("default").list(&Default::default()).await.expect("pods");
        assert_eq!(pods.len(), 2);
        for pod in pods {
            let owners = pod.metadata.owner_references.unwrap_or_default();
            assert_eq!(
                (owners[0].api_version.as_str(), owners[0].kind.as_str()),
                ("v1", "ReplicationController")
            );
            assert!(pod.metadata.name.unwrap_or_default().starts_with("web-"));
        }
        let status = api.get("web").await.expect("the controller").status.expect("a status");
        assert_eq!(status.replicas, 0, "counted from what was seen before the pods were made");
    }
}
