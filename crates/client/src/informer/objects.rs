//! Objects in the order of their namespaces and names. Their keys are read in them, since a hundred thousand
//! keys beside them would take as much memory as the rest of a view together.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

use sampan_api::object::ObjectRef;

/// One object of each key.
#[derive(Default)]
pub(super) struct Objects {
    sorted: BTreeSet<Entry>,
}

struct Entry(ObjectRef);

/// What objects are ordered by.
trait Key {
    fn parts(&self) -> (&str, &str);
}

impl Key for Entry {
    fn parts(&self) -> (&str, &str) {
        (&self.0.header.namespace, &self.0.header.name)
    }
}

impl Key for (&str, &str) {
    fn parts(&self) -> (&str, &str) {
        *self
    }
}

impl Ord for dyn Key + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for dyn Key + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Key + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Key + '_ {}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Entry {}

impl<'a> Borrow<dyn Key + 'a> for Entry {
    fn borrow(&self) -> &(dyn Key + 'a) {
        self
    }
}

impl Objects {
    /// The object with this key: `namespace/name`, or `name` for objects of the cluster.
    pub fn get(&self, key: &str) -> Option<&ObjectRef> {
        self.find(key.split_once('/').unwrap_or(("", key)))
    }

    /// The object that has another one's key.
    pub fn get_like(&self, object: &ObjectRef) -> Option<&ObjectRef> {
        self.find((&object.header.namespace, &object.header.name))
    }

    fn find(&self, key: (&str, &str)) -> Option<&ObjectRef> {
        self.sorted.get(&key as &dyn Key).map(|Entry(object)| object)
    }

    /// Answers what had the object's key before.
    pub fn insert(&mut self, object: ObjectRef) -> Option<ObjectRef> {
        self.sorted.replace(Entry(object)).map(|Entry(old)| old)
    }

    pub fn remove(&mut self, object: &ObjectRef) {
        let key: (&str, &str) = (&object.header.namespace, &object.header.name);
        self.sorted.remove(&key as &dyn Key);
    }

    pub fn iter(&self) -> impl Iterator<Item = &ObjectRef> {
        self.sorted.iter().map(|Entry(object)| object)
    }

    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &ObjectRef> {
        let from = (namespace, "");
        let range = (Bound::Included(&from as &dyn Key), Bound::Unbounded);
        let all = self.sorted.range::<dyn Key, _>(range).map(|Entry(object)| object);
        all.take_while(move |object| &*object.header.namespace == namespace)
    }

    pub fn len(&self) -> usize {
        self.sorted.len()
    }
}

impl FromIterator<ObjectRef> for Objects {
    fn from_iter<T: IntoIterator<Item = ObjectRef>>(objects: T) -> Self {
        Objects { sorted: objects.into_iter().map(Entry).collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sampan_api::Object;
    use serde_json::json;

    use super::*;

    fn object(key: &str, uid: &str) -> ObjectRef {
        let (namespace, name) = key.split_once('/').unwrap_or(("", key));
        let object = json!({"metadata": {"namespace": namespace, "name": name, "uid": uid}});
        Arc::new(Object::parse(object.to_string().into()).expect("an object"))
    }

    fn keys<'a>(objects: impl Iterator<Item = &'a ObjectRef>) -> Vec<String> {
        objects.map(|object| object.key()).collect()
    }

    #[test]
    fn objects_are_found_by_their_keys() {
        let mut objects: Objects =
            ["b/1", "a/2", "a-b/1", "a/1", "node"].iter().map(|key| object(key, "first")).collect();
        assert_eq!(keys(objects.iter()), ["node", "a/1", "a/2", "a-b/1", "b/1"]);
        assert_eq!(keys(objects.of_namespace("a")), ["a/1", "a/2"]);
        assert_eq!(keys(objects.of_namespace("c")), [""; 0]);
        assert_eq!(objects.get("a/2").map(|object| object.key()), Some("a/2".to_owned()));
        assert_eq!(objects.get("node").map(|object| object.key()), Some("node".to_owned()));
        assert!(objects.get("a/3").is_none() && objects.get("a").is_none());
        let again = object("a/1", "second");
        let old = objects.insert(again.clone()).expect("it replaces one");
        assert_eq!((&*old.header.uid, objects.len()), ("first", 5));
        assert_eq!(objects.get_like(&old).map(|object| &*object.header.uid), Some("second"));
        objects.remove(&old);
        assert_eq!((objects.get("a/1").is_none(), objects.len()), (true, 4));
    }
}
