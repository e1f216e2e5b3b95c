//! Probes of the three kinds, by their three usual ways.

use sampan_testkit::Cluster;

use crate::{pod, script, status};

pub fn liveness(cluster: &mut Cluster) {
    let namespace = cluster.namespace("liveness");
    let patient = |way: &str, seconds: u32| {
        format!("livenessProbe: {{{way}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: {seconds}}}")
    };
    let probe = |way: &str| patient(way, 1);
    let exec = "exec: {command: [sh, -c, 'test ! -f /tmp/sick || { echo feeling bad; exit 1; }']}";
    namespace.apply(
        &[
            script("exec", "Always", "sleep 1; touch /tmp/sick; exec sleep 1000", &probe(exec)),
            script(
                "http",
                "Always",
                "exec web 8080 one",
                &patient("httpGet: {path: /, port: 8080}, initialDelaySeconds: 2", 20),
            ),
            script("tcp", "Always", "exec sleep 1000", &probe("tcpSocket: {port: 8080}")),
            script("slow", "Always", "exec sleep 1000", &probe("exec: {command: [sleep, '20']}")),
        ]
        .concat(),
    );
    for name in ["exec", "tcp", "slow"] {
        namespace.wait_for(&format!("pod/{name}"), ".status.containerStatuses[0].restartCount", "1");
    }
    namespace.event("exec", "Unhealthy", "Liveness probe failed: feeling bad");
    namespace.event("exec", "Killing", "Container main failed liveness probe, will be restarted");
    namespace.event(
        "tcp",
        "Unhealthy",
        "Liveness probe failed: dial tcp 10.42.*:8080: connect: connection refused",
    );
    namespace.event(
        "slow",
        "Unhealthy",
        "Liveness probe (errored and resulted in unknown state|failed): .*timed out",
    );
    assert_eq!(status(&namespace, "exec", "lastState.terminated.exitCode"), "137");
    assert_eq!(status(&namespace, "http", "restartCount"), "0");
}

pub fn readiness(cluster: &mut Cluster) {
    let namespace = cluster.namespace("readiness");
    namespace.apply(&script(
        "file",
        "Always",
        "exec sleep 1000",
        "readinessProbe: {exec: {command: [cat, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}",
    ));
    namespace.apply(&script(
        "http",
        "Always",
        "mkdir /tmp/www; exec httpd -f -p 8080 -h /tmp/www",
        "readinessProbe: {httpGet: {path: /ok, port: 8080}, periodSeconds: 1}",
    ));
    namespace.event("file", "Unhealthy", "Readiness probe failed: cat: can't open '/tmp/ready'");
    namespace.event("http", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404");
    assert_eq!(status(&namespace, "file", "ready"), "false");
    assert_eq!(status(&namespace, "file", "started"), "true");
    namespace.sh("file", "touch /tmp/ready").ok();
    namespace.sh("http", "touch /tmp/www/ok").ok();
    namespace.wait("pod/file", "condition=Ready");
    namespace.wait("pod/http", "condition=Ready");
    namespace.sh("file", "rm /tmp/ready").ok();
    namespace.wait("pod/file", "condition=Ready=false");
    assert_eq!(status(&namespace, "file", "restartCount"), "0");
}

pub fn startup(cluster: &mut Cluster) {
    let namespace = cluster.namespace("startup");
    // Its liveness probe would kill it at once; the startup probe holds that back until the test says so.
    namespace.apply(&pod(
        "held",
        "  containers:
  - name: main
    image: example.com/test:1
    command: [sh, -c, 'exec sleep 1000']
    startupProbe: {exec: {command: [test, -f, /tmp/up]}, periodSeconds: 1, failureThreshold: 60}
    livenessProbe: {exec: {command: [test, -f, /tmp/alive]}, periodSeconds: 1, failureThreshold: 1, timeoutSeconds: 20}",
    ));
    namespace.event("held", "Unhealthy", "Startup probe failed:");
    assert_eq!(status(&namespace, "held", "started"), "false");
    assert_eq!(status(&namespace, "held", "ready"), "false");
    namespace.sh("held", "touch /tmp/alive /tmp/up").ok();
    namespace.wait("pod/held", "condition=Ready");
    assert_eq!(status(&namespace, "held", "started"), "true");
    assert_eq!(status(&namespace, "held", "restartCount"), "0");
    namespace.sh("held", "rm /tmp/alive").ok();
    namespace.wait_for("pod/held", ".status.containerStatuses[0].restartCount", "1");
    // What never starts is restarted too.
    namespace.apply(&script(
        "never",
        "Always",
        "exec sleep 1000",
        "startupProbe: {tcpSocket: {port: 1}, periodSeconds: 1, failureThreshold: 2}",
    ));
    namespace.wait_for("pod/never", ".status.containerStatuses[0].restartCount", "1");
    namespace.event("never", "Killing", "Container main failed startup probe, will be restarted");
}
