//! Commands about the cluster, its API and its users.

use std::os::unix::fs::PermissionsExt as _;

use sampan_testkit::Cluster;

pub fn version(cluster: &mut Cluster) {
    cluster.kubectl(&["version"]).ok().matches(r"^Client Version: v1\.").matches(r"^Server Version: v1\.");
}

pub fn cluster_info(cluster: &mut Cluster) {
    cluster.kubectl(&["cluster-info"]).ok().has(&[
        "Kubernetes control plane",
        "is running at",
        "https://127.0.0.1:6443",
    ]);
}

pub fn api_resources(cluster: &mut Cluster) {
    cluster
        .kubectl(&["api-resources"])
        .ok()
        .matches(r"^NAME +SHORTNAMES +APIVERSION +NAMESPACED +KIND$")
        .matches(r"^pods +po +v1 +true +Pod$")
        .matches(r"^nodes +no +v1 +false +Node$")
        .matches(r"^deployments +deploy +apps/v1 +true +Deployment$")
        .matches(r"^horizontalpodautoscalers +hpa +autoscaling/v2 +true +HorizontalPodAutoscaler$")
        .matches(r"^networkpolicies +netpol +networking.k8s.io/v1 +true +NetworkPolicy$");
    cluster
        .kubectl(&["api-resources", "--namespaced=false", "-o", "name"])
        .ok()
        .has(&["namespaces\n"])
        .lacks(&["pods\n"]);
    cluster
        .kubectl(&["api-resources", "--api-group=batch", "--no-headers"])
        .ok()
        .matches(r"^jobs +batch/v1 +true +Job$");
    cluster
        .kubectl(&["api-resources", "--verbs=list,watch", "-o", "wide"])
        .ok()
        .matches(r"^pods .*create,delete,deletecollection,get,list,patch,update,watch +all$");
}

pub fn api_versions(cluster: &mut Cluster) {
    cluster
        .kubectl(&["api-versions"])
        .ok()
        .matches("^v1$")
        .matches("^apps/v1$")
        .matches("^discovery.k8s.io/v1$");
}

pub fn explain(cluster: &mut Cluster) {
    cluster
        .kubectl(&["explain", "pod.spec.containers.livenessProbe"])
        .ok()
        .matches(r"^KIND: +Pod$")
        .matches(r"^VERSION: +v1$")
        .matches(r"^FIELD: livenessProbe <Probe>$")
        .matches(r"^ +initialDelaySeconds\t<integer>$");
    cluster
        .kubectl(&["explain", "deployment.spec.strategy", "--recursive"])
        .ok()
        .matches(r"^GROUP: +apps$")
        .matches(r"^ +maxSurge\t<IntOrString>$");
    cluster.kubectl(&["explain", "pod.spec.nonsense"]).fails().says(&["field \"nonsense\" does not exist"]);
}

pub fn auth_whoami(cluster: &mut Cluster) {
    cluster
        .kubectl(&["auth", "whoami"])
        .ok()
        .matches(r"^ATTRIBUTE +VALUE$")
        .matches(r"^Groups +\[system:masters system:authenticated\]$");
}

pub fn auth_can_i(cluster: &mut Cluster) {
    cluster.kubectl(&["auth", "can-i", "delete", "nodes"]).ok().is("yes");
    let user = "--as=system:serviceaccount:default:default";
    cluster.kubectl(&["auth", "can-i", "list", "secrets", user]).fails().is("no");
    cluster.kubectl(&["get", "secrets", user]).fails().says(&[
        "Error from server (Forbidden): secrets is forbidden: User \"system:serviceaccount:default:default\" \
         cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"",
    ]);
    cluster
        .kubectl(&["create", "clusterrole", "reader", "--verb=get,list", "--resource=secrets"])
        .ok()
        .is("clusterrole.rbac.authorization.k8s.io/reader created");
    cluster
        .kubectl(&[
            "create",
            "rolebinding",
            "read",
            "--clusterrole=reader",
            "--serviceaccount=default:default",
        ])
        .ok();
    cluster.kubectl(&["auth", "can-i", "list", "secrets", user]).ok().is("yes");
    cluster.kubectl(&["auth", "can-i", "list", "secrets", user, "--all-namespaces"]).fails().is("no");
    cluster.kubectl(&["delete", "rolebinding/read", "clusterrole/reader"]).ok();
}

pub fn create_token(cluster: &mut Cluster) {
    let token = cluster.kubectl(&["create", "token", "default", "--duration=1h"]).ok().text();
    assert_eq!(token.split('.').count(), 3, "a JSON web token: {token}");
    // Where its key is to be had: at the server that was asked, by the name that it was asked by, also over HTTP/2.
    let keys = format!("\"jwks_uri\":\"https://{}/openid/v1/jwks\"", sampan_testkit::cluster::API);
    cluster.kubectl(&["get", "--raw", "/.well-known/openid-configuration"]).ok().has(&[&keys]);
    let flag = format!("--token={token}");
    // The admin's certificate would win over the token, so that the configuration must have neither.
    let server = cluster
        .kubectl(&["config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.server}"])
        .ok()
        .text();
    let authority = cluster
        .kubectl(&[
            "config",
            "view",
            "--raw",
            "-o",
            "jsonpath={.clusters[0].cluster.certificate-authority-data}",
        ])
        .ok()
        .text();
    let file = cluster.scratch().join("authority.crt");
    let decoded = cluster.run_with_input(&["base64", "-d"], authority.as_bytes()).ok().stdout;
    std::fs::write(&file, decoded).expect("the scratch directory can be written");
    let authority = format!("--certificate-authority={}", file.display());
    let server = format!("--server={server}");
    cluster
        .kubectl(&["--kubeconfig=/dev/null", &server, &authority, &flag, "auth", "whoami"])
        .ok()
        .matches(r"^Username +system:serviceaccount:default:default$")
        .has(&["system:serviceaccounts:default"]);
    let wrong = format!("{flag}x");
    cluster
        .kubectl(&["--kubeconfig=/dev/null", &server, &authority, &wrong, "get", "pods"])
        .fails()
        // The rest depends on whether kubectl had to discover first.
        .says(&["You must be logged in to the server"]);
}

pub fn get_nodes(cluster: &mut Cluster) {
    cluster
        .kubectl(&["get", "nodes", "-o", "wide"])
        .ok()
        .matches(r"^NAME +STATUS +ROLES +AGE +VERSION +INTERNAL-IP +EXTERNAL-IP +OS-IMAGE +KERNEL-VERSION +CONTAINER-RUNTIME")
        .matches(r"^\S+ +Ready .* v1\.\S+ .* sampan://");
    cluster.kubectl(&["describe", "nodes"]).ok().has(&[
        "Capacity:",
        "Allocatable:",
        "KubeletReady",
        "PodCIDR:",
    ]);
}

pub fn dump(cluster: &mut Cluster) {
    let directory = cluster.scratch().join("dump");
    let flag = format!("--output-directory={}", directory.display());
    cluster.kubectl(&["cluster-info", "dump", &flag]).ok().has(&["Cluster info dumped to"]);
    for file in ["nodes.json", "kube-system/pods.json", "default/services.json", "default/events.json"] {
        let text = std::fs::read(directory.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let list: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert!(list["items"].is_array() || list["items"].is_null(), "{file}: {list}");
    }
}

pub fn absent(cluster: &mut Cluster) {
    cluster.kubectl(&["convert", "-f", "-"]).fails().says(&["unknown command \"convert\" for \"kubectl\""]);
    // A program of the right name on the path is a command.
    let directory = cluster.scratch().join("plugins");
    std::fs::create_dir_all(&directory).expect("the scratch directory can be written");
    let program = directory.join("kubectl-greet");
    std::fs::write(&program, "#!/bin/sh\nexec kubectl get namespace \"$1\" -o name\n").expect("writable");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = format!("PATH={}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());
    cluster.run(&["env", &path, "kubectl", "plugin", "list"]).has(&["/kubectl-greet"]);
    cluster.run(&["env", &path, "kubectl", "greet", "kube-system"]).ok().is("namespace/kube-system");
}

pub fn component_statuses(cluster: &mut Cluster) {
    cluster
        .kubectl(&["get", "cs"])
        .ok()
        .matches(r"(?m)^NAME +STATUS +MESSAGE +ERROR *$")
        .matches(r"(?m)^controller-manager +Healthy +ok")
        .matches(r"(?m)^etcd-0 +Healthy +ok")
        .matches(r"(?m)^scheduler +Healthy +ok")
        .says(&["Warning: v1 ComponentStatus is deprecated in v1.19+"]);
    let one = ["get", "componentstatus", "scheduler", "--output=jsonpath={.conditions[0].type}"];
    cluster.kubectl(&one).ok().is("Healthy");
    cluster
        .kubectl(&["get", "cs", "nobody"])
        .fails()
        .says(&["(NotFound): componentstatuses \"nobody\" not found"]);
}
