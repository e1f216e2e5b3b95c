//! Which pods run where: an index over the shared view, since there may be as many pods as all nodes take
//! together, and what concerns a node is asked node by node.

use std::collections::HashMap;

use parking_lot::Mutex;
use sampan_api::object::ObjectRef;
use sampan_client::InformerEvent;
use serde::Deserialize;

/// The keys of pods by the names of their nodes. A node has some hundred at most: lists are searched as fast
/// as sets, and take half the memory.
#[derive(Default)]
pub(super) struct Placed {
    by_node: Mutex<HashMap<String, Vec<Box<str>>>>,
}

/// Where a pod runs: all of it that its place is asked for by.
#[derive(Deserialize)]
struct Place {
    #[serde(default)]
    spec: PlaceSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PlaceSpec {
    node_name: Option<String>,
}

/// The node of a pod; absent while it has none.
pub(crate) fn node_of(pod: &ObjectRef) -> Option<String> {
    pod.decode::<Place>().ok()?.spec.node_name.filter(|node| !node.is_empty())
}

impl Placed {
    /// Follows a change of a pod.
    pub fn note(&self, event: &InformerEvent) {
        match event {
            InformerEvent::Applied { old, new } => {
                let before = old.as_ref().and_then(|old| Some((node_of(old)?, old)));
                match before {
                    // A pod never moves; another one may get its name.
                    Some((_, old)) if old.header.uid == new.header.uid => return,
                    Some((node, old)) => self.remove(&node, &old.key()),
                    None => {}
                }
                if let Some(node) = node_of(new) {
                    self.insert(node, new.key());
                }
            }
            InformerEvent::Deleted(pod) => {
                if let Some(node) = node_of(pod) {
                    self.remove(&node, &pod.key());
                }
            }
            InformerEvent::Synced => {}
        }
    }

    fn insert(&self, node: String, pod: String) {
        let mut by_node = self.by_node.lock();
        let pods = by_node.entry(node).or_default();
        if !pods.iter().any(|known| **known == *pod) {
            pods.push(pod.into());
        }
    }

    fn remove(&self, node: &str, pod: &str) {
        let mut by_node = self.by_node.lock();
        if let Some(pods) = by_node.get_mut(node) {
            pods.retain(|known| **known != *pod);
            if pods.is_empty() {
                by_node.remove(node);
            }
        }
    }

    pub fn on(&self, node: &str) -> Vec<Box<str>> {
        self.by_node.lock().get(node).into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sampan_api::Object;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, uid: &str, node: Option<&str>) -> ObjectRef {
        let pod =
            json!({"metadata": {"name": name, "namespace": "n", "uid": uid}, "spec": {"nodeName": node}});
        Arc::new(Object::parse(pod.to_string().into()).expect("an object"))
    }

    fn applied(old: Option<&ObjectRef>, new: &ObjectRef) -> InformerEvent {
        InformerEvent::Applied { old: old.cloned(), new: new.clone() }
    }

    #[test]
    fn pods_are_found_by_their_nodes() {
        let placed = Placed::default();
        let (pending, bound) = (pod("a", "1", None), pod("a", "1", Some("x")));
        placed.note(&applied(None, &pending));
        let on = |node: &str| placed.on(node).iter().map(|key| key.to_string()).collect::<Vec<_>>();
        assert_eq!(on("x"), [""; 0]);
        placed.note(&applied(Some(&pending), &bound));
        placed.note(&applied(Some(&bound), &bound));
        assert_eq!(on("x"), ["n/a"]);
        // Deleted and made again between two looks.
        let again = pod("a", "2", Some("y"));
        placed.note(&applied(Some(&bound), &again));
        assert_eq!((on("x"), on("y")), (vec![], vec!["n/a".to_owned()]));
        let other = pod("b", "3", Some("y"));
        placed.note(&applied(None, &other));
        placed.note(&InformerEvent::Deleted(again));
        assert_eq!(on("y"), ["n/b"]);
        placed.note(&InformerEvent::Deleted(other));
        assert!(placed.by_node.lock().is_empty(), "nothing stays of what is gone");
    }
}
