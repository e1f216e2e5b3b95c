//! Lists: one consistent snapshot, filtered by selectors, in pages.

use std::ops::Bound;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TOKEN;
use sampan_api::object::ObjectRef;
use sampan_api::selector::{FieldSelector, Selector};
use sampan_api::table::ResourceDef;
use sampan_api::{Header, Status};
use sampan_client::ListOptions;
use serde::{Deserialize, Serialize};
use tokio::time::Duration;

use super::{Registry, Resource};
use crate::cache::{Pin, Snapshot};

/// How long a read waits for a revision that this server has not seen yet.
const FRESH_WAIT: Duration = Duration::from_secs(3);

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    pub items: Vec<ObjectRef>,
    pub revision: u64,
    pub continue_token: Option<String>,
    /// Objects after this page; absent when a selector makes it unknown.
    pub remaining: Option<u64>,
}

/// `resourceVersionMatch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevisionMatch {
    Exact,
    NotOlderThan,
}

/// Where a paged list goes on: upstream's `meta.k8s.io/v1` token, and what else the next page need not find out
/// again.
#[derive(Serialize, Deserialize)]
struct ContinueToken {
    v: String,
    rv: i64,
    start: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<u64>,
}

/// Where a page begins.
struct Place {
    /// The last key of the page before, empty for the first page.
    start: String,
    /// The objects from here on, where they are known without counting.
    left: Option<u64>,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// What a list or a watch selects.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    labels: Selector,
    fields: FieldSelector,
    namespace: Option<String>,
    namespaced: bool,
}

impl Selection {
    pub fn parse(def: &ResourceDef, namespace: Option<&str>, options: &ListOptions) -> Result<Self, Status> {
        let labels = options.label_selector.as_deref().unwrap_or_default().parse::<Selector>();
        let labels = labels.map_err(|error| Status::bad_request(error.to_string()))?;
        let fields: FieldSelector = options
            .field_selector
            .as_deref()
            .unwrap_or_default()
            .parse()
            .map_err(|error| Status::bad_request(format!("{error}")))?;
        check_fields(def, &fields)?;
        let namespace =
            namespace.filter(|namespace| def.namespaced && !namespace.is_empty()).map(str::to_owned);
        Ok(Selection { labels, fields, namespace, namespaced: def.namespaced })
    }

    /// Whether an object belongs to it. Reads the header only.
    pub fn matches(&self, def: &ResourceDef, header: &Header) -> bool {
        if self.namespace.as_deref().is_some_and(|namespace| namespace != &*header.namespace) {
            return false;
        }
        let field = |name: &str| match name {
            "metadata.name" => Some(&*header.name),
            "metadata.namespace" => Some(&*header.namespace),
            other => {
                let at = def.fields.iter().position(|known| known.name == other)?;
                header.fields.get(at).map(|value| &**value)
            }
        };
        (self.labels.is_everything() || self.labels.matches(|key| header.label(key)))
            && (self.fields.is_everything() || self.fields.matches(field))
    }

    /// The objects that belong to it, in order of their keys.
    pub fn choose(&self, def: &ResourceDef, snapshot: &Snapshot) -> Vec<ObjectRef> {
        self.among(snapshot, |header| self.matches(def, header))
    }

    /// The objects that may belong to it, whatever their fields are.
    fn candidates(&self, snapshot: &Snapshot) -> Vec<ObjectRef> {
        self.among(snapshot, |header| self.labels.matches(|key| header.label(key)))
    }

    fn among(&self, snapshot: &Snapshot, wanted: impl Fn(&Header) -> bool) -> Vec<ObjectRef> {
        let (first, end) = self.range();
        snapshot
            .range::<(Bound<&str>, Bound<&str>), str>((Bound::Included(first.as_str()), Bound::Unbounded))
            .take_while(|(key, _)| end.as_deref().is_none_or(|end| key.as_ref() < end))
            .filter(|(_, object)| wanted(&object.header))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Whether it asks for fields of another version than the stored one: no header has their values.
    pub fn needs_conversion(&self, def: &ResourceDef) -> bool {
        let is_stored = def.storage.as_ref().is_none_or(|storage| storage.stored_as == def.gvr);
        let own = |field: &str| !matches!(field, "metadata.name" | "metadata.namespace");
        def.custom && !is_stored && self.fields.requirements().iter().any(|one| own(&one.field))
    }

    /// What all its objects have in common, where the selectors say so.
    pub fn pin(&self, def: &ResourceDef) -> Option<Pin> {
        if let Some(name) = self.fields.exact("metadata.name").filter(|name| !name.is_empty()) {
            return Some(match &self.namespace {
                Some(namespace) => Pin::Key(format!("{namespace}/{name}").into()),
                None if !self.namespaced => Pin::Key(name.into()),
                None => Pin::Name(name.into()),
            });
        }
        if self.needs_conversion(def) {
            return None;
        }
        let mut fields = def.fields.iter().enumerate();
        fields.find_map(|(at, field)| Some(Pin::Field(at, self.fields.exact(&field.name)?.into())))
    }

    fn selects_all_of_its_namespace(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// The first key that can belong to it, and the one at which it ends.
    fn range(&self) -> (String, Option<String>) {
        let name = self.fields.exact("metadata.name").filter(|name| !name.is_empty());
        match (&self.namespace, name) {
            (Some(namespace), Some(name)) => {
                (format!("{namespace}/{name}"), Some(format!("{namespace}/{name}\0")))
            }
            (None, Some(name)) if !self.namespaced => (name.to_owned(), Some(format!("{name}\0"))),
            (Some(namespace), None) => (format!("{namespace}/"), Some(format!("{namespace}0"))),
            (None, _) => (String::new(), None),
        }
    }
}

/// Refuses a selector by fields that objects of this kind cannot be selected by.
fn check_fields(def: &ResourceDef, fields: &FieldSelector) -> Result<(), Status> {
    let known = |field: &str| match field {
        "metadata.name" => true,
        "metadata.namespace" => def.namespaced || !def.custom,
        "" => false,
        field => def.fields.iter().any(|known| known.name == field),
    };
    // Custom resources have words of their own, which some built-in kinds share.
    let (group, kind) = if def.custom { ("", "Pod") } else { (def.gvr.group.as_ref(), def.kind.as_ref()) };
    fields.check(group, kind, known).map_err(|error| Status::bad_request(error.to_string()))
}

impl Registry {
    /// One page of what a selection holds.
    pub async fn page(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        options: &ListOptions,
        revision_match: Option<RevisionMatch>,
    ) -> Result<Page, Status> {
        let def = &resource.def;
        let selection = Selection::parse(def, namespace, options)?;
        let (snapshot, revision, place) = match &options.continue_token {
            Some(token) => self.resume(resource, token, options)?,
            None => {
                let (snapshot, revision) = self.snapshot(resource, options, revision_match).await?;
                let left = selection.namespace.is_none().then_some(snapshot.len() as u64);
                (snapshot, revision, Place { start: String::new(), left })
            }
        };
        let snapshot = self.selectable(resource, &selection, snapshot).await?;
        let mut page = fill(def, &selection, &snapshot, place, options.limit as usize);
        page.revision = revision;
        page.continue_token = page.continue_token.map(|start| {
            let (rv, left) = (revision as i64, page.remaining);
            let token = ContinueToken { v: TOKEN_VERSION.into(), rv, start, left };
            TOKEN.encode(serde_json::to_vec(&token).expect("a token of texts and a number serialises"))
        });
        page.items = self.all_in_version(resource, page.items).await?;
        Ok(page)
    }

    /// A snapshot in which a selection finds the fields that it asks for: where those are of another version
    /// than the stored one, the objects that may belong to it, in that version.
    pub async fn selectable(
        &self,
        resource: &Resource,
        selection: &Selection,
        snapshot: Snapshot,
    ) -> Result<Snapshot, Status> {
        if !selection.needs_conversion(&resource.def) {
            return Ok(snapshot);
        }
        let objects = self.all_with_fields(resource, selection.candidates(&snapshot)).await?;
        Ok(objects.into_iter().map(|object| (Arc::from(object.key()), object)).collect())
    }

    async fn snapshot(
        &self,
        resource: &Resource,
        options: &ListOptions,
        revision_match: Option<RevisionMatch>,
    ) -> Result<(Snapshot, u64), Status> {
        let asked = options.revision.unwrap_or(0);
        match options.revision {
            None => self.fresh().await?,
            Some(0) => {}
            Some(asked) => self.wait_for_revision(asked).await?,
        }
        // A page of a revision is of that very one, unless the client says that a later one will do.
        let exact = match revision_match {
            Some(RevisionMatch::Exact) => true,
            Some(RevisionMatch::NotOlderThan) => false,
            None => options.limit > 0,
        };
        if exact && asked > 0 {
            let snapshot = resource
                .cache
                .snapshot_at(asked)
                .map_err(|_| Status::expired("The resourceVersion for the provided list is too old."))?;
            return Ok((snapshot, asked));
        }
        Ok(resource.cache.snapshot())
    }

    /// Waits a moment for a revision that a client saw elsewhere.
    pub async fn wait_for_revision(&self, revision: u64) -> Result<(), Status> {
        if tokio::time::timeout(FRESH_WAIT, self.caches.applied(revision)).await.is_ok() {
            return Ok(());
        }
        let message = format!("Too large resource version: {revision}, current: {}", self.caches.revision());
        let mut status = Status::timeout(message);
        status.details = Some(sampan_api::status::StatusDetails {
            causes: vec![sampan_api::status::Cause {
                reason: "ResourceVersionTooLarge".into(),
                message: "Too large resource version".into(),
                field: String::new(),
            }],
            retry_after_seconds: 1,
            ..Default::default()
        });
        Err(status)
    }

    fn resume(
        &self,
        resource: &Resource,
        token: &str,
        options: &ListOptions,
    ) -> Result<(Snapshot, u64, Place), Status> {
        if options.revision.is_some_and(|revision| revision != 0) {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let invalid = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
        let json = TOKEN.decode(token).map_err(|error| invalid(&error.to_string()))?;
        let token: ContinueToken =
            serde_json::from_slice(&json).map_err(|error| invalid(&error.to_string()))?;
        if token.v != TOKEN_VERSION {
            return Err(invalid(&format!("server does not recognize this encoded version {:?}", token.v)));
        }
        // A negative revision goes on at the latest one: what a client that met 410 may ask for.
        let Ok(revision) = u64::try_from(token.rv) else {
            let (snapshot, revision) = resource.cache.snapshot();
            return Ok((snapshot, revision, Place { start: token.start, left: None }));
        };
        let young = !self.caches.is_old(revision);
        match resource.cache.snapshot_at(revision) {
            Ok(snapshot) if young => {
                // What a client sends may be anything.
                let left = token.left.filter(|left| *left <= snapshot.len() as u64);
                Ok((snapshot, revision, Place { start: token.start, left }))
            }
            Ok(_) | Err(_) => {
                let inconsistent = ContinueToken { rv: -1, left: None, ..token };
                let mut status = Status::expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start \
                     a new list without the continue parameter, or use the continue token in this response to \
                     retrieve the remainder of the results. Continuing with the provided token results in an \
                     inconsistent list - objects that were created, modified, or deleted between the time the \
                     first chunk was returned and now may show up in the list.",
                );
                status.metadata.continue_token =
                    TOKEN.encode(serde_json::to_vec(&inconsistent).map_err(Status::internal)?);
                Err(status)
            }
        }
    }
}

/// Takes objects from a place on until the page is full.
fn fill(def: &ResourceDef, selection: &Selection, snapshot: &Snapshot, place: Place, limit: usize) -> Page {
    let (first, end) = selection.range();
    let from = if place.start.is_empty() { first } else { place.start + "\0" };
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut items = Vec::new();
    let mut last: Option<&Arc<str>> = None;
    let mut rest = snapshot
        .range::<(Bound<&str>, Bound<&str>), str>((Bound::Included(from.as_str()), Bound::Unbounded))
        .take_while(|(key, _)| end.as_deref().is_none_or(|end| key.as_ref() < end));
    for (key, object) in rest.by_ref() {
        if !selection.matches(def, &object.header) {
            continue;
        }
        items.push(object.clone());
        last = Some(key);
        if items.len() == limit {
            break;
        }
    }
    let mut page = Page { items, revision: 0, continue_token: None, remaining: None };
    if page.items.len() == limit {
        if selection.selects_all_of_its_namespace() {
            // A count of a hundred thousand objects for each page takes longer than the page.
            let known = place.left.and_then(|left| left.checked_sub(limit as u64)).filter(|known| *known > 0);
            let remaining = known.unwrap_or_else(|| rest.count() as u64);
            page.remaining = (remaining > 0).then_some(remaining);
            page.continue_token = page.remaining.and(last).map(|key| key.to_string());
        } else if rest.any(|(_, object)| selection.matches(def, &object.header)) {
            page.continue_token = last.map(|key| key.to_string());
        }
    }
    page
}
