//! The resources that Kubernetes 1.35 serves by default, and mutating admission policies, which it serves
//! where they are switched on.

use super::verbs::{Verb, Verbs};
use super::{ResourceDef, SchemaRef, SelectableField, Storage, Subresource, SubresourceRole};
use crate::resource::Gvr;
use crate::schema::Name;

const STATUS_VERBS: Verbs = Verbs::of(&[Verb::Get, Verb::Patch, Verb::Update]);
const CREATE: Verbs = Verbs::of(&[Verb::Create]);
const CONNECT: Verbs = Verbs::of(&[Verb::Create, Verb::Get]);
const PROXY: Verbs = Verbs::of(&[Verb::Create, Verb::Delete, Verb::Get, Verb::Patch, Verb::Update]);

/// Groups in the order of discovery, with the package of their types.
const GROUPS: [(&str, &str); 21] = [
    ("", "io.k8s.api.core"),
    ("apiregistration.k8s.io", "io.k8s.kube-aggregator.pkg.apis.apiregistration"),
    ("apps", "io.k8s.api.apps"),
    ("events.k8s.io", "io.k8s.api.events"),
    ("authentication.k8s.io", "io.k8s.api.authentication"),
    ("authorization.k8s.io", "io.k8s.api.authorization"),
    ("autoscaling", "io.k8s.api.autoscaling"),
    ("batch", "io.k8s.api.batch"),
    ("certificates.k8s.io", "io.k8s.api.certificates"),
    ("networking.k8s.io", "io.k8s.api.networking"),
    ("policy", "io.k8s.api.policy"),
    ("rbac.authorization.k8s.io", "io.k8s.api.rbac"),
    ("storage.k8s.io", "io.k8s.api.storage"),
    ("admissionregistration.k8s.io", "io.k8s.api.admissionregistration"),
    ("apiextensions.k8s.io", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions"),
    ("scheduling.k8s.io", "io.k8s.api.scheduling"),
    ("coordination.k8s.io", "io.k8s.api.coordination"),
    ("node.k8s.io", "io.k8s.api.node"),
    ("discovery.k8s.io", "io.k8s.api.discovery"),
    ("flowcontrol.apiserver.k8s.io", "io.k8s.api.flowcontrol"),
    ("resource.k8s.io", "io.k8s.api.resource"),
];

/// The place of a group in discovery; groups of custom resources come last.
pub(super) fn group_rank(group: &str) -> usize {
    GROUPS.iter().position(|(name, _)| *name == group).unwrap_or(GROUPS.len())
}

/// The group of a package of types, the other way round of what [`schema_name`] does.
fn schema_name(group: &str, version: &str, kind: &str) -> &'static str {
    let package = GROUPS[group_rank(group)].1;
    let name = format!("{package}.{version}.{kind}");
    let schema = crate::schema::builtin();
    schema.static_name(&name).expect("every built-in resource has a type (tested)")
}

fn names(list: &[&'static str]) -> Vec<Name> {
    list.iter().map(|name| Name::Borrowed(*name)).collect()
}

/// One built-in resource; the methods below refine it.
fn resource(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
) -> ResourceDef {
    let gvr = Gvr::new(group, version, plural);
    let prefix = match group {
        "apiregistration.k8s.io" | "apiextensions.k8s.io" => format!("/registry/{group}/{plural}"),
        _ => format!("/registry/{plural}"),
    };
    ResourceDef {
        kind: kind.into(),
        list_kind: format!("{kind}List").into(),
        singular: kind.to_ascii_lowercase().into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced: true,
        verbs: Verbs::ALL,
        subresources: Vec::new(),
        schema: SchemaRef::Builtin(schema_name(group, version, kind)),
        fields: Vec::new(),
        storage: Some(Storage { prefix: prefix.into(), stored_as: gvr.clone() }),
        custom: false,
        version: None,
        gvr,
    }
}

impl ResourceDef {
    fn cluster(mut self) -> Self {
        self.namespaced = false;
        self
    }

    fn short(mut self, list: &[&'static str]) -> Self {
        self.short_names = names(list);
        self
    }

    fn categories(mut self, list: &[&'static str]) -> Self {
        self.categories = names(list);
        self
    }

    fn verbs(mut self, verbs: Verbs) -> Self {
        self.verbs = verbs;
        self
    }

    fn prefix(mut self, prefix: &'static str) -> Self {
        self.storage = Some(Storage { prefix: prefix.into(), stored_as: self.gvr.clone() });
        self
    }

    /// Stored as another version or group of the same resource.
    fn stored_as(mut self, group: &'static str, version: &'static str) -> Self {
        let stored_as =
            Gvr { group: group.into(), version: version.into(), resource: self.gvr.resource.clone() };
        if let Some(storage) = &mut self.storage {
            storage.stored_as = stored_as;
        }
        self
    }

    /// Answered, never stored.
    fn unstored(mut self, verbs: Verbs) -> Self {
        self.storage = None;
        self.verbs = verbs;
        self
    }

    /// A subresource whose body is the object itself.
    fn own(mut self, name: &'static str, role: SubresourceRole, verbs: Verbs) -> Self {
        let (group, version) = (self.gvr.group.clone(), self.gvr.version.clone());
        let kind = self.kind.clone();
        self.subresources.push(Subresource {
            name: name.into(),
            role,
            verbs,
            group,
            version,
            kind,
            schema: None,
        });
        self
    }

    fn status(self) -> Self {
        self.own("status", SubresourceRole::Status, STATUS_VERBS)
    }

    fn part(self, name: &'static str, verbs: Verbs) -> Self {
        self.own(name, SubresourceRole::Part, verbs)
    }

    /// A subresource with a body of another kind.
    fn other(
        mut self,
        name: &'static str,
        role: SubresourceRole,
        verbs: Verbs,
        (group, version, kind): (&'static str, &'static str, &'static str),
    ) -> Self {
        self.subresources.push(Subresource {
            name: name.into(),
            role,
            verbs,
            group: group.into(),
            version: version.into(),
            kind: kind.into(),
            schema: Some(schema_name(group, version, kind)),
        });
        self
    }

    fn action(self, name: &'static str, body: (&'static str, &'static str, &'static str)) -> Self {
        self.other(name, SubresourceRole::Action, CREATE, body)
    }

    /// A stream or a proxy: its options travel in the query, so there is no body with a type.
    fn connect(mut self, name: &'static str, kind: &'static str, verbs: Verbs) -> Self {
        let role = SubresourceRole::Connect;
        let (group, version) = (self.gvr.group.clone(), self.gvr.version.clone());
        self.subresources.push(Subresource {
            name: name.into(),
            role,
            verbs,
            group,
            version,
            kind: kind.into(),
            schema: None,
        });
        self
    }

    fn scale(self, selector: Option<&'static str>) -> Self {
        let role = SubresourceRole::Scale {
            spec_replicas: "spec.replicas".into(),
            status_replicas: "status.replicas".into(),
            selector: selector.map(Name::Borrowed),
        };
        self.other("scale", role, STATUS_VERBS, ("autoscaling", "v1", "Scale"))
    }

    fn field(self, name: &'static str) -> Self {
        self.field_at(name, name, None, "")
    }

    fn field_or(self, name: &'static str, absent: &'static str) -> Self {
        self.field_at(name, name, None, absent)
    }

    /// `path` and `fallback` are dotted.
    fn field_at(
        mut self,
        name: &'static str,
        path: &str,
        fallback: Option<&str>,
        absent: &'static str,
    ) -> Self {
        self.fields.push(SelectableField {
            name: name.into(),
            path: path.replace('.', "/").into(),
            fallback: fallback.map(|path| path.replace('.', "/").into()),
            absent: absent.into(),
        });
        self
    }
}

/// Every built-in resource. Their order does not matter.
pub(super) fn entries() -> Vec<ResourceDef> {
    let mut all = core();
    all.extend(workloads());
    all.extend(access());
    all.extend(network());
    all.extend(storage());
    all.extend(extension());
    all
}

fn core() -> Vec<ResourceDef> {
    let v1 = |plural, kind| resource("", "v1", plural, kind);
    let without_collection = Verbs::of(&[
        Verb::Create,
        Verb::Delete,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ]);
    vec![
        v1("bindings", "Binding").unstored(CREATE),
        v1("componentstatuses", "ComponentStatus")
            .cluster()
            .short(&["cs"])
            .unstored(Verbs::of(&[Verb::Get, Verb::List])),
        v1("configmaps", "ConfigMap").short(&["cm"]),
        v1("endpoints", "Endpoints").short(&["ep"]).prefix("/registry/services/endpoints"),
        event_fields(v1("events", "Event"), "involvedObject", "reportingComponent").short(&["ev"]).field_at(
            "source",
            "source.component",
            Some("reportingComponent"),
            "",
        ),
        v1("limitranges", "LimitRange").short(&["limits"]),
        v1("namespaces", "Namespace")
            .cluster()
            .short(&["ns"])
            .verbs(without_collection)
            .part("finalize", Verbs::of(&[Verb::Update]))
            .status()
            .field("status.phase"),
        v1("nodes", "Node")
            .cluster()
            .short(&["no"])
            .prefix("/registry/minions")
            .connect("proxy", "NodeProxyOptions", PROXY)
            .status()
            .field_or("spec.unschedulable", "false"),
        v1("persistentvolumeclaims", "PersistentVolumeClaim").short(&["pvc"]).status(),
        v1("persistentvolumes", "PersistentVolume").cluster().short(&["pv"]).status(),
        pods(),
        v1("podtemplates", "PodTemplate"),
        v1("replicationcontrollers", "ReplicationController")
            .short(&["rc"])
            .categories(&["all"])
            .prefix("/registry/controllers")
            .scale(Some("spec.selector"))
            .status()
            .field_or("status.replicas", "0"),
        v1("resourcequotas", "ResourceQuota").short(&["quota"]).status(),
        v1("secrets", "Secret").field("type"),
        v1("serviceaccounts", "ServiceAccount")
            .short(&["sa"])
            .action("token", ("authentication.k8s.io", "v1", "TokenRequest")),
        v1("services", "Service")
            .short(&["svc"])
            .categories(&["all"])
            .prefix("/registry/services/specs")
            .connect("proxy", "ServiceProxyOptions", PROXY)
            .status()
            .field("spec.clusterIP")
            .field("spec.type"),
    ]
}

fn pods() -> ResourceDef {
    resource("", "v1", "pods", "Pod")
        .short(&["po"])
        .categories(&["all"])
        .connect("attach", "PodAttachOptions", CONNECT)
        .action("binding", ("", "v1", "Binding"))
        .part("ephemeralcontainers", STATUS_VERBS)
        .action("eviction", ("policy", "v1", "Eviction"))
        .connect("exec", "PodExecOptions", CONNECT)
        .connect("log", "Pod", Verbs::of(&[Verb::Get]))
        .connect("portforward", "PodPortForwardOptions", CONNECT)
        .connect("proxy", "PodProxyOptions", PROXY)
        .part("resize", STATUS_VERBS)
        .status()
        .field("spec.nodeName")
        .field("spec.restartPolicy")
        .field("spec.schedulerName")
        .field("spec.serviceAccountName")
        .field_or("spec.hostNetwork", "false")
        .field("status.phase")
        .field_at("status.podIP", "status.podIPs.0.ip", Some("status.podIP"), "")
        .field_at("status.podIPs", "status.podIPs.0.ip", Some("status.podIP"), "")
        .field("status.nominatedNodeName")
}

/// The fields of an event under the names of its group; paths are those of the stored core/v1.
fn event_fields(mut event: ResourceDef, object: &str, reporter: &'static str) -> ResourceDef {
    for part in ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"] {
        event.fields.push(SelectableField {
            name: format!("{object}.{part}").into(),
            path: format!("involvedObject/{part}").into(),
            fallback: None,
            absent: "".into(),
        });
    }
    event.field("reason").field("type").field_at(reporter, "reportingComponent", None, "")
}

fn workloads() -> Vec<ResourceDef> {
    let apps = |plural, kind| resource("apps", "v1", plural, kind);
    let hpa = |version| {
        resource("autoscaling", version, "horizontalpodautoscalers", "HorizontalPodAutoscaler")
            .short(&["hpa"])
            .categories(&["all"])
            .stored_as("autoscaling", "v2")
            .status()
    };
    vec![
        apps("controllerrevisions", "ControllerRevision"),
        apps("daemonsets", "DaemonSet").short(&["ds"]).categories(&["all"]).status(),
        apps("deployments", "Deployment")
            .short(&["deploy"])
            .categories(&["all"])
            .scale(Some("spec.selector"))
            .status(),
        apps("replicasets", "ReplicaSet")
            .short(&["rs"])
            .categories(&["all"])
            .scale(Some("spec.selector"))
            .status()
            .field_or("status.replicas", "0"),
        apps("statefulsets", "StatefulSet")
            .short(&["sts"])
            .categories(&["all"])
            .scale(Some("spec.selector"))
            .status(),
        resource("batch", "v1", "cronjobs", "CronJob").short(&["cj"]).categories(&["all"]).status(),
        resource("batch", "v1", "jobs", "Job").categories(&["all"]).status().field_at(
            "status.successful",
            "status.succeeded",
            None,
            "0",
        ),
        hpa("v2"),
        hpa("v1"),
        resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget").short(&["pdb"]).status(),
        resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass").cluster().short(&["pc"]),
        resource("coordination.k8s.io", "v1", "leases", "Lease"),
        resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass").cluster(),
        event_fields(resource("events.k8s.io", "v1", "events", "Event"), "regarding", "reportingController")
            .short(&["ev"])
            .stored_as("", "v1"),
    ]
}

fn access() -> Vec<ResourceDef> {
    let authentication =
        |plural, kind| resource("authentication.k8s.io", "v1", plural, kind).unstored(CREATE);
    let authorization = |plural, kind| resource("authorization.k8s.io", "v1", plural, kind).unstored(CREATE);
    let rbac = |plural, kind| resource("rbac.authorization.k8s.io", "v1", plural, kind);
    vec![
        authentication("selfsubjectreviews", "SelfSubjectReview").cluster(),
        authentication("tokenreviews", "TokenReview").cluster(),
        authorization("localsubjectaccessreviews", "LocalSubjectAccessReview"),
        authorization("selfsubjectaccessreviews", "SelfSubjectAccessReview").cluster(),
        authorization("selfsubjectrulesreviews", "SelfSubjectRulesReview").cluster(),
        authorization("subjectaccessreviews", "SubjectAccessReview").cluster(),
        rbac("clusterrolebindings", "ClusterRoleBinding").cluster(),
        rbac("clusterroles", "ClusterRole").cluster(),
        rbac("rolebindings", "RoleBinding"),
        rbac("roles", "Role"),
        resource("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest")
            .cluster()
            .short(&["csr"])
            .part("approval", STATUS_VERBS)
            .status()
            .field("spec.signerName"),
    ]
}

fn network() -> Vec<ResourceDef> {
    let networking = |plural, kind| resource("networking.k8s.io", "v1", plural, kind);
    vec![
        networking("ingressclasses", "IngressClass").cluster(),
        networking("ingresses", "Ingress").short(&["ing"]).prefix("/registry/ingress").status(),
        networking("ipaddresses", "IPAddress").cluster().short(&["ip"]),
        networking("networkpolicies", "NetworkPolicy").short(&["netpol"]),
        networking("servicecidrs", "ServiceCIDR").cluster().status(),
        resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    ]
}

fn storage() -> Vec<ResourceDef> {
    let storage = |plural, kind| resource("storage.k8s.io", "v1", plural, kind);
    let devices = |plural, kind| resource("resource.k8s.io", "v1", plural, kind);
    vec![
        storage("csidrivers", "CSIDriver").cluster(),
        storage("csinodes", "CSINode").cluster(),
        storage("csistoragecapacities", "CSIStorageCapacity"),
        storage("storageclasses", "StorageClass").cluster().short(&["sc"]),
        storage("volumeattachments", "VolumeAttachment").cluster().status(),
        storage("volumeattributesclasses", "VolumeAttributesClass").cluster().short(&["vac"]),
        devices("deviceclasses", "DeviceClass").cluster(),
        devices("resourceclaims", "ResourceClaim").status(),
        devices("resourceclaimtemplates", "ResourceClaimTemplate"),
        devices("resourceslices", "ResourceSlice").cluster().field("spec.nodeName").field("spec.driver"),
    ]
}

fn extension() -> Vec<ResourceDef> {
    let admission_in = |version, plural, kind| {
        resource("admissionregistration.k8s.io", version, plural, kind)
            .cluster()
            .categories(&["api-extensions"])
    };
    let admission = |plural, kind| admission_in("v1", plural, kind);
    let flow = |plural, kind| resource("flowcontrol.apiserver.k8s.io", "v1", plural, kind).cluster().status();
    vec![
        admission_in("v1beta1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy"),
        admission_in("v1beta1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding"),
        admission("mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
        admission("validatingadmissionpolicies", "ValidatingAdmissionPolicy").status(),
        admission("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding"),
        admission("validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
        resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition")
            .cluster()
            .short(&["crd", "crds"])
            .categories(&["api-extensions"])
            .status(),
        resource("apiregistration.k8s.io", "v1", "apiservices", "APIService")
            .cluster()
            .categories(&["api-extensions"])
            .status(),
        flow("flowschemas", "FlowSchema"),
        flow("prioritylevelconfigurations", "PriorityLevelConfiguration"),
    ]
}
