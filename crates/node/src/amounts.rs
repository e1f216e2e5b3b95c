//! Quantities of the API as the kernel's numbers, the requests and limits of a pod, and its class.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sampan_api::quantity;

use crate::pod::{ContainerKind, containers};

/// Thousandths of a CPU, rounded up. A text that is no quantity (the API server admits none) is 0.
pub fn cpu_millis(amount: &Quantity) -> i64 {
    parse(amount).milli_value()
}

/// Whole units, rounded up.
pub fn value(amount: &Quantity) -> i64 {
    parse(amount).value()
}

fn parse(amount: &Quantity) -> quantity::Quantity {
    amount.0.parse().unwrap_or(quantity::Quantity::ZERO)
}

/// The amounts of one container or pod that the kernel enforces. Absent where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu_request_millis: Option<i64>,
    pub cpu_limit_millis: Option<i64>,
    pub memory_request: Option<i64>,
    pub memory_limit: Option<i64>,
}

impl Amounts {
    /// What a container's or pod's `resources` say; a request defaults to the limit.
    pub fn of(resources: Option<&ResourceRequirements>) -> Self {
        let limits = resources.and_then(|all| all.limits.as_ref());
        let requests = resources.and_then(|all| all.requests.as_ref());
        let get =
            |map: Option<&BTreeMap<String, Quantity>>, name: &str| map.and_then(|map| map.get(name)).cloned();
        let cpu_limit = get(limits, "cpu").map(|amount| cpu_millis(&amount));
        let memory_limit = get(limits, "memory").map(|amount| value(&amount));
        Amounts {
            cpu_request_millis: get(requests, "cpu").map(|amount| cpu_millis(&amount)).or(cpu_limit),
            cpu_limit_millis: cpu_limit,
            memory_request: get(requests, "memory").map(|amount| value(&amount)).or(memory_limit),
            memory_limit,
        }
    }

    /// What the pod as a whole may use: `spec.resources`, else the sum over its containers. A limit
    /// exists only where every container has one.
    pub fn of_pod(spec: &PodSpec) -> Self {
        let explicit = Amounts::of(spec.resources.as_ref());
        let mut total = Amounts::default();
        // Restartable init containers run beside everything that starts after them.
        let mut sidecars = Amounts::ZERO;
        let mut peak = Amounts::ZERO;
        for (kind, container) in containers(spec) {
            let amounts = Amounts::of(container.resources.as_ref());
            match kind {
                ContainerKind::Init => peak = peak.max(sidecars.plus(amounts)),
                ContainerKind::Sidecar => {
                    sidecars = sidecars.plus(amounts);
                    peak = peak.max(sidecars);
                }
                ContainerKind::Main | ContainerKind::Ephemeral => {}
            }
        }
        total.clone_from(&sidecars);
        for container in &spec.containers {
            total = total.plus(Amounts::of(container.resources.as_ref()));
        }
        let computed = total.max(peak);
        Amounts {
            cpu_request_millis: explicit.cpu_request_millis.or(computed.cpu_request_millis),
            cpu_limit_millis: explicit.cpu_limit_millis.or(computed.cpu_limit_millis),
            memory_request: explicit.memory_request.or(computed.memory_request),
            memory_limit: explicit.memory_limit.or(computed.memory_limit),
        }
    }

    const ZERO: Amounts = Amounts {
        cpu_request_millis: Some(0),
        cpu_limit_millis: Some(0),
        memory_request: Some(0),
        memory_limit: Some(0),
    };

    fn plus(self, other: Amounts) -> Amounts {
        Amounts {
            cpu_request_millis: Some(
                self.cpu_request_millis.unwrap_or(0) + other.cpu_request_millis.unwrap_or(0),
            ),
            cpu_limit_millis: self.cpu_limit_millis.zip(other.cpu_limit_millis).map(|(a, b)| a + b),
            memory_request: Some(self.memory_request.unwrap_or(0) + other.memory_request.unwrap_or(0)),
            memory_limit: self.memory_limit.zip(other.memory_limit).map(|(a, b)| a + b),
        }
    }

    fn max(self, other: Amounts) -> Amounts {
        Amounts {
            cpu_request_millis: self.cpu_request_millis.max(other.cpu_request_millis),
            cpu_limit_millis: self.cpu_limit_millis.zip(other.cpu_limit_millis).map(|(a, b)| a.max(b)),
            memory_request: self.memory_request.max(other.memory_request),
            memory_limit: self.memory_limit.zip(other.memory_limit).map(|(a, b)| a.max(b)),
        }
    }
}

/// `status.qosClass`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    pub fn as_str(self) -> &'static str {
        match self {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        }
    }

    /// The class of a pod: from CPU and memory of all its containers (or of the pod, where it has
    /// resources of its own).
    pub fn of(spec: &PodSpec) -> Self {
        if spec.resources.as_ref().is_some_and(|all| !is_empty(all)) {
            return Self::of_all(std::iter::once(spec.resources.as_ref()));
        }
        Self::of_all(containers(spec).map(|(_, container): (_, &Container)| container.resources.as_ref()))
    }

    fn of_all<'a>(all: impl Iterator<Item = Option<&'a ResourceRequirements>>) -> Self {
        let mut any = false;
        let mut guaranteed = true;
        for resources in all {
            let amounts = Amounts::of(resources);
            let positive = |amount: Option<i64>| amount.filter(|amount| *amount > 0);
            let (cpu, memory) = (positive(amounts.cpu_limit_millis), positive(amounts.memory_limit));
            any |= cpu.is_some()
                || memory.is_some()
                || positive(amounts.cpu_request_millis).is_some()
                || positive(amounts.memory_request).is_some();
            guaranteed &= cpu.is_some()
                && memory.is_some()
                && amounts.cpu_request_millis == amounts.cpu_limit_millis
                && amounts.memory_request == amounts.memory_limit;
        }
        match (any, guaranteed) {
            (false, _) => QosClass::BestEffort,
            (true, true) => QosClass::Guaranteed,
            (true, false) => QosClass::Burstable,
        }
    }
}

fn is_empty(resources: &ResourceRequirements) -> bool {
    resources.limits.as_ref().is_none_or(BTreeMap::is_empty)
        && resources.requests.as_ref().is_none_or(BTreeMap::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: serde_json::Value) -> PodSpec {
        serde_json::from_value(json).expect("a pod spec")
    }

    #[test]
    fn classes() {
        use serde_json::json;
        let check = |containers: serde_json::Value, expected: QosClass| {
            assert_eq!(QosClass::of(&spec(json!({"containers": containers}))), expected, "{containers}");
        };
        let full = json!({"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}});
        check(json!([{"name": "a"}]), QosClass::BestEffort);
        check(json!([full]), QosClass::Guaranteed);
        check(json!([full, {"name": "b"}]), QosClass::Burstable);
        check(json!([{"name": "a", "resources": {"requests": {"cpu": "1"}}}]), QosClass::Burstable);
        check(json!([{"name": "a", "resources": {"requests": {"cpu": "0"}}}]), QosClass::BestEffort);
        check(
            json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}}]),
            QosClass::Burstable,
        );
    }

    #[test]
    fn a_pod_is_limited_where_all_its_containers_are() {
        use serde_json::json;
        let one = json!({"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Ki"}}});
        let two =
            json!({"name": "b", "resources": {"limits": {"memory": "1Ki"}, "requests": {"cpu": "100m"}}});
        let amounts = Amounts::of_pod(&spec(json!({"containers": [one, two]})));
        assert_eq!(amounts.cpu_request_millis, Some(1100));
        assert_eq!(amounts.cpu_limit_millis, None);
        assert_eq!(amounts.memory_limit, Some(2048));
        let init = json!([{"name": "i", "resources": {"limits": {"cpu": "3", "memory": "1Ki"}}}]);
        let amounts = Amounts::of_pod(&spec(json!({"initContainers": init, "containers": [one]})));
        assert_eq!(amounts.cpu_limit_millis, Some(3000));
        let own = json!({"limits": {"memory": "5Ki"}});
        let amounts = Amounts::of_pod(&spec(json!({"resources": own, "containers": [one]})));
        assert_eq!(amounts.memory_limit, Some(5120));
    }
}
