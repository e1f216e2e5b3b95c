//! The types from which every other one is reached: each served kind and each body of a
//! subresource or of an answer.

use k8s_openapi::api::{
    admissionregistration::v1 as admissionregistration,
    admissionregistration::v1beta1 as admissionregistration_v1beta1, apps::v1 as apps,
    authentication::v1 as authentication, authorization::v1 as authorization,
    autoscaling::v1 as autoscaling_v1, autoscaling::v2 as autoscaling_v2, batch::v1 as batch,
    certificates::v1 as certificates, coordination::v1 as coordination, core::v1 as core,
    discovery::v1 as discovery, events::v1 as events, flowcontrol::v1 as flowcontrol,
    networking::v1 as networking, node::v1 as node, policy::v1 as policy, rbac::v1 as rbac,
    resource::v1 as resource, scheduling::v1 as scheduling, storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
use serde_json::{Map, Value};

macro_rules! roots {
    ($($module:ident: $($kind:ident)+;)+) => {
        /// Name to JSON schema, of the roots and of everything that they refer to.
        pub fn definitions() -> Map<String, Value> {
            let mut generator = schemars::SchemaGenerator::default();
            $($(generator.subschema_for::<$module::$kind>();)+)+
            generator.take_definitions(true)
        }
    };
}

roots! {
    core: Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
        PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount;
    apps: ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet;
    batch: CronJob Job;
    autoscaling_v1: HorizontalPodAutoscaler Scale;
    autoscaling_v2: HorizontalPodAutoscaler;
    policy: Eviction PodDisruptionBudget;
    networking: Ingress IngressClass IPAddress NetworkPolicy ServiceCIDR;
    rbac: ClusterRole ClusterRoleBinding Role RoleBinding;
    storage: CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass;
    coordination: Lease;
    discovery: EndpointSlice;
    events: Event;
    scheduling: PriorityClass;
    node: RuntimeClass;
    certificates: CertificateSigningRequest;
    admissionregistration: MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding
        ValidatingWebhookConfiguration;
    admissionregistration_v1beta1: MutatingAdmissionPolicy MutatingAdmissionPolicyBinding;
    apiextensions: CustomResourceDefinition;
    apiregistration: APIService;
    authentication: SelfSubjectReview TokenRequest TokenReview;
    authorization: LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview;
    flowcontrol: FlowSchema PriorityLevelConfiguration;
    resource: DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice;
    meta: APIGroup APIGroupList APIResourceList APIVersions DeleteOptions Patch Status;
}
