//! Roles for people and for the cluster's components.

use super::SubjectData::{Group, ServiceAccount, User};
use super::{EVENTS, RoleData, Rule, SubjectData, allow, allow_named, allow_paths, role};

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const READ_WRITE: &str = "create delete deletecollection get list patch update watch";
const READ_UPDATE: &str = "get list patch update watch";

pub(super) const CLUSTER_ROLES: &[RoleData] = &[
    role("cluster-admin", &[allow("*", "*", "*"), allow_paths("*", "*")]),
    RoleData { name: "admin", part_of: "", aggregates: "admin", rules: &[] },
    RoleData { name: "edit", part_of: "admin", aggregates: "edit", rules: &[] },
    RoleData { name: "view", part_of: "edit", aggregates: "view", rules: &[] },
    RoleData {
        name: "system:aggregate-to-admin",
        part_of: "admin",
        aggregates: "",
        rules: &[
            allow("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            allow(READ_WRITE, "rbac.authorization.k8s.io", "roles rolebindings"),
        ],
    },
    RoleData { name: "system:aggregate-to-edit", part_of: "edit", aggregates: "", rules: EDIT },
    RoleData { name: "system:aggregate-to-view", part_of: "view", aggregates: "", rules: VIEW },
    // What metrics-server's installation gives; under a name of our own, so that it can be installed too.
    RoleData {
        name: "system:aggregate-resource-metrics-to-view",
        part_of: "view",
        aggregates: "",
        rules: &[allow(READ, "metrics.k8s.io", "nodes pods")],
    },
    role(
        "system:discovery",
        &[allow_paths(
            "get",
            "/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*",
        )],
    ),
    role(
        "system:monitoring",
        &[allow_paths("get", "/metrics /metrics/slis /livez /readyz /healthz /livez/* /readyz/* /healthz/*")],
    ),
    role(
        "system:basic-user",
        &[
            allow("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
            allow("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    role("system:public-info-viewer", &[allow_paths("get", "/livez /readyz /healthz /version /version/")]),
    role(
        "system:service-account-issuer-discovery",
        &[allow_paths(
            "get",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ \
             /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    role(
        "system:auth-delegator",
        &[
            allow("create", "authentication.k8s.io", "tokenreviews"),
            allow("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    role("system:kube-aggregator", &[allow(READ, "core", "services endpoints")]),
    role(
        "system:kube-dns",
        &[
            allow("list watch", "core", "endpoints services"),
            allow("list watch", "discovery.k8s.io", "endpointslices"),
        ],
    ),
    role(
        "system:persistent-volume-provisioner",
        &[
            allow("create delete get list watch", "core", "persistentvolumes"),
            allow("get list update watch", "core", "persistentvolumeclaims"),
            allow(READ, "storage.k8s.io", "storageclasses"),
            allow("watch", "core", "events"),
            EVENTS,
        ],
    ),
    role(
        "system:volume-scheduler",
        &[
            allow(READ_UPDATE, "core", "persistentvolumes persistentvolumeclaims"),
            allow(READ, "storage.k8s.io", "storageclasses"),
        ],
    ),
    role(
        "system:kubelet-api-admin",
        &[
            allow(READ, "core", "nodes"),
            allow("proxy", "core", "nodes"),
            allow(
                "*",
                "core",
                "nodes/proxy nodes/metrics nodes/stats nodes/log nodes/healthz nodes/pods nodes/configz",
            ),
        ],
    ),
    role(
        "system:node-problem-detector",
        &[allow("get", "core", "nodes"), allow("patch", "core", "nodes/status"), EVENTS],
    ),
    role(
        "system:node-bootstrapper",
        &[allow("create get list watch", "certificates.k8s.io", "certificatesigningrequests")],
    ),
    role(
        "system:node-proxier",
        &[
            allow("list watch", "core", "services endpoints"),
            allow(READ, "core", "nodes"),
            EVENTS,
            allow("list watch", "discovery.k8s.io", "endpointslices"),
            allow("list watch", "networking.k8s.io", "servicecidrs"),
        ],
    ),
    role("system:node", NODE),
    // What CoreDNS has where it is installed, as far as our DNS needs it.
    role("system:coredns", NAMES_OF_SERVICES),
    // An agent carries services and answers their names under the node's own identity.
    role("sampan:node-services", NAMES_OF_SERVICES),
    role("system:kube-scheduler", SCHEDULER),
    role("system:kube-controller-manager", CONTROLLER_MANAGER),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[allow("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")],
    ),
    role(
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[allow("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")],
    ),
    role(
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[allow_named("approve", "certificates.k8s.io", "signers", "kubernetes.io/legacy-unknown")],
    ),
    role(
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[allow_named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kubelet-serving")],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[allow_named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client")],
    ),
    role(
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[allow_named(
            "approve",
            "certificates.k8s.io",
            "signers",
            "kubernetes.io/kube-apiserver-client-kubelet",
        )],
    ),
];

const EDIT: &[Rule] = &[
    allow(READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    allow("impersonate", "core", "serviceaccounts"),
    allow(WRITE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    allow("create", "core", "pods/eviction serviceaccounts/token"),
    allow("patch update", "core", "pods/resize"),
    allow(
        WRITE,
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets \
         serviceaccounts services services/proxy",
    ),
    allow(
        WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale \
         statefulsets statefulsets/scale",
    ),
    allow(WRITE, "autoscaling", "horizontalpodautoscalers"),
    allow(WRITE, "batch", "cronjobs jobs"),
    allow(
        WRITE,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets \
         replicasets/scale replicationcontrollers/scale",
    ),
    allow(WRITE, "policy", "poddisruptionbudgets"),
    allow(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    allow(READ_WRITE, "coordination.k8s.io", "leases"),
    allow(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
];

const VIEW: &[Rule] = &[
    allow(
        READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers \
         replicationcontrollers/scale serviceaccounts services services/status",
    ),
    allow(
        READ,
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status \
         resourcequotas resourcequotas/status",
    ),
    allow(READ, "core", "namespaces"),
    allow(READ, "discovery.k8s.io", "endpointslices"),
    allow(
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status \
         replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    allow(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    allow(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    allow(
        READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses \
         ingresses/status networkpolicies replicasets replicasets/scale replicasets/status \
         replicationcontrollers/scale",
    ),
    allow(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    allow(READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    allow(READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
];

pub(super) const NODE: &[Rule] = &[
    allow("create", "authentication.k8s.io", "tokenreviews"),
    allow("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
    allow(READ, "core", "services"),
    allow("create get list watch", "core", "nodes"),
    allow("patch update", "core", "nodes nodes/status"),
    allow("create patch update", "core events.k8s.io", "events"),
    allow(READ, "core", "pods"),
    allow("create delete", "core", "pods"),
    allow("patch update", "core", "pods/status"),
    allow("create", "core", "pods/eviction"),
    allow(READ, "core", "configmaps secrets"),
    allow("get", "core", "endpoints persistentvolumeclaims persistentvolumes"),
    allow("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    allow("create delete get patch update", "coordination.k8s.io", "leases"),
    allow("get", "storage.k8s.io", "volumeattachments"),
    allow("create", "core", "serviceaccounts/token"),
    allow("get", "core", "serviceaccounts"),
    allow("get patch update", "core", "persistentvolumeclaims/status"),
    allow(READ, "storage.k8s.io", "csidrivers"),
    allow("create delete get patch update", "storage.k8s.io", "csinodes"),
    allow(READ, "node.k8s.io", "runtimeclasses"),
    allow("get", "resource.k8s.io", "resourceclaims"),
    allow("deletecollection", "resource.k8s.io", "resourceslices"),
    allow("create delete get list patch update watch", "resource.k8s.io", "resourceslices"),
];

const NAMES_OF_SERVICES: &[Rule] = &[
    allow("list watch", "core", "namespaces services"),
    allow("list watch", "discovery.k8s.io", "endpointslices"),
];

const SCHEDULER: &[Rule] = &[
    EVENTS,
    allow("create", "coordination.k8s.io", "leases"),
    allow_named("get update", "coordination.k8s.io", "leases", "kube-scheduler"),
    allow("list watch", "coordination.k8s.io", "leases"),
    allow(READ, "core", "nodes"),
    allow("delete get list watch", "core", "pods"),
    allow("create", "core", "bindings pods/binding"),
    allow("patch update", "core", "pods/status"),
    allow(READ, "core", "replicationcontrollers services"),
    allow(READ, "apps extensions", "replicasets"),
    allow(READ, "apps", "statefulsets"),
    allow(READ, "policy", "poddisruptionbudgets"),
    allow(READ, "core", "persistentvolumeclaims persistentvolumes"),
    allow("create", "authentication.k8s.io", "tokenreviews"),
    allow("create", "authorization.k8s.io", "subjectaccessreviews"),
    allow(READ, "storage.k8s.io", "csidrivers csinodes csistoragecapacities volumeattachments"),
    allow(READ, "core", "namespaces"),
    allow(READ, "resource.k8s.io", "deviceclasses resourceclaims resourceslices"),
    allow("patch update", "resource.k8s.io", "resourceclaims resourceclaims/status"),
];

const CONTROLLER_MANAGER: &[Rule] = &[
    EVENTS,
    allow("create", "coordination.k8s.io", "leases"),
    allow_named("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
    allow("create", "core", "secrets serviceaccounts"),
    allow("delete", "core", "secrets"),
    allow("get", "core", "configmaps namespaces secrets serviceaccounts"),
    allow("update", "core", "secrets serviceaccounts"),
    allow("create", "authentication.k8s.io", "tokenreviews"),
    allow("create", "authorization.k8s.io", "subjectaccessreviews"),
    allow("list watch", "*", "*"),
    allow("create", "core", "serviceaccounts/token"),
];

pub(super) const CLUSTER_BINDINGS: &[(&str, &[SubjectData])] = &[
    ("cluster-admin", &[Group("system:masters")]),
    ("system:monitoring", &[Group("system:monitoring")]),
    ("system:discovery", &[Group("system:authenticated")]),
    ("system:basic-user", &[Group("system:authenticated")]),
    ("system:public-info-viewer", &[Group("system:authenticated"), Group("system:unauthenticated")]),
    ("system:node-proxier", &[User("system:kube-proxy")]),
    ("system:kube-controller-manager", &[User("system:kube-controller-manager")]),
    ("system:kube-dns", &[ServiceAccount { namespace: "kube-system", name: "kube-dns" }]),
    ("system:kube-scheduler", &[User("system:kube-scheduler")]),
    ("system:volume-scheduler", &[User("system:kube-scheduler")]),
    // Without subjects: the Node authorizer knows what each node may.
    ("system:node", &[]),
    ("system:coredns", &[ServiceAccount { namespace: "kube-system", name: "coredns" }]),
    ("sampan:node-services", &[Group("system:nodes")]),
    // A node renews its own certificate. Upstream leaves that to its installers, which all do this.
    ("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", &[Group("system:nodes")]),
    ("system:service-account-issuer-discovery", &[Group("system:serviceaccounts")]),
];

pub(super) const NAMESPACE_ROLES: &[(&str, &str, &[Rule])] = &[
    // By which nodes learn that an authority is rotated.
    (
        "kube-public",
        "sampan:cluster-authority",
        &[allow_named(READ, "core", "configmaps", "kube-root-ca.crt")],
    ),
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        &[allow_named(READ, "core", "configmaps", "extension-apiserver-authentication")],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        &[
            allow("watch", "core", "configmaps"),
            allow_named("get update", "core", "configmaps", "kube-controller-manager"),
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        &[
            allow("watch", "core", "configmaps"),
            allow_named("get update", "core", "configmaps", "kube-scheduler"),
        ],
    ),
];

pub(super) const NAMESPACE_BINDINGS: &[(&str, &str, &str, &[SubjectData])] = &[
    ("kube-public", "sampan:cluster-authority", "sampan:cluster-authority", &[Group("system:nodes")]),
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &[User("system:kube-controller-manager"), User("system:kube-scheduler")],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[
            User("system:kube-controller-manager"),
            ServiceAccount { namespace: "kube-system", name: "kube-controller-manager" },
        ],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &[User("system:kube-scheduler"), ServiceAccount { namespace: "kube-system", name: "kube-scheduler" }],
    ),
];
