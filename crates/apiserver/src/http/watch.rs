//! Watches over HTTP: which events a client gets, in which order, and when it ends.

use std::collections::VecDeque;
use std::pin::Pin;
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
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::body::PIECE;
use super::form::{Included, Writer};
use super::negotiate::{Media, Offer, accepted_stream};
use super::options;
use super::{ConnectedAt, ResponseBody};
use crate::ApiServer;
use crate::frames::{Batch, FrameKey};
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
    let since =
        request.extensions().get().map_or_else(Instant::now, |ConnectedAt(at)| Instant::from_std(*at));
    let ends = Ends { deadline, server: Box::pin(server.sessions.ending()) };
    let sender = Sender::new(watcher, writer, counted, since, ends, asked.bookmarks, ends_initial);
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
    /// Ends at the deadline.
    time: Pin<Box<Sleep>>,
    ends: Ends,
    /// When the connection began: where watchers are very many, all of one connection look for changes at the
    /// same times, which are counted from here.
    since: Instant,
    /// Until when nothing new is looked for.
    rested: Option<Instant>,
    ended: bool,
}

/// When a watch ends that its client does not end.
struct Ends {
    deadline: Instant,
    /// With the server.
    server: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What a watcher gets next.
enum Next {
    Changes(Vec<Seen>),
    /// What another one got already.
    Joined(Batch),
}

impl Sender {
    fn new(
        mut watcher: Watcher,
        writer: Writer,
        counted: WatchSeries,
        since: Instant,
        ends: Ends,
        bookmarks: bool,
        ends_initial: bool,
    ) -> Self {
        let initial = watcher.take_initial().into_iter();
        let bookmarks = bookmarks.then(|| {
            let last = ends.deadline.checked_sub(LAST_BOOKMARK).unwrap_or(ends.deadline);
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
            time: Box::pin(tokio::time::sleep_until(ends.deadline)),
            ends,
            since,
            rested: None,
            ended: false,
        }
    }

    /// The next bytes, of one event or of some; `None` ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        self.fill(true).await;
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
        self.fill(false).await;
        self.ready.pop_front()
    }

    /// Waits until something is ready, or the watch has ended. What is ready may be events that are joined.
    async fn fill(&mut self, joined: bool) {
        while self.ready.is_empty() && !self.ended {
            match self.step(joined).await {
                Ok(None) => self.counted.sent(self.ready.iter().map(Bytes::len)),
                Ok(Some(batch)) => {
                    self.counted.sent(batch.lengths.iter().copied());
                    self.ready = VecDeque::from([batch.bytes]);
                }
                Err(status) => {
                    self.ready.push_back(self.writer.error(&status));
                    self.ended = true;
                }
            }
        }
    }

    /// Answers events that are joined, or makes some ready.
    async fn step(&mut self, joined: bool) -> Result<Option<Batch>, Status> {
        if !self.initial.as_slice().is_empty() {
            return self.write_initial().await.map(|()| None);
        }
        if std::mem::take(&mut self.ends_initial) {
            return self.bookmark(self.watcher.revision(), true).map(|()| None);
        }
        let (form, after) = (self.writer.key(), self.watcher.revision());
        // Neither what a webhook converts nor what tells ages is shared.
        let joins = joined && self.rested.is_some() && !form.tells_ages() && !self.watcher.asks();
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
            if joins && let Some(batch) = watcher.joined(form) {
                return Ok(Next::Joined(batch));
            }
            watcher.changes().await.map(Next::Changes)
        };
        tokio::select! {
            next = changes => {
                self.rested = self.watcher.pace().map(|pace| turn(self.since, pace, Instant::now()));
                let seen = match next? {
                    Next::Joined(batch) => return Ok(Some(batch)),
                    Next::Changes(seen) => seen,
                };
                // The resource went away or changed its form.
                self.ended = seen.is_empty();
                for seen in seen {
                    let frame = self.event(&seen).await?;
                    self.ready.push_back(frame);
                }
                if joins && self.ready.len() > 1 {
                    return Ok(self.join(after));
                }
            }
            _ = tick => {
                let revision = self.watcher.latest_revision();
                if revision > self.bookmarked {
                    self.bookmark(revision, false)?;
                }
                let last = self.ends.deadline - LAST_BOOKMARK;
                if let Some(ticks) = &mut self.bookmarks
                    && Instant::now() < last && last < Instant::now() + BOOKMARK_EVERY
                {
                    ticks.reset_at(last);
                }
            }
            () = &mut self.time => self.ended = true,
            () = &mut self.ends.server => self.ended = true,
        }
        Ok(None)
    }

    /// Joins what came after a revision and is ready, for this watcher and for others. Long runs are rare, and
    /// not kept.
    fn join(&mut self, after: u64) -> Option<Batch> {
        let lengths: Arc<[usize]> = self.ready.iter().map(Bytes::len).collect();
        let length = lengths.iter().sum();
        if length > PIECE {
            return None;
        }
        let mut bytes = BytesMut::with_capacity(length);
        bytes.extend(self.ready.drain(..));
        Some(self.watcher.join(after, self.writer.key(), bytes.freeze(), lengths))
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
            self.ready.push_back(frame);
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
        self.ready.push_back(self.writer.frame("BOOKMARK", &body));
        Ok(())
    }
}

/// The next of the times that are a pace apart, and not less than half a pace away.
fn turn(since: Instant, pace: Duration, now: Instant) -> Instant {
    let pace_nanos = pace.as_nanos().max(1);
    let ahead = (now + pace / 2).saturating_duration_since(since).as_nanos() % pace_nanos;
    now + pace / 2 + Duration::from_nanos_u128((pace_nanos - ahead) % pace_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_of_a_connection_take_turns_together() {
        let since = Instant::now();
        let pace = Duration::from_millis(64);
        let at = |milliseconds| since + Duration::from_millis(milliseconds);
        for (now, expected) in
            [(0, 64), (1, 64), (31, 64), (32, 64), (33, 128), (64, 128), (65, 128), (96, 128), (97, 192)]
        {
            assert_eq!(turn(since, pace, at(now)), at(expected), "after {now} ms");
        }
    }
}
