//! Server-side apply: sets of fields, `metadata.managedFields`, and what an apply makes of an object.

use std::borrow::Cow;

use sampan_api::apply::{Element, FieldSet, Managed, Request, Typed, Versions, fields};
use sampan_api::schema::{self, Report, Schema, TypeId};
use serde_json::{Map, Value};

use crate::input;

const NOW: &str = "2026-01-01T00:00:00Z";
const KINDS: [(&str, &str, &str); 3] = [
    ("io.k8s.api.apps.v1.Deployment", "apps/v1", "Deployment"),
    ("io.k8s.api.core.v1.Service", "v1", "Service"),
    ("io.k8s.api.core.v1.ConfigMap", "v1", "ConfigMap"),
];

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = input::choice(data) else { return };
    let Some((first, second)) = input::halves(rest) else { return };
    let decode = |bytes: &[u8]| schema::decode(bytes, bytes.len()).map(|decoded| decoded.value);
    let (Ok(first), Ok(second)) = (decode(first), decode(second)) else { return };
    let kind = Kind::new(usize::from(choice / 4));
    match choice % 4 {
        0 => sets(&first, &second),
        1 => owners(&first),
        2 => kind.any_owners(&first, &second),
        _ => kind.created_then_applied(first, second),
    }
}

/// What is written of a set is read again, and sets obey the laws of sets.
fn sets(a: &Value, b: &Value) {
    let (Ok(a), Ok(b)) = (FieldSet::from_json(a), FieldSet::from_json(b)) else { return };
    assert_eq!(FieldSet::from_json(&a.to_json()).as_ref(), Ok(&a), "written and read");
    assert_eq!(a.union(&b), b.union(&a));
    assert_eq!(a.union(&a), a);
    assert_eq!(a.intersection(&b), b.intersection(&a));
    assert!(a.difference(&a).is_empty());
    assert!(a.difference(&b).intersection(&b).is_empty());
    assert_eq!(a.difference(&b).union(&a.intersection(&b)), a);
    let mut rebuilt = FieldSet::default();
    for path in a.paths() {
        assert!(a.has(&path), "{path:?}");
        rebuilt.insert(&path);
    }
    assert_eq!(rebuilt, a);
}

fn owners(entries: &Value) {
    let Ok(managed) = Managed::from_json(Some(entries)) else { return };
    let written = managed.to_json();
    assert_eq!(Managed::from_json(written.as_ref()).as_ref(), Ok(&managed), "written and read");
}

struct Kind {
    schema: &'static Schema,
    id: TypeId,
    api_version: &'static str,
    name: &'static str,
}

impl Versions for Kind {
    fn typed(&self, api_version: &str) -> Option<Typed<'_>> {
        (api_version == self.api_version).then(|| Typed::new(self.schema, self.id))
    }

    fn convert<'v>(&self, _object: &'v Value, _from: &str, _to: &str) -> Option<Cow<'v, Value>> {
        None
    }

    fn ignored(&self, _api_version: &str) -> FieldSet {
        fields(["status"])
    }
}

impl Kind {
    fn new(at: usize) -> Self {
        let (type_name, api_version, name) = KINDS[at % KINDS.len()];
        let schema = schema::builtin();
        Kind { schema, id: schema.lookup(type_name).expect("a built-in kind"), api_version, name }
    }

    fn request<'a>(&'a self, manager: &'a str) -> Request<'a> {
        let (api_version, kind) = (self.api_version, self.name);
        Request { versions: self, api_version, kind, manager, subresource: "", now: NOW }
    }

    /// As the registry leaves an object: of the right type, named, and with an identity. None where
    /// that is not possible.
    fn stored(&self, mut object: Value) -> Option<Value> {
        let fields = object.as_object_mut()?;
        fields.insert("apiVersion".into(), self.api_version.into());
        fields.insert("kind".into(), self.name.into());
        let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        metadata.as_object_mut()?.insert("uid".into(), "u".into());
        let report = schema::check(self.schema, self.id, &mut object);
        report.mistyped.is_none().then_some(object)
    }

    /// A configuration: of the right type, named, without owners.
    fn config(&self, config: Value) -> Option<Value> {
        let mut config = self.stored(config)?;
        let metadata = config["metadata"].as_object_mut()?;
        metadata.remove("uid");
        metadata.remove("managedFields");
        Some(config)
    }

    /// Whatever an object's owners are said to be, applying ends, and twice is once.
    fn any_owners(&self, live: &Value, config: &Value) {
        let (Some(live), Some(config)) = (self.stored(live.clone()), self.config(config.clone())) else {
            return;
        };
        let apply = |live: &Value| {
            let once = self.request("a").apply(Some(live), &config, true).ok()?;
            Some(self.stored(once).expect("what was merged is of the right type"))
        };
        let Some(mut once) = apply(&live) else { return };
        if owners_of(&once).is_empty() {
            // Owners are told anew from the next apply on.
            once = apply(&once).expect("it was applied before");
        }
        let twice = self.request("a").apply(Some(&once), &config, false).expect("nothing is to be taken");
        assert_eq!(self.stored(twice), Some(once), "{config} on {live}");
    }

    /// An object is created, and a configuration applied to it.
    fn created_then_applied(&self, live: Value, config: Value) {
        let (Some(mut live), Some(config)) = (self.config(live), self.config(config)) else { return };
        // No configuration may have an item twice.
        let unique = self.request("a").apply(None, &live, false).is_ok();
        live["metadata"]["uid"] = "u".into();
        self.request("creator").update(None, &mut live);
        let before = [&live, &config];
        self.owned_is_there(&live, before);
        let Ok(applied) = self.request("a").apply(Some(&live), &config, true) else { return };
        let applied = self.stored(applied).expect("what was merged is of the right type");
        self.owned_is_there(&applied, before);
        // An update to what it was before leaves nothing owned that is gone.
        let mut back = live.clone();
        back["metadata"]["managedFields"] = applied["metadata"]["managedFields"].clone();
        self.request("reverter").update(Some(&applied), &mut back);
        self.owned_is_there(&back, before);
        // Who applies nothing any more owns nothing any more.
        let empty = self.config(Value::Object(Map::new())).expect("an empty configuration");
        let left = self.request("a").apply(Some(&applied), &empty, false).expect("nothing is taken");
        let left = self.stored(left).expect("less of the right type is of the right type");
        self.owned_is_there(&left, before);
        assert!(owners_of(&left).into_iter().all(|(name, _)| name != "a"), "{left}");
        // What it had it gets by applying again; who owned a list or map around it may have lost that, and
        // with it what the kind always writes inside, of which nobody owns that it is there.
        let again = self.request("a").apply(Some(&left), &config, true).expect("it was applied before");
        let again = self.stored(again).expect("what was merged is of the right type");
        if unique {
            // Of items that were there twice one comes back, at the place of a new one.
            assert_eq!(self.written(&again), self.written(&applied), "{config} on {live}");
        }
        let of_a = |object: &Value| owners_of(object).into_iter().find(|(name, _)| name == "a");
        assert_eq!(of_a(&again), of_a(&applied), "{config} on {live}");
    }

    /// An object without its owners, and with all that its kind always writes.
    fn written(&self, object: &Value) -> Value {
        let mut object = object.clone();
        object["metadata"].as_object_mut().expect("it was stored").remove("managedFields");
        fill(&mut object, Typed::new(self.schema, self.id).skeleton());
        object
    }

    /// Who owned a list or map may still do so when the last of what was in it went with its owner, and it
    /// was left out.
    fn owned_is_there(&self, object: &Value, before: [&Value; 2]) {
        let mut checked = object.clone();
        assert_eq!(schema::check(self.schema, self.id, &mut checked), Report::default(), "{object}");
        for (name, fields) in owners_of(object) {
            for path in fields.paths() {
                let emptied = before.iter().any(|before| leads_to(before, &path, &is_container));
                let there = leads_to(object, &path, &|_| true);
                assert!(there || emptied, "{name} owns {path:?}, which is not in {object}");
            }
        }
    }
}

/// Puts what a skeleton has, and an object has not, into the object.
fn fill(object: &mut Value, skeleton: Value) {
    let (Some(fields), Value::Object(always)) = (object.as_object_mut(), skeleton) else { return };
    for (name, inner) in always {
        fill(fields.entry(name).or_insert_with(|| Value::Object(Map::new())), inner);
    }
}

fn owners_of(object: &Value) -> Vec<(String, FieldSet)> {
    let entries = object.pointer("/metadata/managedFields");
    let managed = Managed::from_json(entries).expect("what was written can be read");
    managed.entries.into_iter().map(|(manager, owned)| (manager.name, owned.fields)).collect()
}

fn is_container(value: &Value) -> bool {
    value.is_array() || value.is_object()
}

/// Whether a path leads to a value of which something holds.
fn leads_to(at: &Value, path: &[Element], holds: &dyn Fn(&Value) -> bool) -> bool {
    let Some((element, rest)) = path.split_first() else { return holds(at) };
    let items = || at.as_array().into_iter().flatten();
    match element {
        Element::Field(name) => at.get(&**name).is_some_and(|next| leads_to(next, rest, holds)),
        // A key that is left out has its default.
        Element::Key(keys) => items().any(|item| {
            keys.iter().all(|(name, value)| item.get(&**name).is_none_or(|own| own == value))
                && leads_to(item, rest, holds)
        }),
        Element::Value(value) => items().any(|item| *item == **value && holds(item)),
        Element::Index(_) => false,
    }
}
