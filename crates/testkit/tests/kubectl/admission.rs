//! What admission changes and refuses, as kubectl shows it.

use sampan_testkit::Cluster;

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  nodeSelector: {nobody: has-this}
  containers:
  - name: c
    image: example.com/none:1
";

fn pod(name: &str, more: &str) -> String {
    format!("{}{more}", POD.replace("NAME", name))
}

pub fn quota(cluster: &mut Cluster) {
    let namespace = cluster.namespace("quota");
    namespace.kubectl(&["create", "quota", "q", "--hard=pods=2,requests.cpu=1,count/configmaps=2"]).ok();
    // The certificates of the cluster are the first one.
    namespace.wait_for("quota/q", ".status.used.count/configmaps", "1");
    namespace
        .kubectl_stdin(&["create", "-f", "-"], &pod("silent", ""))
        .fails()
        .says(&["Error from server (Forbidden): error when creating \"STDIN\": pods \"silent\" is forbidden: failed quota: q: must specify requests.cpu for: c"]);
    let asks = |cpu: &str| format!("    resources: {{requests: {{cpu: {cpu}}}}}\n");
    namespace.kubectl_stdin(&["create", "-f", "-"], &pod("a", &asks("600m"))).ok();
    namespace
        .kubectl_stdin(&["create", "-f", "-"], &pod("b", &asks("600m")))
        .fails()
        .says(&["pods \"b\" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1"]);
    namespace.kubectl_stdin(&["create", "-f", "-"], &pod("c", &asks("400m"))).ok();
    namespace
        .kubectl(&["describe", "quota", "q"])
        .ok()
        .matches(r"^count/configmaps +1 +2$")
        .matches(r"^pods +2 +2$")
        .matches(r"^requests.cpu +1 +1$");
    namespace.kubectl(&["create", "configmap", "one"]).ok();
    namespace
        .kubectl(&["create", "configmap", "two"])
        .fails()
        .says(&["error: failed to create configmap: configmaps \"two\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=2, limited: count/configmaps=2"]);
    namespace.kubectl(&["delete", "pod/a", "configmap/one"]).ok();
    namespace.wait_for("quota/q", ".status.used.pods", "1");
    namespace.wait_for("quota/q", ".status.used.count/configmaps", "1");
}

pub fn limit_range(cluster: &mut Cluster) {
    let namespace = cluster.namespace("limits");
    namespace.apply(
        "
apiVersion: v1
kind: LimitRange
metadata: {name: limits}
spec:
  limits:
  - type: Container
    default: {cpu: 500m}
    defaultRequest: {cpu: 100m}
    max: {cpu: '1'}
",
    );
    namespace.kubectl_stdin(&["create", "-f", "-"], &pod("a", "")).ok();
    let path =
        "jsonpath={.spec.containers[0].resources} {.metadata.annotations.kubernetes\\.io/limit-ranger}";
    namespace
        .kubectl(&["get", "pod", "a", "-o", path])
        .ok()
        .is("{\"limits\":{\"cpu\":\"500m\"},\"requests\":{\"cpu\":\"100m\"}} \
         LimitRanger plugin set: cpu request for container c; cpu limit for container c");
    namespace
        .kubectl_stdin(&["create", "-f", "-"], &pod("b", "    resources: {limits: {cpu: 2}}\n"))
        .fails()
        .says(&["pods \"b\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"]);
    namespace.kubectl(&["describe", "limits"]).ok().matches(r"^Container +cpu +- +1 +100m +500m +-$");
}

pub fn pod_security(cluster: &mut Cluster) {
    let namespace = cluster.namespace("standards");
    let label = |label: &str| cluster.kubectl(&["label", "--overwrite", "namespace", "standards", label]);
    namespace
        .kubectl_stdin(&["create", "-f", "-"], &pod("early", "    securityContext: {privileged: true}\n"))
        .ok();
    label("pod-security.kubernetes.io/enforce=baseline").ok().says(&[
        "Warning: existing pods in namespace \"standards\" violate the new PodSecurity enforce level \"baseline:latest\"",
        "Warning: early: privileged",
    ]);
    namespace
        .kubectl_stdin(&["create", "-f", "-"], &pod("late", "    securityContext: {privileged: true}\n"))
        .fails()
        .says(&["pods \"late\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"c\" must not set securityContext.privileged=true)"]);
    label("pod-security.kubernetes.io/warn=restricted").ok();
    namespace
        .kubectl(&["create", "deployment", "d", "--image=example.com/none:1", "--replicas=0"])
        .ok()
        .says(&["Warning: would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"none\" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"none\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"none\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"none\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"]);
    label("pod-security.kubernetes.io/enforce=strict").fails().says(&[
        "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted",
    ]);
}

pub fn priority(cluster: &mut Cluster) {
    let namespace = cluster.namespace("priorities");
    cluster.kubectl(&["create", "priorityclass", "seven", "--value=7"]).ok();
    namespace.kubectl_stdin(&["create", "-f", "-"], &pod("a", "  priorityClassName: seven\n")).ok();
    namespace.kubectl(&["get", "pod", "a", "-o", "jsonpath={.spec.priority}"]).ok().is("7");
    namespace
        .kubectl_stdin(&["create", "-f", "-"], &pod("b", "  priorityClassName: eight\n"))
        .fails()
        .says(&["pods \"b\" is forbidden: no PriorityClass with name eight was found"]);
    namespace
        .kubectl_stdin(&["create", "-f", "-"], &pod("c", "  priorityClassName: seven\n  priority: 8\n"))
        .fails()
        .says(&["the integer value of priority (8) must not be provided in pod spec; priority admission controller computed 7 from the given PriorityClass name"]);
    cluster.kubectl(&["delete", "priorityclass", "seven"]).ok();
}
