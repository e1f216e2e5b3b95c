//! Roles of the single controllers, each for the service account of its name in `kube-system`.
//!
//! Where ours patch what upstream's replace, a role has `patch` beside `update`, which it equals.

use super::{EVENTS, Rule, allow, allow_named};

const READ: &str = "get list watch";
const RBAC: &str = "rbac.authorization.k8s.io";

/// Names without `system:controller:`.
pub(super) const ROLES: &[(&str, &[Rule])] = &[
    (
        "attachdetach-controller",
        &[
            allow("list watch", "core", "persistentvolumeclaims persistentvolumes pods"),
            allow(READ, "core", "nodes"),
            allow("patch update", "core", "nodes/status"),
            EVENTS,
            allow("create delete get list watch", "storage.k8s.io", "volumeattachments"),
            allow(READ, "storage.k8s.io", "csidrivers csinodes"),
        ],
    ),
    (
        "certificate-controller",
        &[
            allow("delete get list watch", "certificates.k8s.io", "certificatesigningrequests"),
            allow(
                "update",
                "certificates.k8s.io",
                "certificatesigningrequests/approval certificatesigningrequests/status",
            ),
            allow_named(
                "approve",
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/kube-apiserver-client-kubelet",
            ),
            allow_named(
                "sign",
                "certificates.k8s.io",
                "signers",
                "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet \
                 kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown",
            ),
            allow("create", "authorization.k8s.io", "subjectaccessreviews"),
            EVENTS,
        ],
    ),
    (
        "clusterrole-aggregation-controller",
        &[allow("escalate get list patch update watch", RBAC, "clusterroles")],
    ),
    (
        "cronjob-controller",
        &[
            allow("get list update watch", "batch", "cronjobs"),
            allow("create delete get list patch update watch", "batch", "jobs"),
            allow("patch update", "batch", "cronjobs/finalizers cronjobs/status"),
            allow("delete list", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "daemon-set-controller",
        &[
            allow(READ, "apps extensions", "daemonsets"),
            allow("patch update", "apps extensions", "daemonsets/finalizers daemonsets/status"),
            allow("list watch", "core", "nodes"),
            allow("create delete list patch watch", "core", "pods"),
            allow("create", "core", "pods/binding"),
            allow("create delete get list patch update watch", "apps", "controllerrevisions"),
            EVENTS,
        ],
    ),
    (
        "deployment-controller",
        &[
            allow("get list patch update watch", "apps extensions", "deployments"),
            allow("patch update", "apps extensions", "deployments/finalizers deployments/status"),
            allow("create delete get list patch update watch", "apps extensions", "replicasets"),
            allow("get list update watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "disruption-controller",
        &[
            allow(READ, "apps extensions", "deployments replicasets"),
            allow(READ, "core", "replicationcontrollers"),
            allow(READ, "policy", "poddisruptionbudgets"),
            allow(READ, "apps", "statefulsets"),
            allow("update", "policy", "poddisruptionbudgets/status"),
            allow("get", "*", "*/scale"),
            allow("patch update", "core", "pods/status"),
            EVENTS,
        ],
    ),
    (
        "endpoint-controller",
        &[
            allow(READ, "core", "pods services"),
            allow("create delete get list update", "core", "endpoints"),
            allow("create", "core", "endpoints/restricted"),
            EVENTS,
        ],
    ),
    (
        "endpointslice-controller",
        &[
            allow(READ, "core", "nodes pods services"),
            allow("update", "core", "services/finalizers"),
            allow("create delete get list update", "discovery.k8s.io", "endpointslices"),
            EVENTS,
        ],
    ),
    (
        "endpointslicemirroring-controller",
        &[
            allow(READ, "core", "endpoints services"),
            allow("update", "core", "endpoints/finalizers services/finalizers"),
            allow("create delete get list update", "discovery.k8s.io", "endpointslices"),
            EVENTS,
        ],
    ),
    (
        "expand-controller",
        &[
            allow("get list patch update watch", "core", "persistentvolumes"),
            allow("patch update", "core", "persistentvolumeclaims/status"),
            allow(READ, "core", "persistentvolumeclaims"),
            EVENTS,
        ],
    ),
    (
        "ephemeral-volume-controller",
        &[
            allow(READ, "core", "pods"),
            allow("update", "core", "pods/finalizers"),
            allow("create get list watch", "core", "persistentvolumeclaims"),
            EVENTS,
        ],
    ),
    ("generic-garbage-collector", &[allow("delete get list patch update watch", "*", "*"), EVENTS]),
    (
        "horizontal-pod-autoscaler",
        &[
            allow(READ, "autoscaling", "horizontalpodautoscalers"),
            allow("update", "autoscaling", "horizontalpodautoscalers/status"),
            allow("get update", "*", "*/scale"),
            allow("list", "core", "pods"),
            allow("list", "metrics.k8s.io", "pods"),
            allow("get list", "custom.metrics.k8s.io external.metrics.k8s.io", "*"),
            EVENTS,
        ],
    ),
    (
        "job-controller",
        &[
            allow("get list patch update watch", "batch", "jobs"),
            allow("patch update", "batch", "jobs/finalizers jobs/status"),
            allow("create delete list patch watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "legacy-service-account-token-cleaner",
        &[
            allow_named("get", "core", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
            allow("delete patch", "core", "secrets"),
        ],
    ),
    (
        "namespace-controller",
        &[
            allow("delete get list watch", "core", "namespaces"),
            allow("update", "core", "namespaces/finalize namespaces/status"),
            allow("delete deletecollection get list", "*", "*"),
        ],
    ),
    (
        "node-controller",
        &[
            allow("delete get list patch update", "core", "nodes"),
            allow("patch update", "core", "nodes/status pods/status"),
            allow("delete get list", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "persistent-volume-binder",
        &[
            allow("create delete get list update watch", "core", "persistentvolumes"),
            allow("update", "core", "persistentvolumeclaims/status persistentvolumes/status"),
            allow("get list update watch", "core", "persistentvolumeclaims"),
            allow("create delete get list watch", "core", "pods"),
            allow(READ, "storage.k8s.io", "storageclasses"),
            allow("get list", "core", "nodes"),
            allow("watch", "core", "events"),
            EVENTS,
        ],
    ),
    (
        "pod-garbage-collector",
        &[
            allow("delete list watch", "core", "pods"),
            allow("get list", "core", "nodes"),
            allow("patch", "core", "pods/status"),
        ],
    ),
    (
        "pv-protection-controller",
        &[allow("get list patch update watch", "core", "persistentvolumes"), EVENTS],
    ),
    (
        "pvc-protection-controller",
        &[
            allow("get list patch update watch", "core", "persistentvolumeclaims"),
            allow(READ, "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "replicaset-controller",
        &[
            allow("get list update watch", "apps extensions", "replicasets"),
            allow("patch update", "apps extensions", "replicasets/finalizers replicasets/status"),
            allow("create delete list patch watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "replication-controller",
        &[
            allow("get list update watch", "core", "replicationcontrollers"),
            allow("patch update", "core", "replicationcontrollers/finalizers replicationcontrollers/status"),
            allow("create delete list patch watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "resourcequota-controller",
        &[
            allow("list watch", "*", "*"),
            allow("get", "core", "resourcequotas"),
            allow("update", "core", "resourcequotas/status"),
            EVENTS,
        ],
    ),
    ("root-ca-cert-publisher", &[allow("create update", "core", "configmaps"), EVENTS]),
    (
        "route-controller",
        &[allow("list watch", "core", "nodes"), allow("patch", "core", "nodes/status"), EVENTS],
    ),
    ("service-account-controller", &[allow("create", "core", "serviceaccounts"), EVENTS]),
    (
        "service-controller",
        &[
            allow(READ, "core", "services"),
            allow("patch update", "core", "services/status"),
            allow("list watch", "core", "nodes"),
            EVENTS,
        ],
    ),
    (
        "statefulset-controller",
        &[
            allow("list watch", "core", "pods"),
            allow(READ, "apps", "statefulsets"),
            allow("patch update", "apps", "statefulsets/finalizers statefulsets/status"),
            allow("create delete get patch update", "core", "pods"),
            allow("create delete get list patch update watch", "apps", "controllerrevisions"),
            allow("create delete get patch update", "core", "persistentvolumeclaims"),
            EVENTS,
        ],
    ),
    ("ttl-after-finished-controller", &[allow("delete get list watch", "batch", "jobs"), EVENTS]),
    ("ttl-controller", &[allow("list patch update watch", "core", "nodes"), EVENTS]),
];
