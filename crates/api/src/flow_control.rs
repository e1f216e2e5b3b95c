//! The flow schemas and priority levels that every cluster has, as upstream's.
//!
//! The mandatory ones are kept as they are here. The suggested ones are made when they are missing, and
//! follow this table for as long as their annotation says so.

use serde_json::{Value, json};

/// Whether an object's spec is kept as it is here.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// An object that every cluster has.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub mandatory: bool,
    pub name: &'static str,
    pub spec: Value,
}

const EVERYBODY: [&str; 2] = ["system:unauthenticated", "system:authenticated"];
const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";
const LEASES: &str = "coordination.k8s.io";

pub fn priority_levels() -> Vec<Wanted> {
    let limited = |name, shares: u32, lendable: u32, queues: u32, hand_size: u32| Wanted {
        mandatory: false,
        name,
        spec: json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": {"type": "Queue",
                "queuing": {"queues": queues, "handSize": hand_size, "queueLengthLimit": 50}}}}),
    };
    vec![
        Wanted {
            mandatory: true,
            name: "catch-all",
            spec: json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0,
                "limitResponse": {"type": "Reject"}}}),
        },
        Wanted {
            mandatory: true,
            name: "exempt",
            spec: json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
        },
        limited("system", 30, 33, 64, 6),
        limited("node-high", 40, 25, 64, 6),
        limited("leader-election", 10, 0, 16, 4),
        limited("workload-high", 40, 50, 128, 6),
        limited("workload-low", 100, 90, 128, 6),
        limited("global-default", 20, 50, 128, 6),
    ]
}

pub fn flow_schemas() -> Vec<Wanted> {
    let mut schemas = vec![
        schema("exempt", "exempt", 1, None, groups(&["system:masters"]), everything()),
        schema("catch-all", "catch-all", 10_000, Some("ByUser"), groups(&EVERYBODY), everything()),
    ];
    for mandatory in &mut schemas {
        mandatory.mandatory = true;
    }
    schemas.extend([
        schema("probes", "exempt", 2, None, groups(&EVERYBODY), probes()),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            Some("ByUser"),
            [users(&[CONTROLLER_MANAGER, SCHEDULER]), system_accounts(&["*"])].concat(),
            resources(&[lock(LEASES, &["leases"])]),
        ),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            Some("ByUser"),
            [
                users(&[CONTROLLER_MANAGER]),
                system_accounts(&["endpoint-controller", "endpointslicemirroring-controller"]),
            ]
            .concat(),
            resources(&[lock("", &["endpoints"])]),
        ),
        schema(
            "workload-leader-election",
            "leader-election",
            200,
            Some("ByUser"),
            system_accounts(&["*"]),
            resources(&[lock("", &["endpoints", "configmaps"]), lock(LEASES, &["leases"])]),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            Some("ByUser"),
            groups(&["system:nodes"]),
            resources(&[
                rule(&["*"], "", &["nodes", "nodes/status"], true),
                rule(&["*"], LEASES, &["leases"], false),
            ]),
        ),
        schema("system-nodes", "system", 500, Some("ByUser"), groups(&["system:nodes"]), everything()),
        by_namespace("kube-controller-manager", 800, users(&[CONTROLLER_MANAGER])),
        by_namespace("kube-scheduler", 800, users(&[SCHEDULER])),
        by_namespace("kube-system-service-accounts", 900, system_accounts(&["*"])),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            Some("ByUser"),
            groups(&["system:serviceaccounts"]),
            everything(),
        ),
        schema("global-default", "global-default", 9900, Some("ByUser"), groups(&EVERYBODY), everything()),
    ]);
    schemas
}

fn schema(
    name: &'static str,
    level: &str,
    precedence: u32,
    distinguisher: Option<&str>,
    subjects: Vec<Value>,
    rules: Value,
) -> Wanted {
    let mut rules = rules;
    rules["subjects"] = subjects.into();
    let mut spec = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence,
        "rules": [rules]});
    if let Some(distinguisher) = distinguisher {
        spec["distinguisherMethod"] = json!({"type": distinguisher});
    }
    Wanted { mandatory: false, name, spec }
}

fn by_namespace(name: &'static str, precedence: u32, subjects: Vec<Value>) -> Wanted {
    schema(name, "workload-high", precedence, Some("ByNamespace"), subjects, everything())
}

fn groups(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn users(names: &[&str]) -> Vec<Value> {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

fn system_accounts(names: &[&str]) -> Vec<Value> {
    let account = |name: &&str| json!({"kind": "ServiceAccount", "serviceAccount": {"name": name, "namespace": "kube-system"}});
    names.iter().map(account).collect()
}

fn rule(verbs: &[&str], group: &str, resources: &[&str], cluster_scope: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster_scope {
        rule["clusterScope"] = true.into();
    }
    rule
}

/// What taking and keeping a lock needs.
fn lock(group: &str, resources: &[&str]) -> Value {
    rule(&["get", "create", "update"], group, resources, false)
}

fn resources(rules: &[Value]) -> Value {
    json!({"resourceRules": rules})
}

fn everything() -> Value {
    json!({"resourceRules": [rule(&["*"], "*", &["*"], true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]})
}

fn probes() -> Value {
    json!({"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]})
}
