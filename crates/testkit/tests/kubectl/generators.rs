//! What `kubectl create`, `autoscale` and `set` make without a manifest.

use sampan_testkit::Cluster;

pub fn services(cluster: &mut Cluster) {
    let namespace = cluster.namespace("services");
    let create = |arguments: &[&str]| {
        let name = arguments[1];
        let command = [&["create", "service"], arguments].concat();
        namespace.kubectl(&command).ok().is(&format!("service/{name} created"));
    };
    create(&["clusterip", "inside", "--tcp=80:8080"]);
    create(&["clusterip", "headless", "--clusterip=None", "--tcp=80"]);
    create(&["nodeport", "door", "--tcp=80:8080"]);
    create(&["loadbalancer", "gate", "--tcp=80"]);
    create(&["externalname", "away", "--external-name=example.com"]);
    namespace
        .kubectl(&["get", "services"])
        .ok()
        .matches(r"^inside +ClusterIP +10\.43\.\S+ +<none> +80/TCP ")
        .matches(r"^headless +ClusterIP +None +<none> +80/TCP ")
        .matches(r"^door +NodePort +10\.43\.\S+ +<none> +80:3\d{4}/TCP ")
        .matches(r"^gate +LoadBalancer +10\.43\.\S+ +<pending> +80:3\d{4}/TCP ")
        .matches(r"^away +ExternalName +<none> +example.com +<none> ");
    namespace
        .kubectl(&["set", "selector", "service", "inside", "app=front"])
        .ok()
        .is("service/inside selector updated");
    assert_eq!(namespace.get("service/inside", ".spec.selector"), r#"{"app":"front"}"#);
}

pub fn secrets_and_bindings(cluster: &mut Cluster) {
    let namespace = cluster.namespace("generated");
    namespace
        .kubectl(&[
            "create",
            "secret",
            "docker-registry",
            "pull",
            "--docker-server=r.example.com",
            "--docker-username=u",
            "--docker-password=p",
        ])
        .ok()
        .is("secret/pull created");
    namespace.kubectl(&["get", "secrets"]).ok().matches(r"^pull +kubernetes.io/dockerconfigjson +1 ");
    cluster
        .kubectl(&["create", "clusterrolebinding", "watchers", "--clusterrole=view", "--group=watchers"])
        .ok()
        .is("clusterrolebinding.rbac.authorization.k8s.io/watchers created");
    let as_one = ["get", "cm", "kube-root-ca.crt", "-o", "name", "--as=jane", "--as-group=watchers"];
    namespace.kubectl(&as_one).ok().is("configmap/kube-root-ca.crt");
    cluster.kubectl(&["delete", "clusterrolebinding", "watchers"]).ok();
    namespace.kubectl(&as_one).fails().says(&["User \"jane\" cannot get resource \"configmaps\""]);
}

pub fn jobs(cluster: &mut Cluster) {
    let namespace = cluster.namespace("generated-jobs");
    let image = "--image=example.com/test:1";
    namespace.kubectl(&["create", "cronjob", "yearly", image, "--schedule=0 0 1 1 *", "--", "true"]).ok();
    namespace.kubectl(&["create", "job", "now", "--from=cronjob/yearly"]).ok().is("job.batch/now created");
    let owner = "{.metadata.ownerReferences[0].kind} {.metadata.annotations}";
    namespace
        .kubectl(&["get", "job", "now", "-o", &format!("jsonpath={owner}")])
        .ok()
        .is(r#"CronJob {"cronjob.kubernetes.io/instantiate":"manual"}"#);
    namespace.wait("job/now", "condition=Complete");
}

pub fn deployments(cluster: &mut Cluster) {
    let namespace = cluster.namespace("generated-deployments");
    namespace.kubectl(&["create", "deployment", "web", "--image=example.com/none:1", "--replicas=0"]).ok();
    namespace
        .kubectl(&["autoscale", "deployment", "web", "--min=1", "--max=3", "--cpu-percent=80"])
        .ok()
        .is("horizontalpodautoscaler.autoscaling/web autoscaled");
    namespace
        .kubectl(&["get", "hpa", "web"])
        .ok()
        .matches(r"^NAME +REFERENCE +TARGETS +MINPODS +MAXPODS +REPLICAS +AGE$")
        .matches(r"^web +Deployment/web +cpu: <unknown>/80% +1 +3 +0 ");
    // Before the pods that would need it.
    namespace.kubectl(&["delete", "hpa", "web"]).ok();
    namespace.kubectl(&["create", "serviceaccount", "bot"]).ok();
    namespace
        .kubectl(&["set", "serviceaccount", "deployment/web", "bot"])
        .ok()
        .is("deployment.apps/web serviceaccount updated");
    assert_eq!(namespace.get("deployment/web", ".spec.template.spec.serviceAccountName"), "bot");
    let patch = |subresource: &str, patch: &str| {
        let subresource = format!("--subresource={subresource}");
        namespace.kubectl(&["patch", "deployment", "web", &subresource, "--type=merge", "-p", patch])
    };
    patch("scale", r#"{"spec":{"replicas":0}}"#).ok().is("scale.autoscaling/web patched (no change)");
    // A part of an object takes only what is its own.
    let both = r#"{"spec":{"replicas":7},"status":{"conditions":[{"type":"Example","status":"True"}]}}"#;
    patch("status", both).ok().is("deployment.apps/web patched");
    assert_eq!(namespace.get("deployment/web", ".spec.replicas"), "0");
}
