//! Watches over HTTP: which events a client gets, in which order, and when it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use sampan_api::Status;
use sampan_api::object::ObjectRef;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::ResponseBody;
use super::body::PIECE;
use super::form::{Included, Writer};
use super::negotiate::{Media, Offer, accepted_stream};
use super::options;
use crate::ApiServer;
use crate::frames::FrameKey;
use crate::metrics::requests::WatchSeries;
use crate::registry::Selection;
use crate::route::{Query, ResourceRoute};
use crate::watch::{Seen, Start, Watcher};

mod socket;

/// How long a watch lasts where the client does not say: between one and two of these, so that not
/// all come back at once.
const WATCH_SECONDS: u64 = 1800;
/// How often a watch that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before its end a watch gets its last one.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

pub async fn watch(
    server: &Arc<ApiServer>,
    route: &ResourceRoute,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Status> {
    let headers = request.headers();
    let resource = server.registry.resource(&route.gvr)?;
    let accepted = accepted_stream(headers, query, Offer::of(&resource.def))?;
    let asked = options::watch(query)?;
    let mut list = asked.list;
    if let Some(name) = &route.name {
        // The deprecated watch on one object.
        list.field_selector = Some(format!("metadata.name={name}"));
    }
    let selection = Selection::parse(&resource.def, route.namespace.as_deref(), &list)?;
    if list.revision.is_none() {
        server.registry.fresh().await?;
    }
    let start = match (list.revision, asked.send_initial) {
        (Some(revision), Some(true)) if revision > 0 => {
            server.registry.wait_for_revision(revision).await?;
            Start::Existing
        }
        (Some(revision), _) if revision > 0 => Start::After(revision),
        (_, Some(false)) => Start::Now,
        (_, _) => Start::Existing,
    };
    let seconds =
        asked.timeout_seconds.unwrap_or_else(|| rand::random_range(WATCH_SECONDS..2 * WATCH_SECONDS));
    let writer = Writer::new(resource.def.clone(), accepted, Included::of(accepted, query)?)?;
    let watcher = Watcher::open(server.registry.clone(), resource, selection, start).await?;
    let counted = server.metrics.requests.watch(&route.gvr);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let ends_initial = asked.bookmarks && asked.send_initial == Some(true);
    let sender = Sender::new(watcher, writer, counted, deadline, asked.bookmarks, ends_initial);
    if socket::is_asked(headers) {
        return socket::serve(request, sender, accepted.media);
    }
    let content_type = match accepted.media {
        Media::Json | Media::Yaml => HeaderValue::from_static("application/json"),
        Media::Protobuf => HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch"),
    };
    let frames = stream::unfold(sender, |mut sender| async {
        let bytes = sender.next().await?;
        Some((Ok(Frame::data(bytes)), sender))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    Ok(response)
}

/// One client's watch, written.
struct Sender {
    watcher: Watcher,
    writer: Writer,
    counted: WatchSeries,
    /// What existed at the start and is still to be written.
    initial: std::vec::IntoIter<ObjectRef>,
    /// Whether that is in the version that was asked for.
    converted: bool,
    /// A bookmark says where what existed ends.
    ends_initial: bool,
    /// Column definitions go with the first table only.
    columns_sent: bool,
    ready: VecDeque<Bytes>,
    bookmarks: Option<Interval>,
    /// The revision of the last bookmark.
    bookmarked: u64,
    deadline: Instant,
    /// Until when nothing new is looked for, where watchers are very many.
    rested: Option<Instant>,
    ended: bool,
}

impl Sender {
    fn new(
        mut watcher: Watcher,
        writer: Writer,
        counted: WatchSeries,
        deadline: Instant,
        bookmarks: bool,
        ends_initial: bool,
    ) -> Self {
        let initial = watcher.take_initial().into_iter();
        let bookmarks = bookmarks.then(|| {
            let last = deadline.checked_sub(LAST_BOOKMARK).unwrap_or(deadline);
            let first = (Instant::now() + BOOKMARK_EVERY).min(last);
            let mut ticks = tokio::time::interval_at(first, BOOKMARK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Sender {
            watcher,
            writer,
            counted,
            initial,
            converted: false,
            ends_initial,
            columns_sent: false,
            ready: VecDeque::new(),
            bookmarks,
            bookmarked: 0,
            deadline,
            rested: None,
            ended: false,
        }
    }

    /// The next bytes, of one event or of some; `None` ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        self.fill().await;
        let first = self.ready.pop_front()?;
        if self.ready.is_empty() {
            return Some(first);
        }
        let mut piece = BytesMut::with_capacity(PIECE);
        piece.put(first);
        while let Some(next) = self.ready.front()
            && piece.len() + next.len() <= PIECE
        {
            piece.put_slice(next);
            self.ready.pop_front();
        }
        Some(piece.freeze())
    }

    /// The next event alone.
    async fn next_frame(&mut self) -> Option<Bytes> {
        self.fill().await;
        self.ready.pop_front()
    }

    /// Waits until something is ready, or the watch has ended.
    async fn fill(&mut self) {
        while self.ready.is_empty() && !self.ended {
            if let Err(status) = self.step().await {
                self.ready.push_back(self.writer.error(&status));
                self.ended = true;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Status> {
        if !self.initial.as_slice().is_empty() {
            return self.write_initial().await;
        }
        if std::mem::take(&mut self.ends_initial) {
            return self.bookmark(self.watcher.revision(), true);
        }
        let tick = async {
            match &mut self.bookmarks {
                Some(ticks) => ticks.tick().await,
                None => std::future::pending().await,
            }
        };
        let pause = self.rested;
        let watcher = &mut self.watcher;
        let changes = async {
            if let Some(until) = pause {
                tokio::time::sleep_until(until).await;
            }
            watcher.changes().await
        };
        tokio::select! {
            seen = changes => {
                self.rested = self.watcher.pace().map(|pace| Instant::now() + pace);
                let seen = seen?;
                // The resource went away or changed its form.
                self.ended = seen.is_empty();
                for seen in seen {
                    let frame = self.event(&seen).await?;
                    self.push(frame);
                }
            }
            _ = tick => {
                let revision = self.watcher.latest_revision();
                if revision > self.bookmarked {
                    self.bookmark(revision, false)?;
                }
                let last = self.deadline - LAST_BOOKMARK;
                if let Some(ticks) = &mut self.bookmarks
                    && Instant::now() < last && last < Instant::now() + BOOKMARK_EVERY
                {
                    ticks.reset_at(last);
                }
            }
            () = tokio::time::sleep_until(self.deadline) => self.ended = true,
        }
        Ok(())
    }

    /// Some of what existed: no more than a piece, so that a long list costs no memory.
    async fn write_initial(&mut self) -> Result<(), Status> {
        if !std::mem::replace(&mut self.converted, true) {
            let initial = std::mem::take(&mut self.initial).collect();
            self.initial = self.watcher.all_in_version(initial).await?.into_iter();
        }
        let mut written = 0;
        while written < PIECE {
            let Some(object) = self.initial.next() else { break };
            let body = self.writer.object(&object, !std::mem::replace(&mut self.columns_sent, true))?;
            let frame = self.writer.frame("ADDED", &body);
            written += frame.len();
            self.push(frame);
        }
        Ok(())
    }

    async fn event(&mut self, seen: &Seen) -> Result<Bytes, Status> {
        let tells_columns =
            self.writer.key().tells_ages() && !std::mem::replace(&mut self.columns_sent, true);
        let write =
            |object| Ok(self.writer.frame(seen.look.as_str(), &self.writer.object(&object, tells_columns)?));
        // What a webhook converts is not shared: watchers may not wait for each other.
        if self.watcher.asks() {
            return write(self.watcher.in_version(seen.object()).await?);
        }
        let make = || write(self.watcher.in_version_now(seen.object())?);
        if tells_columns {
            return make();
        }
        let resource = self.watcher.resource();
        let key = FrameKey { look: seen.look, form: self.writer.key(), def: resource.def.clone() };
        resource.cache.frames.frame(&seen.event, key, make)
    }

    fn bookmark(&mut self, revision: u64, ends_initial: bool) -> Result<(), Status> {
        self.bookmarked = revision;
        let with_columns = !std::mem::replace(&mut self.columns_sent, true);
        let body = self.writer.bookmark(revision, ends_initial, with_columns)?;
        self.push(self.writer.frame("BOOKMARK", &body));
        Ok(())
    }

    fn push(&mut self, frame: Bytes) {
        self.counted.sent(frame.len());
        self.ready.push_back(frame);
    }
}
