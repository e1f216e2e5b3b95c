//! `audit.k8s.io/v1` `Event`: one request at one stage, as a line of JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sampan_api::Status;
use sampan_api::status::StatusDetails;
use serde::Serialize;
use serde_json::value::RawValue;

use super::policy::{Level, Stage};
use crate::identity::User;

/// The longest user agent that is recorded, in bytes.
const MAX_USER_AGENT: usize = 1024;
/// The annotation of an event that is not whole.
const TRUNCATED: &str = "audit.k8s.io/truncated";

/// What is known of a request so far.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    kind: &'static str,
    api_version: &'static str,
    pub level: Level,
    #[serde(rename = "auditID")]
    pub audit_id: String,
    pub stage: Stage,
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    pub verb: String,
    pub user: UserInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<UserInfo>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectReference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<ResponseStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_object: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_object: Option<Box<RawValue>>,
    pub request_received_timestamp: String,
    pub stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// `authentication.k8s.io/v1` `UserInfo`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct UserInfo {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

impl From<&User> for UserInfo {
    fn from(user: &User) -> Self {
        UserInfo {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

/// Which object a request is about.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
}

/// The bounded fields of a `Status`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ResponseStatus {
    pub(super) metadata: NoMetadata,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<StatusDetails>,
    #[serde(skip_serializing_if = "is_zero")]
    pub code: u16,
}

fn is_zero(code: &u16) -> bool {
    *code == 0
}

/// Go's encoder writes it although it is empty.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct NoMetadata {}

impl ResponseStatus {
    /// A code, and what the answer says about itself where it is a status.
    pub fn of(code: u16, status: Option<&Status>) -> Self {
        let Some(status) = status else { return ResponseStatus { code, ..ResponseStatus::default() } };
        ResponseStatus {
            metadata: NoMetadata {},
            status: status.status.clone(),
            message: status.message.clone(),
            reason: status.reason.clone(),
            details: status.details.clone(),
            code,
        }
    }

    pub fn failure(code: u16, reason: &str, message: String) -> Self {
        ResponseStatus::of(code, Some(&Status::failure(code, reason, message)))
    }

    /// The connection ended before an answer was sent.
    pub fn closed_early() -> Self {
        let message = "Connection closed early".to_owned();
        ResponseStatus { status: "Success".to_owned(), message, code: 200, ..ResponseStatus::default() }
    }
}

impl Event {
    /// An event of a request that has just been received.
    pub fn new(level: Level, audit_id: String, user: UserInfo, received: Timestamp) -> Self {
        let received = micro_time(received);
        Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level,
            audit_id,
            stage: Stage::RequestReceived,
            request_uri: String::new(),
            verb: String::new(),
            user,
            impersonated_user: None,
            source_ips: Vec::new(),
            user_agent: String::new(),
            object_ref: None,
            response_status: None,
            request_object: None,
            response_object: None,
            stage_timestamp: received.clone(),
            request_received_timestamp: received,
            annotations: BTreeMap::new(),
        }
    }

    pub fn set_user_agent(&mut self, agent: &str) {
        self.user_agent = match agent.char_indices().find(|(at, one)| at + one.len_utf8() > MAX_USER_AGENT) {
            None => agent.to_owned(),
            Some((end, _)) => format!("{}...TRUNCATED", &agent[..end]),
        };
    }

    /// One line, without its end, of at most `limit` bytes: without the objects where it would be longer,
    /// and none at all where that is not enough.
    pub fn line(&self, limit: usize) -> Option<Vec<u8>> {
        let line = serde_json::to_vec(self).ok()?;
        if line.len() <= limit {
            return Some(line);
        }
        let mut short = self.clone();
        (short.request_object, short.response_object) = (None, None);
        short.annotations.insert(TRUNCATED.to_owned(), "true".to_owned());
        let line = serde_json::to_vec(&short).ok()?;
        (line.len() <= limit).then_some(line)
    }
}

/// `metav1.MicroTime`.
pub fn micro_time(time: Timestamp) -> String {
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event() -> Event {
        let received = "2026-01-02T03:04:05.678901234Z".parse().expect("a time");
        let user = UserInfo::from(&User::component("jane", &[]));
        Event::new(Level::Request, "id".to_owned(), user, received)
    }

    #[test]
    fn an_event_has_upstreams_fields() {
        let mut event = event();
        event.request_uri = "/api/v1/namespaces/a/pods".to_owned();
        event.verb = "create".to_owned();
        event.source_ips = vec!["10.0.0.1".to_owned()];
        let (resource, api_version) = ("pods".to_owned(), "v1".to_owned());
        event.object_ref = Some(ObjectReference { resource, api_version, ..ObjectReference::default() });
        event.response_status = Some(ResponseStatus::of(201, None));
        event.request_object = Some(RawValue::from_string("{\"a\":1}".to_owned()).expect("JSON"));
        let line: Value = serde_json::from_slice(&event.line(4096).expect("short")).expect("JSON");
        let expected = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Request", "auditID": "id",
            "stage": "RequestReceived", "requestURI": "/api/v1/namespaces/a/pods", "verb": "create",
            "user": {"username": "jane", "groups": ["system:authenticated"]}, "sourceIPs": ["10.0.0.1"],
            "objectRef": {"resource": "pods", "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 201}, "requestObject": {"a": 1},
            "requestReceivedTimestamp": "2026-01-02T03:04:05.678901Z",
            "stageTimestamp": "2026-01-02T03:04:05.678901Z",
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn what_is_too_long_loses_its_objects_first() {
        let mut event = event();
        event.response_object = Some(RawValue::from_string(format!("{:?}", "x".repeat(5000))).expect("JSON"));
        let line: Value = serde_json::from_slice(&event.line(4096).expect("short")).expect("JSON");
        assert_eq!(line["annotations"], json!({"audit.k8s.io/truncated": "true"}));
        assert_eq!(line["responseObject"], Value::Null);
        assert_eq!(event.line(100), None);
    }

    #[test]
    fn user_agents_are_cut_between_characters() {
        let mut event = event();
        event.set_user_agent(&"ä".repeat(600));
        assert_eq!(event.user_agent, format!("{}...TRUNCATED", "ä".repeat(512)));
        event.set_user_agent("curl/8");
        assert_eq!(event.user_agent, "curl/8");
    }
}
