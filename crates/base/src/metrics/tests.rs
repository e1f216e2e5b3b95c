use super::*;

const REQUESTS: Description = Description::new("requests_total", "[STABLE] Requests.", &["verb", "code"]);
const BUCKETS: [f64; 3] = exponential(0.5, 4.0);
const TIMES: Description = Description::new("seconds", "Times.", &[]).buckets(&BUCKETS);

fn registry() -> Registry {
    let registry = Registry::default();
    let requests = registry.family::<Counter>(REQUESTS);
    requests.with(&["GET", "200"]).add(1_234_567);
    requests.with(&["a\"\\\n", "2"]).inc();
    let times = registry.single::<Histogram>(TIMES);
    for seconds in [0.5, 0.6, 2.0, 9.0] {
        times.observe(seconds);
    }
    registry.family::<Gauge>(Description::new("empty", "Nothing.", &["a"]));
    registry.single::<Gauge>(Description::new("below", "A gauge.", &[])).set(-3);
    registry
}

#[test]
fn the_classic_format_is_as_go_writes_it() {
    assert_eq!(
        registry().encode(Format::Text),
        "# HELP below A gauge.\n# TYPE below gauge\nbelow -3\n\
         # HELP requests_total [STABLE] Requests.\n# TYPE requests_total counter\n\
         requests_total{verb=\"GET\",code=\"200\"} 1.234567e+06\n\
         requests_total{verb=\"a\\\"\\\\\\n\",code=\"2\"} 1\n\
         # HELP seconds Times.\n# TYPE seconds histogram\n\
         seconds_bucket{le=\"0.5\"} 1\nseconds_bucket{le=\"2\"} 3\nseconds_bucket{le=\"8\"} 3\n\
         seconds_bucket{le=\"+Inf\"} 4\nseconds_sum 12.1\nseconds_count 4\n"
    );
}

#[test]
fn open_metrics_names_counters_without_their_suffix() {
    let text = registry().encode(Format::OpenMetrics);
    assert!(text.contains("# TYPE requests counter\nrequests_total{verb=\"GET\",code=\"200\"}"), "{text}");
    assert!(text.contains("seconds_bucket{le=\"2.0\"} 3\n"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn the_format_is_what_the_client_prefers() {
    let check = |accept: &str, expected: Format| assert_eq!(Format::negotiate(accept), expected, "{accept}");
    check("", Format::Text);
    check("*/*", Format::Text);
    check(
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
        Format::OpenMetrics,
    );
    check("application/openmetrics-text;q=0.1,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", Format::Text);
    check("application/json", Format::Text);
}

#[test]
fn label_values_cannot_fill_the_memory() {
    let family: Family<Counter> = Family::new(Description::new("x", "X.", &["a"]));
    for at in 0..MAX_SERIES + 10 {
        family.with(&[&at.to_string()]).inc();
    }
    assert_eq!(family.with(&["overflow"]).get(), 10);
    family.remove(&["0"]);
    family.remove(&["1"]);
    assert_eq!(family.with(&["0"]).get(), 0, "a series that was removed begins anew");
}
