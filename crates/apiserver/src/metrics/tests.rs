use super::*;

#[test]
fn a_scrape_has_upstreams_names() {
    let metrics = Metrics::new(Registry::default());
    crate::audit::Audit::off(metrics.registry());
    metrics.authenticated(Some("somebody"), std::time::Duration::from_millis(1));
    metrics.authorized(false, std::time::Duration::ZERO);
    let text = metrics.encode(Format::Text);
    for line in [
        "authentication_attempts{result=\"success\"} 1",
        "authenticated_user_requests{username=\"other\"} 1",
        "authorization_attempts_total{result=\"denied\"} 1",
        "authorization_duration_seconds_bucket{result=\"denied\",le=\"0.001\"} 1",
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 0",
        "apiserver_audit_event_total 0",
        "kubernetes_feature_enabled{name=\"WatchList\",stage=\"BETA\"} 1",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} is not in\n{text}");
    }
}

#[test]
fn indicators_are_apart() {
    let metrics = Metrics::new(Registry::default());
    metrics.health_checks.with(&["ping", "success", "livez"]).inc();
    metrics.health_state.with(&["ping", "livez"]).set(1);
    let indicators = metrics.encode_indicators(Format::Text);
    for line in [
        "# HELP kubernetes_healthcheck [STABLE] This metric records the result of a single healthcheck.",
        "kubernetes_healthcheck{name=\"ping\",type=\"livez\"} 1",
        "kubernetes_healthchecks_total{name=\"ping\",status=\"success\",type=\"livez\"} 1",
        "# TYPE process_start_time_seconds gauge",
    ] {
        assert!(indicators.contains(&format!("{line}\n")), "{line} is not in\n{indicators}");
    }
    assert!(!indicators.contains("process_open_fds"), "{indicators}");
    assert!(!metrics.encode(Format::Text).contains("kubernetes_healthcheck"));
}
