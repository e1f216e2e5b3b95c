//! Rotation of authorities and of the token key, while clients go on.

use sampan_testkit::Cluster;

use crate::renewal::copied;

fn sampan(cluster: &Cluster, arguments: &[&str]) -> sampan_testkit::Output {
    let data = cluster.data_dir();
    let data = ["--data-dir", data.to_str().expect("text")];
    cluster.sampan(&[&["certificates"], arguments, &data].concat())
}

fn with<'a>(kubeconfig: &'a std::path::Path, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["--kubeconfig", kubeconfig.to_str().expect("text")], arguments].concat()
}

pub fn of_the_authority(cluster: &mut Cluster) {
    let old = copied(cluster, "old.kubeconfig");
    let bundle = |cluster: &Cluster| {
        let path = "jsonpath={.data.ca\\.crt}";
        cluster.kubectl(&["get", "configmap/kube-root-ca.crt", "--namespace=default", "-o", path]).ok().text()
    };
    let first = bundle(cluster);
    let mut watch = cluster.spawn(&[
        "kubectl",
        "get",
        "configmap/kube-root-ca.crt",
        "--namespace=default",
        "--watch",
        "-o",
        "jsonpath={.data.ca\\.crt}{\"\\n--\\n\"}",
    ]);
    watch.until("^--$");
    sampan(cluster, &["rotate-ca", "begin"]).ok();
    // Pods are told of both.
    watch.until("(?s)^--$.*BEGIN CERTIFICATE.*^--$");
    drop(watch);
    let both = bundle(cluster);
    assert!(both.starts_with(&first) && both.len() > first.len(), "{both}");
    // The kubeconfig in place, and a copy of the old one, which knows the old authority alone.
    let new = copied(cluster, "new.kubeconfig");
    assert_ne!(std::fs::read(&old).expect("read"), std::fs::read(&new).expect("read"));
    for kubeconfig in [&old, &new] {
        cluster.kubectl(&with(kubeconfig, &["get", "nodes"])).ok();
    }
    sampan(cluster, &["check"]).ok().has(&["ca.crt", "ca-next.pem", "front-proxy-ca-next.pem"]);
    cluster.restart().expect("a restart finds it as it was");
    for kubeconfig in [&old, &new] {
        cluster.kubectl(&with(kubeconfig, &["get", "nodes"])).ok();
    }
    sampan(cluster, &["rotate-ca", "finish"]).ok();
    cluster.kubectl(&["get", "nodes"]).ok();
    cluster.kubectl(&with(&new, &["get", "nodes"])).ok();
    cluster
        .kubectl(&with(&old, &["get", "nodes"]))
        .fails()
        .says(&["certificate signed by unknown authority"]);
    sampan(cluster, &["check"]).ok().lacks(&["next"]);
    cluster.restart().expect("a restart goes on with the new one");
    cluster.kubectl(&with(&new, &["get", "nodes"])).ok();
    let last = cluster.kubectl(&[
        "config",
        "view",
        "--raw",
        "-o",
        "jsonpath={.clusters[0].cluster.certificate-authority-data}",
    ]);
    assert!(!last.ok().text().is_empty());
}

pub fn of_the_token_key(cluster: &mut Cluster) {
    let token = |cluster: &Cluster| cluster.kubectl(&["create", "token", "default"]).ok().text();
    let who = |cluster: &Cluster, token: &str| {
        // Nothing but the token: the kubeconfig's certificate would answer.
        let server = format!("https://{}", sampan_testkit::cluster::API);
        let authority = cluster.scratch().join("ca.crt");
        let path = "jsonpath={.data.ca\\.crt}";
        let bundle =
            cluster.kubectl(&["get", "configmap/kube-root-ca.crt", "--namespace=default", "-o", path]).ok();
        std::fs::write(&authority, bundle.stdout).expect("written");
        let authority = format!("--certificate-authority={}", authority.display());
        let token = format!("--token={token}");
        cluster.kubectl(&[
            "--kubeconfig=/dev/null",
            "--server",
            &server,
            &authority,
            &token,
            "auth",
            "whoami",
        ])
    };
    let first = token(cluster);
    who(cluster, &first).ok().has(&["system:serviceaccount:default:default"]);
    sampan(cluster, &["rotate-token-key", "begin"]).ok();
    let second = token(cluster);
    for token in [&first, &second] {
        who(cluster, token).ok().has(&["system:serviceaccount:default:default"]);
    }
    let keys = cluster.kubectl(&["get", "--raw", "/openid/v1/jwks"]).ok().stdout;
    assert_eq!(keys.matches("\"kid\"").count(), 2, "{keys}");
    sampan(cluster, &["rotate-token-key", "finish"]).ok();
    who(cluster, &second).ok();
    who(cluster, &first).fails().says(&["Unauthorized"]);
}
