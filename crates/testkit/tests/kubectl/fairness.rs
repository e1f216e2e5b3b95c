//! Priority and fairness: who overloads his level is sent away, and nobody else.

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use sampan_testkit::command::DEADLINE;
use sampan_testkit::{Cluster, Running};

/// More than a level of one share gets.
const ENOUGH: usize = 64;
/// Where requests are held: a webhook that takes connections and says nothing.
const HOLDER: &str = "127.0.0.1:7443";

const MANIFEST: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: greedy}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: greedy}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{kind: ServiceAccount, name: greedy, namespace: fairness}]
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: PriorityLevelConfiguration
metadata: {name: narrow}
spec:
  type: Limited
  limited:
    nominalConcurrencyShares: 1
    lendablePercent: 0
    borrowingLimitPercent: 0
    limitResponse: {type: Reject}
---
apiVersion: flowcontrol.apiserver.k8s.io/v1
kind: FlowSchema
metadata: {name: greedy}
spec:
  priorityLevelConfiguration: {name: narrow}
  matchingPrecedence: 100
  rules:
  - subjects: [{kind: ServiceAccount, serviceAccount: {name: greedy, namespace: fairness}}]
    resourceRules: [{verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*']}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: holds}
webhooks:
- name: holds.example.com
  clientConfig: {url: 'https://127.0.0.1:7443/'}
  rules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: [configmaps]}]
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: fairness}}
  objectSelector: {matchLabels: {held: 'yes'}}
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Ignore
  timeoutSeconds: 30
";

/// Answers the connections that the webhook gets.
fn hold(cluster: &Cluster) -> Receiver<TcpStream> {
    let (connected, connections) = channel();
    let listening = cluster.sandbox().in_network(|| TcpListener::bind(HOLDER));
    let listener = listening.join().expect("no panic").expect("a free port");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if connected.send(stream).is_err() {
                return;
            }
        }
    });
    connections
}

/// Whether an answer is a list, by its first line.
fn is_list(answer: &str) -> bool {
    answer.starts_with("http/2 200") || answer.starts_with("http/1.1 200")
}

/// The answer to a list by the greedy account: its head, and what it says.
fn greedy_list(cluster: &Cluster, token: &str) -> String {
    let header = format!("Authorization: Bearer {token}");
    let url = "https://127.0.0.1:6443/api/v1/namespaces/fairness/configmaps?limit=1";
    cluster.run(&["curl", "-sSki", "--max-time", "10", "-H", &header, url]).ok().text().to_lowercase()
}

/// Begins to create something that is held. The seat of the request before may be free a moment late.
fn held_creation(cluster: &Cluster, token: &str, number: usize) -> Running {
    let body = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"held-{number}\",\"labels\":{{\"held\":\"yes\"}}}}}}"
    );
    let header = format!("Authorization: Bearer {token}");
    let url = "https://127.0.0.1:6443/api/v1/namespaces/fairness/configmaps";
    let json = "Content-Type: application/json";
    cluster.spawn(&["curl", "-sSkf", "--retry", "5", "-H", &header, "-H", json, "--data-binary", &body, url])
}

pub fn overload(cluster: &mut Cluster) {
    let connections = hold(cluster);
    let namespace = cluster.namespace("fairness");
    namespace.apply(MANIFEST);
    let token = namespace.kubectl(&["create", "token", "greedy"]).ok().text();
    let token = token.trim();
    let schema = namespace.get("flowschema/greedy", ".metadata.uid");
    // The server takes a schema on after it was written.
    let asked = (0..1000).map(|_| greedy_list(cluster, token)).find(|answer| answer.contains(&schema));
    let answer = asked.expect("the schema is used at last");
    assert!(is_list(&answer), "{answer}");
    let mut running = Vec::new();
    let mut held = Vec::new();
    let refused = loop {
        assert!(held.len() < ENOUGH, "a level of one share takes {ENOUGH} requests");
        running.push(held_creation(cluster, token, held.len()));
        held.push(connections.recv_timeout(DEADLINE).expect("the webhook is asked"));
        let answer = greedy_list(cluster, token);
        if !is_list(&answer) {
            break answer;
        }
    };
    for part in [" 429", "retry-after: 1", "too many requests, please try again later", &schema] {
        assert!(refused.contains(part), "{part} is in\n{refused}");
    }
    // Others are on another level.
    namespace.kubectl(&["get", "configmaps"]).ok();
    namespace.kubectl(&["create", "configmap", "other"]).ok();
    drop(held);
    for creation in running {
        let (code, output) = creation.end();
        assert_eq!(code, Some(0), "{output}");
    }
    // The seats may be free a moment late.
    assert!((0..1000).any(|_| is_list(&greedy_list(cluster, token))));
    namespace.kubectl(&["delete", "validatingwebhookconfiguration", "holds"]).ok();
    namespace.kubectl(&["delete", "flowschema/greedy", "prioritylevelconfiguration/narrow"]).ok();
}
