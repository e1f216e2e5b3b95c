//! GET on resources: objects, lists and watches.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use sampan_api::Status;
use sampan_api::object::ObjectRef;
use sampan_api::table::{ResourceDef, SubresourceRole};
use sampan_client::{ListOptions, WatchEvent};
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::ResponseBody;
use super::answer::{self, Included};
use super::negotiate::{Shape, accepted};
use crate::ApiServer;
use crate::metrics::requests::WatchSeries;
use crate::registry::{Resource, RevisionMatch, Selection};
use crate::route::{Query, ResourceRoute};
use crate::watch::{Start, Watcher};

/// How long a watch lasts where the client does not say: between one and two of these, so that not
/// all come back at once.
const WATCH_SECONDS: u64 = 1800;
/// How often a watch that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

pub fn list_options(query: &Query) -> Result<(ListOptions, Option<RevisionMatch>), Status> {
    let revision_match = match query.get("resourceVersionMatch") {
        None => None,
        Some("Exact") => Some(RevisionMatch::Exact),
        Some("NotOlderThan") => Some(RevisionMatch::NotOlderThan),
        Some(other) => {
            return Err(Status::bad_request(format!(
                "resourceVersionMatch: Unsupported value: \"{other}\": supported values: \"Exact\", \"NotOlderThan\""
            )));
        }
    };
    let revision = query
        .get("resourceVersion")
        .map(|text| {
            text.parse().map_err(|_| {
                Status::bad_request(format!("resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"))
            })
        })
        .transpose()?;
    if revision_match == Some(RevisionMatch::Exact) && revision.is_none_or(|revision: u64| revision == 0) {
        return Err(Status::bad_request(
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\" or unset",
        ));
    }
    let options = ListOptions {
        label_selector: query.get("labelSelector").map(str::to_owned),
        field_selector: query.get("fieldSelector").map(str::to_owned),
        revision,
        limit: query.number("limit")?.unwrap_or(0).try_into().unwrap_or(u32::MAX),
        continue_token: query.get("continue").map(str::to_owned),
    };
    Ok((options, revision_match))
}

pub async fn get(
    server: &ApiServer,
    route: &ResourceRoute,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, Status> {
    let accepted = accepted(headers)?;
    let resource = server.registry.resource(&route.gvr)?;
    let (namespace, name) = (route.namespace.as_deref(), route.name.as_deref().unwrap_or_default());
    if let Some(subresource) = route.subresource.as_deref() {
        let subresource = resource.def.subresource(subresource).ok_or_else(Status::no_such_route)?;
        match &subresource.role {
            role @ SubresourceRole::Scale { .. } => {
                let scale = server.registry.scale(&resource, role, namespace, name)?;
                return Ok(answer::value(StatusCode::OK, &scale, accepted));
            }
            SubresourceRole::Status | SubresourceRole::Part => {}
            SubresourceRole::Action | SubresourceRole::Connect => {
                return Err(Status::method_not_allowed(&route.gvr, "get"));
            }
        }
    }
    if let Some(revision) = query.number("resourceVersion")?.filter(|revision| *revision > 0) {
        server.registry.wait_for_revision(revision).await?;
    }
    let object = server.registry.get(&route.gvr, namespace, name)?;
    let object = server.registry.in_version(&resource, object)?;
    let included = Included::parse(query.get("includeObject"))?;
    Ok(answer::object(StatusCode::OK, &resource.def, &object, accepted, included))
}

pub async fn list(
    server: &ApiServer,
    route: &ResourceRoute,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, Status> {
    let accepted = accepted(headers)?;
    let resource = server.registry.resource(&route.gvr)?;
    let (options, revision_match) = list_options(query)?;
    let page = server.registry.page(&resource, route.namespace.as_deref(), &options, revision_match).await?;
    Ok(answer::list(&resource.def, &page, accepted, Included::parse(query.get("includeObject"))?))
}

pub async fn watch(
    server: &Arc<ApiServer>,
    route: &ResourceRoute,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Response<ResponseBody>, Status> {
    let accepted = accepted(headers)?;
    let resource = server.registry.resource(&route.gvr)?;
    let (mut options, revision_match) = list_options(query)?;
    if let Some(name) = &route.name {
        // The deprecated watch on one object.
        options.field_selector = Some(format!("metadata.name={name}"));
    }
    let send_initial = query.flag("sendInitialEvents")?;
    if send_initial && revision_match != Some(RevisionMatch::NotOlderThan) {
        return Err(Status::failure(
            422,
            "Invalid",
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    let selection = Selection::parse(&resource.def, route.namespace.as_deref(), &options)?;
    let start = match options.revision {
        Some(revision) if revision > 0 && !send_initial => Start::After(revision),
        Some(revision) if revision > 0 => {
            server.registry.wait_for_revision(revision).await?;
            Start::Existing
        }
        _ => Start::Existing,
    };
    let seconds = match query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0) {
        Some(seconds) => seconds,
        None => rand::random_range(WATCH_SECONDS..2 * WATCH_SECONDS),
    };
    let bookmarks = query.flag("allowWatchBookmarks")?;
    let watcher = Watcher::open(server.registry.clone(), resource.clone(), selection, start).await?;
    let mut ticks = tokio::time::interval_at(Instant::now() + BOOKMARK_EVERY, BOOKMARK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sender = Sender {
        watcher,
        encoder: Encoder {
            resource,
            shape: accepted.shape,
            included: Included::parse(query.get("includeObject"))?,
            columns_sent: false,
            counted: server.metrics.requests.watch(&route.gvr),
        },
        bookmarks: bookmarks.then_some(ticks),
        bookmarked: 0,
        deadline: Instant::now() + Duration::from_secs(seconds),
        phase: if send_initial && bookmarks { Phase::Initial } else { Phase::Following },
    };
    let frames = stream::unfold(Some(sender), |sender| async {
        let mut sender = sender?;
        match sender.next().await {
            Some(Ok(bytes)) => Some((Ok(Frame::data(bytes)), Some(sender))),
            Some(Err(last)) => Some((Ok(Frame::data(last)), None)),
            None => None,
        }
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Where a watch is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What exists is still to be sent, and its end to be marked.
    Initial,
    Following,
}

struct Sender {
    watcher: Watcher,
    encoder: Encoder,
    bookmarks: Option<Interval>,
    /// The revision of the last bookmark.
    bookmarked: u64,
    deadline: Instant,
    phase: Phase,
}

impl Sender {
    /// The next bytes; an `Err` holds the last ones. `None` ends the watch.
    async fn next(&mut self) -> Option<Result<Bytes, Bytes>> {
        if self.phase == Phase::Initial {
            self.phase = Phase::Following;
            let mut bytes = match self.watcher.initial() {
                Ok(events) => self.encoder.encode(&events),
                Err(status) => return Some(Err(error_line(&status))),
            };
            bytes.put(self.encoder.bookmark(self.watcher.revision(), true));
            return Some(Ok(bytes.freeze()));
        }
        loop {
            let tick = async {
                match &mut self.bookmarks {
                    Some(ticks) => ticks.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                events = self.watcher.next() => return Some(match events {
                    Ok(events) => Ok(self.encoder.encode(&events).freeze()),
                    Err(status) => Err(error_line(&status)),
                }),
                _ = tick => {
                    let revision = self.watcher.revision();
                    if revision > self.bookmarked {
                        self.bookmarked = revision;
                        return Some(Ok(self.encoder.bookmark(revision, false)));
                    }
                }
                () = tokio::time::sleep_until(self.deadline) => return None,
            }
        }
    }
}

fn error_line(status: &Status) -> Bytes {
    let status = serde_json::to_value(status).unwrap_or_default();
    format!("{}\n", json!({"type": "ERROR", "object": status})).into()
}

/// Writes events as lines of JSON.
struct Encoder {
    resource: Resource,
    shape: Shape,
    included: Included,
    /// Column definitions go with the first table only.
    columns_sent: bool,
    counted: WatchSeries,
}

impl Encoder {
    fn encode(&mut self, events: &[WatchEvent]) -> BytesMut {
        let mut lines = BytesMut::new();
        for event in events {
            let (kind, object) = match event {
                WatchEvent::Added(object) => ("ADDED", object),
                WatchEvent::Modified(object) => ("MODIFIED", object),
                WatchEvent::Deleted(object) => ("DELETED", object),
                WatchEvent::Bookmark(revision) => {
                    lines.put(self.bookmark(*revision, false));
                    continue;
                }
            };
            let body = self.body(object);
            lines.reserve(body.len() + 40);
            lines.put_slice(b"{\"type\":\"");
            lines.put_slice(kind.as_bytes());
            lines.put_slice(b"\",\"object\":");
            lines.put_slice(&body);
            lines.put_slice(b"}\n");
            self.counted.sent(body.len());
        }
        lines
    }

    fn body(&mut self, object: &ObjectRef) -> Bytes {
        match self.shape {
            Shape::Object => object.bytes.clone(),
            Shape::Metadata => answer::metadata_only(object),
            Shape::Table => {
                let with_columns = !std::mem::replace(&mut self.columns_sent, true);
                let revision = object.header.revision.to_string();
                let objects = std::slice::from_ref(object);
                answer::table(&self.resource.def, objects, &revision, self.included, with_columns)
                    .to_string()
                    .into()
            }
        }
    }

    fn bookmark(&self, revision: u64, initial_end: bool) -> Bytes {
        let def: &ResourceDef = &self.resource.def;
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, version) = match self.shape {
            Shape::Object => (def.kind.to_string(), def.gvr.api_version()),
            Shape::Metadata => ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned()),
            Shape::Table => {
                let row = json!({"cells": [], "object": {"kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1", "metadata": metadata}});
                let table = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata":
                    {"resourceVersion": revision.to_string()}, "columnDefinitions": null, "rows": [row]});
                return format!("{}\n", json!({"type": "BOOKMARK", "object": table})).into();
            }
        };
        let object = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        format!("{}\n", json!({"type": "BOOKMARK", "object": object})).into()
    }
}
