//! One service: HTTP with health, readiness and metrics, structured logs, a graceful end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

type Labels = [(&'static str, String); 2];

/// What every service measures.
struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    seconds: Histogram,
}

/// The directory in which this service keeps its records.
pub fn data_directory() -> PathBuf {
    std::env::var_os("DATA_DIR").map_or_else(|| "/data".into(), Into::into)
}

/// Starts logging: one JSON object per line.
pub fn start_logging() {
    tracing_subscriber::fmt().json().with_target(false).with_max_level(tracing::Level::INFO).init();
}

/// Serves until SIGTERM: then no new connections are taken, and open requests are finished.
pub async fn serve(name: &'static str, routes: Router) -> anyhow::Result<()> {
    let mut registry = Registry::default();
    let requests = Family::<Labels, Counter>::default();
    registry.register("http_requests", "Requests by path and status", requests.clone());
    let seconds = Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0]);
    registry.register("http_request_duration_seconds", "Time to answer", seconds.clone());
    let metrics = Arc::new(Metrics { registry, requests, seconds });
    let app = routes
        .layer(middleware::from_fn_with_state(metrics.clone(), measure))
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(|| async { "ok" }))
        .route("/metrics", get(expose).with_state(metrics));
    let port: u16 = std::env::var("PORT").ok().map(|port| port.parse()).transpose()?.unwrap_or(8080);
    let listener = TcpListener::bind(("0.0.0.0", port)).await?;
    tracing::info!(service = name, port, "serving");
    let mut terminate = signal(SignalKind::terminate())?;
    axum::serve(listener, app)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await?;
    tracing::info!(service = name, "ended");
    Ok(())
}

async fn measure(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map_or("unmatched", |path| path.as_str()).to_owned();
    let started = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics.requests.get_or_create(&[("path", path), ("status", status)]).inc();
    metrics.seconds.observe(started.elapsed().as_secs_f64());
    response
}

async fn expose(State(metrics): State<Arc<Metrics>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &metrics.registry) {
        Ok(()) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// A failure of this service: 500 and a line in the log.
pub struct Failure(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        tracing::error!(error = format!("{:#}", self.0), "a request failed");
        (StatusCode::INTERNAL_SERVER_ERROR, format!("{:#}\n", self.0)).into_response()
    }
}
