//! The record of one request, filled in on its way and written at its stages.
//!
//! Whoever learns something about the request notes it here, and whoever still works for it holds it: the
//! record is written for the last time when nobody does any more, which is when the answer has been sent and
//! the session that began with it has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use sampan_api::Status;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Audit;
use super::event::{Event, ObjectReference, ResponseStatus, UserInfo, micro_time};
use super::policy::{Level, Stage, Verdict};
use crate::identity::User;
use crate::registry::{Body, BodyFormat, decode_value};

/// Requests that took longer say where in their annotations.
const SLOW: jiff::SignedDuration = jiff::SignedDuration::from_millis(500);

/// A request that the policy wants recorded.
pub struct Record {
    audit: Arc<Audit>,
    verdict: Verdict,
    received: Timestamp,
    event: Mutex<Event>,
    /// Whether the last event was written.
    ended: AtomicBool,
}

impl Drop for Record {
    fn drop(&mut self) {
        if !*self.ended.get_mut() {
            self.write(Stage::ResponseComplete);
        }
    }
}

/// The metadata of a request's object that its record repeats.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Named {
    metadata: NamedMetadata,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct NamedMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

impl Record {
    pub(super) fn new(audit: Arc<Audit>, verdict: Verdict, received: Timestamp, event: Event) -> Self {
        Record { audit, verdict, received, event: Mutex::new(event), ended: AtomicBool::new(false) }
    }

    /// Whether the answer itself is recorded.
    pub fn wants_response(&self) -> bool {
        self.verdict.level == Level::RequestResponse
    }

    /// Whether what is recorded of the request depends on its body.
    pub fn wants_request(&self) -> bool {
        self.verdict.level >= Level::Request
    }

    /// As whom the request acts.
    pub fn impersonated(&self, user: &User) {
        self.event.lock().impersonated_user = Some(UserInfo::from(user));
    }

    /// What was decided about the request. The first note under a key stays.
    pub fn annotate(&self, key: &str, value: &str) {
        let mut event = self.event.lock();
        event.annotations.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }

    pub fn annotate_all<'a>(&self, notes: impl IntoIterator<Item = (&'a String, &'a String)>) {
        for (key, value) in notes {
            self.annotate(key, value);
        }
    }

    /// The body of a write, whose object may say more than the path does. A patch is no object.
    pub fn request_body(&self, bytes: &Bytes, format: BodyFormat, is_patch: bool) {
        if bytes.is_empty() || (is_patch && !self.wants_request()) {
            return;
        }
        let body = Body { bytes: bytes.clone(), format };
        let value = match (format, self.wants_request()) {
            // The usual case: only its name is of interest.
            (BodyFormat::Json, false) => None,
            _ => match decode_value(&body) {
                Ok(decoded) => Some(decoded.value),
                Err(_) => return,
            },
        };
        let named = match &value {
            Some(value) => Named::deserialize(value).unwrap_or_default(),
            None => serde_json::from_slice(bytes).unwrap_or_default(),
        };
        let mut event = self.event.lock();
        if let Some(reference) = event.object_ref.as_mut().filter(|_| !is_patch) {
            complete(reference, named.metadata);
        }
        if self.wants_request() {
            event.request_object = value.and_then(|value| self.shown(value));
        }
    }

    /// An object as it is recorded.
    fn shown(&self, mut value: Value) -> Option<Box<RawValue>> {
        if self.verdict.omit_managed_fields {
            without_managed_fields(&mut value);
        }
        serde_json::value::to_raw_value(&value).ok()
    }

    /// The code of the answer, and what it says where it is a status.
    pub fn responded(&self, code: u16, status: Option<&Status>) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        self.event.lock().response_status = Some(ResponseStatus::of(code, status));
    }

    /// The whole answer, decoded.
    pub fn response_object(&self, value: Value) {
        let shown = self.shown(value);
        self.event.lock().response_object = shown;
    }

    /// Authentication failed, with credentials of these kinds: one event, before the request is anybody's.
    pub fn unauthenticated(&self, tried: &[&str]) {
        let message = match tried {
            [] => "Authentication failed, no credentials provided".to_owned(),
            tried => format!("Authentication failed, attempted: {}", tried.join(", ")),
        };
        self.event.lock().response_status = Some(ResponseStatus { message, ..ResponseStatus::of(401, None) });
        self.write(Stage::ResponseStarted);
        self.end();
    }

    /// Nothing is to be written any more.
    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// The request's handler panicked.
    pub fn panicked(&self, message: &str) {
        let message = format!("APIServer panic'd: {message}");
        self.event.lock().response_status = Some(ResponseStatus::failure(500, "InternalError", message));
        self.write(Stage::Panic);
        self.end();
    }

    /// Writes what is known at a stage. Answers whether it was kept.
    pub fn write(&self, stage: Stage) -> bool {
        let mut event = self.event.lock();
        event.stage = stage;
        if self.verdict.omitted.has(stage) {
            return true;
        }
        let now = match stage {
            Stage::RequestReceived => self.received,
            Stage::ResponseStarted | Stage::ResponseComplete | Stage::Panic => Timestamp::now(),
        };
        event.stage_timestamp = micro_time(now);
        if stage == Stage::ResponseComplete {
            event.response_status.get_or_insert_with(ResponseStatus::closed_early);
            let took = now.duration_since(self.received);
            if took > SLOW {
                let total = format!("{}ms", took.as_millis());
                event.annotations.insert("apiserver.latency.k8s.io/total".to_owned(), total);
            }
        }
        self.audit.write(&event)
    }
}

/// What the path does not say.
fn complete(reference: &mut ObjectReference, metadata: NamedMetadata) {
    let fill = |field: &mut String, value: Option<String>| {
        if field.is_empty() {
            *field = value.unwrap_or_default();
        }
    };
    fill(&mut reference.name, metadata.name);
    fill(&mut reference.namespace, metadata.namespace);
    fill(&mut reference.uid, metadata.uid);
    fill(&mut reference.resource_version, metadata.resource_version);
}

/// Of an object, the objects of a list, or the rows of a table.
fn without_managed_fields(value: &mut Value) {
    let remove = |object: &mut Value| {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
    };
    remove(value);
    for item in value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        remove(item);
    }
    for row in value.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
        row.get_mut("object").map(remove);
    }
}
