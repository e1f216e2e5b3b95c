//! Packing of endpoints into slices, so that a change writes as few slices as it can.
//!
//! An endpoint stays in the slice that it is in. New ones fill the slices that are written anyway,
//! then the fullest slice that takes all of the rest, then new slices.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::service_pods::{Family, TargetPort};

/// The most endpoints of one slice.
pub(crate) const CAPACITY: usize = 100;
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(crate) const HEADLESS: &str = "service.kubernetes.io/headless";

/// Endpoints by what a slice has once: a family and ports.
pub(crate) type Wanted = BTreeMap<(Family, Vec<TargetPort>), Vec<Endpoint>>;

/// What all slices of a service have in common.
#[derive(Clone, Debug)]
pub(crate) struct SliceTemplate {
    pub namespace: String,
    pub service: String,
    pub owner: OwnerReference,
    pub labels: BTreeMap<String, String>,
    /// Annotations to have; absent where annotations are not the controller's to set.
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    /// Names and uids.
    pub delete: Vec<(String, String)>,
}

/// What makes two endpoints the same one in two states.
#[derive(PartialEq, Eq, Hash)]
struct Identity {
    addresses: Vec<String>,
    target: Option<(Option<String>, Option<String>)>,
    node: Option<String>,
    hostname: Option<String>,
}

fn identity(endpoint: &Endpoint) -> Identity {
    Identity {
        addresses: endpoint.addresses.clone(),
        target: endpoint.target_ref.as_ref().map(|target| (target.name.clone(), target.uid.clone())),
        node: endpoint.node_name.clone(),
        hostname: endpoint.hostname.clone(),
    }
}

/// Plans the writes that make the slices of one service hold what is wanted.
pub(crate) fn plan(template: &SliceTemplate, existing: Vec<EndpointSlice>, mut wanted: Wanted) -> Changes {
    let mut changes = Changes::default();
    // One empty slice tells that a family is known and has no endpoints.
    let mut families: BTreeSet<Family> = wanted.keys().map(|(family, _)| *family).collect();
    wanted.retain(|_, endpoints| !endpoints.is_empty());
    wanted.keys().for_each(|(family, _)| {
        families.remove(family);
    });
    wanted.extend(families.into_iter().map(|family| ((family, Vec::new()), Vec::new())));
    let mut groups: HashMap<(Family, Vec<TargetPort>), Vec<EndpointSlice>> = HashMap::new();
    for slice in existing {
        let ports = ports_of(slice.ports.as_deref().unwrap_or_default());
        let family = if slice.address_type == "IPv6" { Family::IPv6 } else { Family::IPv4 };
        let group = (family, ports);
        if slice.metadata.deletion_timestamp.is_some() {
            continue;
        }
        if wanted.contains_key(&group) && slice.address_type == family.as_str() {
            groups.entry(group).or_default().push(slice);
        } else {
            changes.delete.push(name_and_uid(&slice));
        }
    }
    for (group, endpoints) in wanted {
        let slices = groups.remove(&group).unwrap_or_default();
        pack(template, group, endpoints, slices, &mut changes);
    }
    changes
}

fn name_and_uid(slice: &EndpointSlice) -> (String, String) {
    (slice.metadata.name.clone().unwrap_or_default(), slice.metadata.uid.clone().unwrap_or_default())
}

/// Packs the endpoints of one family and one set of ports.
fn pack(
    template: &SliceTemplate,
    (family, ports): (Family, Vec<TargetPort>),
    endpoints: Vec<Endpoint>,
    slices: Vec<EndpointSlice>,
    changes: &mut Changes,
) {
    let mut missing: HashMap<Identity, Endpoint> = HashMap::new();
    let mut ranks: HashMap<Vec<String>, usize> = HashMap::new();
    for (order, endpoint) in endpoints.into_iter().enumerate() {
        ranks.insert(endpoint.addresses.clone(), order);
        missing.insert(identity(&endpoint), endpoint);
    }
    let is_placeholder = missing.is_empty();
    let (mut dirty, mut clean) = (Vec::new(), Vec::new());
    for mut slice in slices {
        let before = slice.endpoints.len();
        let mut changed = template.put_on(&mut slice.metadata);
        let mut kept = Vec::with_capacity(before);
        for endpoint in std::mem::take(&mut slice.endpoints) {
            if let Some(fresh) = missing.remove(&identity(&endpoint)) {
                changed |= fresh != endpoint;
                kept.push(fresh);
            }
        }
        // An empty slice is right only as a placeholder.
        changed |= kept.len() != before || (kept.is_empty() && !is_placeholder);
        slice.endpoints = kept;
        if changed { dirty.push(slice) } else { clean.push(slice) }
    }
    let mut left: Vec<Endpoint> = missing.into_values().collect();
    left.sort_by_key(|endpoint| ranks.get(&endpoint.addresses).copied());
    let mut left = left.into_iter();
    for slice in &mut dirty {
        let room = CAPACITY.saturating_sub(slice.endpoints.len());
        slice.endpoints.extend(left.by_ref().take(room));
    }
    // All but whole slices' worth goes into the fullest slice with enough room.
    let rest = left.len() % CAPACITY;
    if rest > 0 {
        let fits = |(_, slice): &(usize, &EndpointSlice)| slice.endpoints.len() + rest <= CAPACITY;
        let fullest = clean.iter().enumerate().filter(fits).max_by_key(|(_, slice)| slice.endpoints.len());
        if let Some(at) = fullest.map(|(at, _)| at) {
            let mut slice = clean.swap_remove(at);
            slice.endpoints.extend(left.by_ref().take(rest));
            dirty.push(slice);
        }
    }
    let existing = !dirty.is_empty() || !clean.is_empty();
    let mut placeholder_is_missing = is_placeholder && !existing;
    while left.len() > 0 || placeholder_is_missing {
        placeholder_is_missing = false;
        let mut slice = template.slice(family, &ports);
        slice.endpoints.extend(left.by_ref().take(CAPACITY));
        changes.create.push(slice);
    }
    if is_placeholder && !clean.is_empty() {
        changes.delete.extend(clean.drain(1..).map(|slice| name_and_uid(&slice)));
    }
    // Of slices that lost everything, only a placeholder's place is kept.
    let mut placeholder_is_there = !is_placeholder || !clean.is_empty();
    for slice in dirty {
        if slice.endpoints.is_empty() && placeholder_is_there {
            changes.delete.push(name_and_uid(&slice));
        } else {
            placeholder_is_there |= slice.endpoints.is_empty();
            changes.update.push(slice);
        }
    }
}

fn ports_of(ports: &[EndpointPort]) -> Vec<TargetPort> {
    let port = |port: &EndpointPort| TargetPort {
        name: port.name.clone().unwrap_or_default(),
        port: port.port.unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        app_protocol: port.app_protocol.clone(),
    };
    let mut ports: Vec<TargetPort> = ports.iter().map(port).collect();
    ports.sort();
    ports
}

impl SliceTemplate {
    fn slice(&self, family: Family, ports: &[TargetPort]) -> EndpointSlice {
        let port = |port: &TargetPort| EndpointPort {
            name: Some(port.name.clone()),
            port: Some(port.port),
            protocol: Some(port.protocol.clone()),
            app_protocol: port.app_protocol.clone(),
        };
        let mut metadata = ObjectMeta {
            generate_name: Some(format!("{}-", self.service)),
            namespace: Some(self.namespace.clone()),
            ..ObjectMeta::default()
        };
        self.put_on(&mut metadata);
        EndpointSlice {
            metadata,
            address_type: family.as_str().to_owned(),
            endpoints: Vec::new(),
            ports: Some(ports.iter().map(port).collect()),
        }
    }

    /// Puts the labels and the owner on a slice; answers whether that changed it.
    fn put_on(&self, metadata: &mut ObjectMeta) -> bool {
        let same = metadata.labels.as_ref() == Some(&self.labels)
            && metadata.owner_references.as_deref() == Some(std::slice::from_ref(&self.owner))
            && self
                .annotations
                .as_ref()
                .is_none_or(|wanted| *wanted == metadata.annotations.clone().unwrap_or_default());
        if !same {
            metadata.labels = Some(self.labels.clone());
            metadata.owner_references = Some(vec![self.owner.clone()]);
            if let Some(annotations) = &self.annotations {
                metadata.annotations = Some(annotations.clone());
            }
        }
        !same
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;
    use k8s_openapi::api::discovery::v1::EndpointConditions;
    use proptest::prelude::*;

    use super::*;

    fn template() -> SliceTemplate {
        SliceTemplate {
            namespace: "n".into(),
            service: "s".into(),
            owner: OwnerReference { name: "s".into(), ..OwnerReference::default() },
            labels: BTreeMap::from([(SERVICE_NAME.to_owned(), "s".to_owned())]),
            annotations: None,
        }
    }

    fn endpoint(number: usize, ready: bool) -> Endpoint {
        Endpoint {
            addresses: vec![format!("10.0.{}.{}", number / 256, number % 256)],
            conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
            target_ref: Some(ObjectReference { uid: Some(number.to_string()), ..ObjectReference::default() }),
            ..Endpoint::default()
        }
    }

    fn wanted(port: i32, endpoints: impl IntoIterator<Item = Endpoint>) -> Wanted {
        let port = TargetPort { name: "http".into(), port, protocol: "TCP".into(), app_protocol: None };
        Wanted::from([((Family::IPv4, vec![port]), endpoints.into_iter().collect())])
    }

    fn nothing(families: impl IntoIterator<Item = Family>) -> Wanted {
        families.into_iter().map(|family| ((family, Vec::new()), Vec::new())).collect()
    }

    /// What the API holds after the changes.
    fn apply(existing: Vec<EndpointSlice>, changes: &Changes, serial: &mut usize) -> Vec<EndpointSlice> {
        let mut slices: BTreeMap<String, EndpointSlice> = existing
            .into_iter()
            .map(|slice| (slice.metadata.name.clone().unwrap_or_default(), slice))
            .collect();
        for (name, _) in &changes.delete {
            slices.remove(name).expect("what is deleted is there");
        }
        for slice in &changes.update {
            slices.insert(slice.metadata.name.clone().unwrap_or_default(), slice.clone()).expect("was there");
        }
        for slice in &changes.create {
            *serial += 1;
            let mut slice = slice.clone();
            slice.metadata.name = Some(format!("s-{serial:05}"));
            slices.insert(slice.metadata.name.clone().unwrap_or_default(), slice);
        }
        slices.into_values().collect()
    }

    fn writes(changes: &Changes) -> (usize, usize, usize) {
        (changes.create.len(), changes.update.len(), changes.delete.len())
    }

    #[test]
    fn a_change_of_one_endpoint_is_one_write() {
        let mut serial = 0;
        let changes =
            plan(&template(), Vec::new(), wanted(80, (0..250).map(|number| endpoint(number, true))));
        assert_eq!(writes(&changes), (3, 0, 0));
        let slices = apply(Vec::new(), &changes, &mut serial);
        let again =
            plan(&template(), slices.clone(), wanted(80, (0..250).map(|number| endpoint(number, true))));
        assert_eq!(writes(&again), (0, 0, 0));
        let unready = plan(
            &template(),
            slices.clone(),
            wanted(80, (0..250).map(|number| endpoint(number, number != 7))),
        );
        assert_eq!(writes(&unready), (0, 1, 0));
        let more =
            plan(&template(), slices.clone(), wanted(80, (0..251).map(|number| endpoint(number, true))));
        assert_eq!(writes(&more), (0, 1, 0));
        let other_port = plan(&template(), slices, wanted(81, [endpoint(1, true)]));
        assert_eq!(writes(&other_port), (1, 0, 3));
    }

    #[test]
    fn a_service_without_endpoints_has_one_empty_slice() {
        let mut serial = 0;
        let changes = plan(&template(), Vec::new(), nothing([Family::IPv4]));
        assert_eq!(writes(&changes), (1, 0, 0));
        let slices = apply(Vec::new(), &changes, &mut serial);
        assert_eq!(writes(&plan(&template(), slices.clone(), nothing([Family::IPv4]))), (0, 0, 0));
        let first = plan(&template(), slices, wanted(80, [endpoint(1, true)]));
        assert_eq!(writes(&first), (1, 0, 1));
        let both = plan(&template(), Vec::new(), nothing([Family::IPv4, Family::IPv6]));
        let families: Vec<&str> = both.create.iter().map(|slice| slice.address_type.as_str()).collect();
        assert_eq!(families, ["IPv4", "IPv6"]);
    }

    proptest! {
        #[test]
        fn slices_hold_exactly_what_is_wanted(steps in prop::collection::vec(prop::collection::btree_map(0_usize..300, any::<bool>(), 0..250), 1..5)) {
            let (mut slices, mut serial) = (Vec::new(), 0);
            for step in steps {
                let endpoints: Vec<Endpoint> = step.iter().map(|(number, ready)| endpoint(*number, *ready)).collect();
                let changes = plan(&template(), slices.clone(), wanted(80, endpoints.clone()));
                slices = apply(slices, &changes, &mut serial);
                prop_assert!(slices.iter().all(|slice| slice.endpoints.len() <= CAPACITY));
                let empty = slices.iter().filter(|slice| slice.endpoints.is_empty()).count();
                prop_assert_eq!(empty, usize::from(endpoints.is_empty()));
                let key = |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
                let mut held: Vec<Endpoint> = slices.iter().flat_map(|slice| slice.endpoints.clone()).collect();
                let mut expected = endpoints;
                held.sort_by_key(key);
                expected.sort_by_key(key);
                prop_assert_eq!(held, expected);
            }
        }
    }
}
