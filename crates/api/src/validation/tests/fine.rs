use serde_json::json;

use super::*;

#[test]
fn what_people_write_is_fine() {
    let rich = json!({
        "serviceAccountName": "shop", "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet",
        "priorityClassName": "system-node-critical", "nodeSelector": {"kubernetes.io/os": "linux"},
        "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "tolerations": [{"operator": "Exists"}, {"key": "a/b", "value": "c", "effect": "NoExecute", "tolerationSeconds": 300}],
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}, {"key": "cores", "operator": "Gt", "values": ["3"]}]},
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]},
            ]}},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 100, "podAffinityTerm": {"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "kubernetes.io/hostname"}},
            ]},
        },
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}],
        "initContainers": [
            {"name": "wait", "image": "busybox:1", "command": ["sh", "-c", "true"]},
            {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 15000}}},
        ],
        "containers": [{
            "name": "web", "image": "registry.local:5000/shop/web@sha256:00", "args": ["--port=8080"],
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}],
            "env": [
                {"name": "A.b-c", "value": "$(B)"}, {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app.kubernetes.io/name']"}}},
                {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
            ],
            "envFrom": [{"configMapRef": {"name": "c"}, "prefix": "C_"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi", "example.com/gpu": 1}},
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": "http", "httpHeaders": [{"name": "X-A", "value": "1"}]}},
            "readinessProbe": {"exec": {"command": ["cat", "/tmp/ready"]}, "successThreshold": 2},
            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            "volumeMounts": [
                {"name": "config", "mountPath": "/etc/app", "readOnly": true}, {"name": "data", "mountPath": "/data", "subPath": "x"},
                {"name": "token", "mountPath": "/var/run/secrets"},
            ],
        }],
        "volumes": [
            {"name": "config", "configMap": {"name": "c", "items": [{"key": "a", "path": "b/c"}]}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "d"}},
            {"name": "token", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
            {"name": "host", "hostPath": {"path": "/var/log", "type": "DirectoryOrCreate"}},
        ],
    });
    check("", "Pod", json!({"spec": rich}), &[]);
    let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": rich});
    for kind in ["Deployment", "DaemonSet", "StatefulSet"] {
        let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        check("apps", kind, workload(json!({"template": template, "volumeClaimTemplates": [claim]})), &[]);
    }
    check(
        "",
        "Service",
        json!({"spec": {"type": "NodePort", "selector": {"app": "a"}, "ports": [
            {"name": "http", "port": 80, "targetPort": "http", "nodePort": 30080, "appProtocol": "kubernetes.io/h2c"},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ]}}),
        &[],
    );
    check("", "Service", json!({"spec": {"clusterIP": "None", "selector": {"app": "a"}}}), &[]);
    check(
        "networking.k8s.io",
        "Ingress",
        json!({"spec": {"ingressClassName": "nginx", "tls": [{"hosts": ["*.a.b"], "secretName": "t"}], "rules": [
            {"host": "*.a.b", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}},
        ]}}),
        &[],
    );
    check(
        "networking.k8s.io",
        "NetworkPolicy",
        json!({"spec": {"podSelector": {}, "egress": [
            {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"a": "b"}}}, {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}],
             "ports": [{"port": 1000, "endPort": 2000}, {"port": "dns", "protocol": "UDP"}]},
        ]}}),
        &[],
    );
    check(
        "rbac.authorization.k8s.io",
        "ClusterRole",
        json!({"metadata": {"name": "system:x"}, "rules": [
            {"apiGroups": ["", "apps"], "resources": ["pods/log"], "verbs": ["get"]}, {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
        ]}),
        &[],
    );
    check(
        "autoscaling",
        "HorizontalPodAutoscaler",
        json!({"spec": {"maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}}),
        &[],
    );
    check(
        "",
        "PersistentVolume",
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/data"}, "claimRef": {"name": "c"}}}),
        &[],
    );
    check(
        "",
        "Node",
        json!({"status": {"capacity": {"cpu": "4", "memory": "8Gi", "pods": "110", "hugepages-2Mi": "0"}}}),
        &[],
    );
    check(
        "",
        "ResourceQuota",
        json!({"spec": {"hard": {"requests.cpu": "1", "limits.memory": "1Gi", "requests.example.com/gpu": "1", "gold.storageclass.storage.k8s.io/requests.storage": "1Gi"}}}),
        &[],
    );
    check(
        "discovery.k8s.io",
        "EndpointSlice",
        json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"], "nodeName": "n", "hints": {"forZones": [{"name": "a"}]}}], "ports": [{"port": 80}]}),
        &[],
    );
}
