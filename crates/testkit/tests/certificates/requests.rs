//! Certificate signing requests by stock kubectl.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use sampan_testkit::{Cluster, Output};
use serde_json::json;

pub const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// A request for `CN/O`, as an object, and its key in PEM.
pub fn request(name: &str, signer: &str, subject: &str, usages: &[&str]) -> (String, String) {
    let (common_name, organization) = subject.split_once('/').expect("CN/O");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.distinguished_name.push(DnType::OrganizationName, organization);
    let key = KeyPair::generate().expect("a key");
    let pem = params.serialize_request(&key).expect("signed").pem().expect("PEM");
    let object = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": name},
        "spec": {"request": STANDARD.encode(pem), "signerName": signer, "usages": usages, "expirationSeconds": 3600}});
    (object.to_string(), key.serialize_pem())
}

/// kubectl under the certificate of a request that was signed.
pub struct Holder<'a> {
    cluster: &'a Cluster,
    kubeconfig: String,
}

impl<'a> Holder<'a> {
    /// Waits until the request is signed.
    #[track_caller]
    pub fn of(cluster: &'a Cluster, name: &str, key: &str) -> Holder<'a> {
        let request = format!("csr/{name}");
        let there = "--for=jsonpath={.status.certificate}";
        cluster.kubectl(&["wait", &request, there, "--timeout=55s"]).ok();
        let get = ["get", &request, "-o", "jsonpath={.status.certificate}"];
        let certificate = cluster.kubectl(&get).ok().text();
        let view =
            ["config", "view", "--raw", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}"];
        let authority = cluster.kubectl(&view).ok().text();
        let server = format!("https://{}", sampan_testkit::cluster::API);
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": "u", "user": {"client-certificate-data": certificate,
                "client-key-data": STANDARD.encode(key)}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        let path = cluster.scratch().join(format!("{name}.kubeconfig"));
        std::fs::write(&path, config.to_string()).expect("written");
        Holder { cluster, kubeconfig: path.to_str().expect("text").to_owned() }
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.cluster.kubectl(&[&["--kubeconfig", &self.kubeconfig], arguments].concat())
    }

    pub fn kubectl_stdin(&self, arguments: &[&str], input: &str) -> Output {
        self.cluster.kubectl_stdin(&[&["--kubeconfig", &self.kubeconfig], arguments].concat(), input)
    }
}

const USAGES: [&str; 2] = ["digital signature", "client auth"];

pub fn approved(cluster: &mut Cluster) {
    let (object, key) = request("jane", API_CLIENT, "jane/developers", &USAGES);
    cluster.kubectl_stdin(&["create", "-f", "-"], &object).ok();
    cluster.kubectl(&["get", "csr", "jane"]).ok().has(&[API_CLIENT, "kubernetes-admin", "60m", "Pending"]);
    cluster.kubectl(&["certificate", "approve", "jane"]).ok().has(&["jane approved"]);
    let jane = Holder::of(cluster, "jane", &key);
    cluster.kubectl(&["get", "csr", "jane"]).ok().has(&["Approved,Issued"]);
    jane.kubectl(&["auth", "whoami"]).ok().has(&["jane", "developers", "system:authenticated"]);
    jane.kubectl(&["get", "pods"]).fails().says(&["User \"jane\" cannot list resource \"pods\""]);
    cluster
        .kubectl(&["create", "clusterrolebinding", "jane", "--clusterrole=view", "--group=developers"])
        .ok();
    jane.kubectl(&["auth", "can-i", "list", "pods"]).ok().is("yes");
    // What was asked and decided stays, whatever is sent.
    let patch = r#"{"spec": {"username": "root"}, "status": {"certificate": "AAAA"}}"#;
    cluster.kubectl(&["patch", "csr", "jane", "--type=merge", "-p", patch]).ok();
    let user = cluster.kubectl(&["get", "csr", "jane", "-o", "jsonpath={.spec.username}"]).ok();
    user.is("kubernetes-admin");
    cluster.kubectl(&["delete", "csr/jane", "clusterrolebinding/jane"]).ok();
}

pub fn denied(cluster: &mut Cluster) {
    let (object, _) = request("joe", API_CLIENT, "joe/developers", &USAGES);
    cluster.kubectl_stdin(&["create", "-f", "-"], &object).ok();
    cluster
        .kubectl(&[
            "create",
            "clusterrole",
            "approver",
            "--verb=get,list,update,patch",
            "--resource=csr,csr/approval",
        ])
        .ok();
    cluster
        .kubectl(&["create", "clusterrolebinding", "approver", "--clusterrole=approver", "--user=amy"])
        .ok();
    let refused =
        "user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\"";
    cluster.kubectl(&["certificate", "approve", "joe", "--as=amy"]).fails().says(&[refused]);
    cluster.kubectl(&["certificate", "deny", "joe"]).ok().has(&["joe denied"]);
    cluster.kubectl(&["get", "csr", "joe"]).ok().has(&["Denied"]).lacks(&["Issued"]);
    cluster.kubectl(&["certificate", "approve", "joe"]).fails().says(&["already Denied"]);
    let masters = request("mallory", API_CLIENT, "mallory/system:masters", &USAGES).0;
    let refused =
        "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
    cluster.kubectl_stdin(&["create", "-f", "-"], &masters).fails().says(&[refused]);
    cluster.kubectl(&["delete", "csr/joe", "clusterrole/approver", "clusterrolebinding/approver"]).ok();
}

pub fn refused(cluster: &mut Cluster) {
    let (object, _) = request("server", API_CLIENT, "jane/developers", &["server auth"]);
    cluster.kubectl_stdin(&["create", "-f", "-"], &object).ok();
    cluster.kubectl(&["certificate", "approve", "server"]).ok();
    let failed = "--for=condition=Failed";
    cluster.kubectl(&["wait", "csr/server", failed, "--timeout=55s"]).ok();
    cluster
        .kubectl(&["get", "csr", "server", "-o", "jsonpath={.status.conditions[1].message}"])
        .ok()
        .is("invalid usage for client certificate: server auth");
    cluster.kubectl(&["get", "csr", "server"]).ok().has(&["Approved,Failed"]).lacks(&["Issued"]);
    cluster.kubectl(&["delete", "csr/server"]).ok();
}

pub fn of_a_node(cluster: &mut Cluster) {
    let (object, key) = request("renewal", KUBELET_CLIENT, "system:node:elsewhere/system:nodes", &USAGES);
    // For itself, as every node may.
    let node = ["--as=system:node:elsewhere", "--as-group=system:nodes"];
    cluster.kubectl_stdin(&[&["create", "-f", "-"], &node[..]].concat(), &object).ok();
    let elsewhere = Holder::of(cluster, "renewal", &key);
    cluster
        .kubectl(&["get", "csr", "renewal", "-o", "jsonpath={.status.conditions[0].reason}"])
        .ok()
        .is("AutoApproved");
    elsewhere.kubectl(&["auth", "whoami"]).ok().has(&["system:node:elsewhere", "system:nodes"]);
    // In the name of another node it has no right to.
    let (object, _) = request("other", KUBELET_CLIENT, "system:node:other/system:nodes", &USAGES);
    elsewhere.kubectl_stdin(&["create", "-f", "-"], &object).ok();
    cluster.kubectl(&["get", "csr", "other"]).ok().has(&["Pending"]);
    cluster.kubectl(&["delete", "csr/renewal", "csr/other"]).ok();
}
