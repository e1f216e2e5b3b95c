//! Requests: how many, how long, how large, and how many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use sampan_base::metrics::{Counter, Description, Family, Gauge, Histogram, Labelled, Registry, exponential};

use crate::http::Asked;

const REQUESTS: Description = Description::new(
    "apiserver_request_total",
    "[STABLE] Requests that were answered, by verb, resource and code.",
    &["code", "component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"],
);
const SECONDS: Description = Description::new(
    "apiserver_request_duration_seconds",
    "[STABLE] How long answers took, in seconds.",
    &["component", "dry_run", "group", "resource", "scope", "subresource", "verb", "version"],
)
.buckets(&[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
]);
const ROUTE: &[&str] = &["component", "group", "resource", "scope", "subresource", "verb", "version"];
const SLI_SECONDS: Description = Description::new(
    "apiserver_request_sli_duration_seconds",
    "[STABLE] How long answers took, in seconds, without webhooks and waiting in queues.",
    ROUTE,
)
.buckets(&[
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
]);
const SIZE_BUCKETS: [f64; 7] = exponential(1000.0, 10.0);
const SIZES: Description =
    Description::new("apiserver_response_sizes", "[STABLE] Sizes of answers to reads, in bytes.", ROUTE)
        .buckets(&SIZE_BUCKETS);
const LONG_RUNNING: Description = Description::new(
    "apiserver_longrunning_requests",
    "[STABLE] Watches, logs and streams that are open.",
    ROUTE,
);
const IN_FLIGHT: Description = Description::new(
    "apiserver_current_inflight_requests",
    "[STABLE] Requests that are being answered, reads and writes apart.",
    &["request_kind"],
);
const IN_QUEUE: Description = Description::new(
    "apiserver_current_inqueue_requests",
    "[ALPHA] Requests that wait in a queue, reads and writes apart.",
    &["request_kind"],
);
const TERMINATIONS: Description = Description::new(
    "apiserver_request_terminations_total",
    "[ALPHA] Requests that the server ended in self-defence.",
    &["code", "component", "group", "resource", "scope", "subresource", "verb", "version"],
);
const WATCH_EVENTS: Description = Description::new(
    "apiserver_watch_events_total",
    "[ALPHA] Events sent to watchers.",
    &["group", "resource", "version"],
);
const WATCH_BUCKETS: [f64; 8] = exponential(1024.0, 2.0);
const WATCH_SIZES: Description = Description::new(
    "apiserver_watch_events_sizes",
    "[ALPHA] Sizes of the events sent to watchers, in bytes.",
    &["group", "resource", "version"],
)
.buckets(&WATCH_BUCKETS);

/// The families of requests.
pub struct RequestMetrics {
    routes: Labelled<RouteSeries>,
    total: Arc<Family<Counter>>,
    seconds: Arc<Family<Histogram>>,
    sli_seconds: Arc<Family<Histogram>>,
    sizes: Arc<Family<Histogram>>,
    long_running: Arc<Family<Gauge>>,
    in_flight: [Arc<Gauge>; 2],
    in_queue: [Arc<Gauge>; 2],
    terminations: Arc<Family<Counter>>,
    watch_events: Arc<Family<Counter>>,
    watch_sizes: Arc<Family<Histogram>>,
}

/// The series of one kind of request, found by one look-up.
pub struct RouteSeries {
    labels: RouteLabels,
    seconds: Arc<Histogram>,
    sli_seconds: Arc<Histogram>,
    sizes: Option<Arc<Histogram>>,
    /// The codes that were answered so far: few.
    codes: RwLock<Vec<(u16, Arc<Counter>)>>,
}

/// In the order of their use: dry run, component, group, resource, scope, subresource, verb, version.
type RouteLabels = [Box<str>; 8];

/// The events of one watch.
#[derive(Clone)]
pub struct WatchSeries {
    events: Arc<Counter>,
    sizes: Arc<Histogram>,
}

impl WatchSeries {
    /// Counts events by their lengths.
    pub fn sent(&self, lengths: impl Iterator<Item = usize>) {
        let (mut events, mut last, mut times) = (0, 0, 0);
        for length in lengths {
            if length != last {
                self.sizes.observe_times(last as f64, times);
                (last, times) = (length, 0);
            }
            times += 1;
            events += 1;
        }
        self.sizes.observe_times(last as f64, times);
        self.events.add(events);
    }
}

impl RequestMetrics {
    pub fn new(registry: &Registry) -> Self {
        let (in_flight, in_queue) = (registry.family::<Gauge>(IN_FLIGHT), registry.family::<Gauge>(IN_QUEUE));
        let kinds = |family: &Family<Gauge>| ["readOnly", "mutating"].map(|kind| family.with(&[kind]));
        RequestMetrics {
            routes: Labelled::default(),
            total: registry.family(REQUESTS),
            seconds: registry.family(SECONDS),
            sli_seconds: registry.family(SLI_SECONDS),
            sizes: registry.family(SIZES),
            long_running: registry.family(LONG_RUNNING),
            in_flight: kinds(&in_flight),
            in_queue: kinds(&in_queue),
            terminations: registry.family(TERMINATIONS),
            watch_events: registry.family(WATCH_EVENTS),
            watch_sizes: registry.family(WATCH_SIZES),
        }
    }

    /// Begins to observe a request; `is_known` says whether its resource is served, since unknown
    /// names must not become labels.
    pub fn begin(&self, asked: &Asked, is_known: impl FnOnce() -> bool, received: Instant) -> Observed {
        let labels = asked.labels();
        let series = self.routes.get(&labels).unwrap_or_else(|| {
            let labels = if is_known() { labels } else { Asked::unknown_labels(labels) };
            self.routes.get_or_make(&labels, || self.make(&labels))
        });
        let running = if asked.is_long_running() {
            let [_, rest @ ..] = &series.labels;
            self.long_running.with(&rest.each_ref().map(|label| &**label))
        } else {
            self.in_flight[usize::from(asked.is_mutating())].clone()
        };
        Observed { series, received, waited_us: AtomicU64::new(0), running: Running::new(running) }
    }

    /// Counts a request as waiting in a queue for as long as the answer lives.
    pub fn queued(&self, asked: &Asked) -> Running {
        Running::new(self.in_queue[usize::from(asked.is_mutating())].clone())
    }

    /// Counts a request that was refused or cut off for the server's own sake.
    pub fn terminated(&self, observed: &Observed, code: u16) {
        let [_, component, group, resource, scope, subresource, verb, version] = &observed.series.labels;
        let code = code.to_string();
        self.terminations.with(&[&code, component, group, resource, scope, subresource, verb, version]).inc();
    }

    pub fn watch(&self, gvr: &sampan_api::Gvr) -> WatchSeries {
        let labels = [&*gvr.group, &*gvr.resource, &*gvr.version];
        WatchSeries { events: self.watch_events.with(&labels), sizes: self.watch_sizes.with(&labels) }
    }

    /// Ends the observation of a request; what is left of it is alive while its answer is sent.
    pub fn finish(&self, observed: Observed, code: u16, bytes: Option<u64>) -> Running {
        let series = &observed.series;
        self.count(series, code);
        let seconds = observed.received.elapsed();
        series.seconds.observe(seconds.as_secs_f64());
        let waited = Duration::from_micros(observed.waited_us.load(Ordering::Relaxed));
        series.sli_seconds.observe(seconds.saturating_sub(waited).as_secs_f64());
        if let (Some(sizes), Some(bytes)) = (&series.sizes, bytes) {
            sizes.observe(bytes as f64);
        }
        observed.running
    }

    fn count(&self, series: &RouteSeries, code: u16) {
        if let Some((_, counter)) = series.codes.read().iter().find(|(known, _)| *known == code) {
            return counter.inc();
        }
        let [dry_run, component, group, resource, scope, subresource, verb, version] = &series.labels;
        let text = code.to_string();
        let labels = [&*text, component, dry_run, group, resource, scope, subresource, verb, version];
        let counter = self.total.with(&labels);
        counter.inc();
        series.codes.write().push((code, counter));
    }

    fn make(&self, labels: &[&str; 8]) -> RouteSeries {
        let [dry_run, component, group, resource, scope, subresource, verb, version] = *labels;
        let route = [component, group, resource, scope, subresource, verb, version];
        RouteSeries {
            labels: labels.map(Box::from),
            seconds: self.seconds.with(&[
                component,
                dry_run,
                group,
                resource,
                scope,
                subresource,
                verb,
                version,
            ]),
            sli_seconds: self.sli_seconds.with(&route),
            sizes: matches!(verb, "GET" | "LIST").then(|| self.sizes.with(&route)),
            codes: RwLock::default(),
        }
    }
}

/// A request that is being answered.
pub struct Observed {
    series: Arc<RouteSeries>,
    received: Instant,
    /// How long it waited in a queue, in microseconds.
    waited_us: AtomicU64,
    running: Running,
}

impl Observed {
    /// Notes that it waited in a queue.
    pub fn note_wait(&self, waited: Duration) {
        let waited = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.waited_us.store(waited, Ordering::Relaxed);
    }
}

/// Counted in a gauge for as long as it lives.
pub struct Running(Arc<Gauge>);

impl Running {
    fn new(gauge: Arc<Gauge>) -> Self {
        gauge.inc();
        Running(gauge)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}
