//! Amounts of resources: what pods ask for and nodes have.

use std::collections::BTreeMap;
use std::sync::Arc;

use sampan_api::quantity::Quantity;
use serde_json::Value;

/// What a container without a request for CPU counts as when nodes are compared, in millicores.
const DEFAULT_MILLI_CPU: i64 = 100;
/// What a container without a request for memory counts as when nodes are compared, in bytes.
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts by resource name, as JSON has them.
pub(crate) type RawResources = BTreeMap<String, Value>;

/// CPU in millicores, everything else in units of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages, sorted by name.
    pub others: Vec<(Arc<str>, i64)>,
}

impl Resources {
    /// Amounts that cannot be read count as nothing; the API refuses them.
    pub(crate) fn new(raw: &RawResources) -> Self {
        let mut resources = Resources::default();
        for (name, value) in raw {
            resources.set(name, value);
        }
        resources
    }

    fn set(&mut self, name: &str, value: &Value) {
        let quantity = Quantity::from_json(value).unwrap_or(Quantity::ZERO);
        match name {
            "cpu" => self.milli_cpu = quantity.milli_value(),
            "memory" => self.memory = quantity.value(),
            "ephemeral-storage" => self.ephemeral_storage = quantity.value(),
            "pods" => {}
            name => *self.other_mut(name) = quantity.value(),
        }
    }

    pub fn other(&self, name: &str) -> i64 {
        match self.others.binary_search_by(|(candidate, _)| (**candidate).cmp(name)) {
            Ok(at) => self.others[at].1,
            Err(_) => 0,
        }
    }

    fn other_mut(&mut self, name: &str) -> &mut i64 {
        let at = match self.others.binary_search_by(|(candidate, _)| (**candidate).cmp(name)) {
            Ok(at) => at,
            Err(at) => {
                self.others.insert(at, (name.into(), 0));
                at
            }
        };
        &mut self.others[at].1
    }

    fn merge(&mut self, other: &Resources, merge: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = merge(self.milli_cpu, other.milli_cpu);
        self.memory = merge(self.memory, other.memory);
        self.ephemeral_storage = merge(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.others {
            let own = self.other_mut(name);
            *own = merge(*own, *amount);
        }
    }

    pub fn add(&mut self, other: &Resources) {
        self.merge(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Resources) {
        self.merge(other, i64::saturating_sub);
    }

    fn raise_to(&mut self, other: &Resources) {
        self.merge(other, i64::max);
    }

    pub fn is_nothing(&self) -> bool {
        self.milli_cpu == 0
            && self.memory == 0
            && self.ephemeral_storage == 0
            && self.others.iter().all(|(_, amount)| *amount == 0)
    }
}

/// What one container of a pod asks for.
pub(crate) struct ContainerRequests {
    pub requests: RawResources,
    /// An init container that goes on running (`restartPolicy: Always`).
    pub sidecar: bool,
}

/// What a pod needs of its node at its hungriest moment: all containers and sidecars together, or
/// one init container beside the sidecars that were started before it; plus the overhead of its
/// runtime class. Requests of the pod as a whole take the place of what its containers ask for.
pub(crate) struct PodRequests {
    pub requests: Resources,
    /// CPU and memory with defaults where a container asks for none; only to compare nodes.
    pub nonzero: Resources,
}

impl PodRequests {
    pub fn new(
        containers: &[ContainerRequests],
        init: &[ContainerRequests],
        pod: &RawResources,
        overhead: &RawResources,
    ) -> Self {
        let total = |read: &dyn Fn(&RawResources) -> Resources| {
            let mut total = peak(containers, init, read);
            for (name, value) in pod {
                total.set(name, value);
            }
            total.add(&Resources::new(overhead));
            total
        };
        PodRequests { requests: total(&Resources::new), nonzero: total(&nonzero) }
    }
}

fn peak(
    containers: &[ContainerRequests],
    init: &[ContainerRequests],
    read: &dyn Fn(&RawResources) -> Resources,
) -> Resources {
    let mut running = Resources::default();
    for container in containers {
        running.add(&read(&container.requests));
    }
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in init {
        let mut requests = read(&container.requests);
        if container.sidecar {
            running.add(&requests);
            sidecars.add(&requests);
            requests = sidecars.clone();
        } else {
            requests.add(&sidecars);
        }
        starting.raise_to(&requests);
    }
    running.raise_to(&starting);
    running
}

fn nonzero(raw: &RawResources) -> Resources {
    let mut resources = Resources::new(raw);
    if !raw.contains_key("cpu") {
        resources.milli_cpu = DEFAULT_MILLI_CPU;
    }
    if !raw.contains_key("memory") {
        resources.memory = DEFAULT_MEMORY;
    }
    resources
}
