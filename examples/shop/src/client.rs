//! Calls to other services: JSON over HTTP, with a deadline.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde::de::DeserializeOwned;

const DEADLINE: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 1 << 20;

/// Another service.
#[derive(Clone)]
pub struct Client {
    url: String,
    http: HttpClient<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// The service whose address is in an environment variable, as `http://catalogue`.
    pub fn from_env(variable: &str) -> anyhow::Result<Self> {
        let url = std::env::var(variable)
            .with_context(|| format!("{variable} is not set; it names a service, as http://catalogue"))?;
        let http =
            HttpClient::builder(TokioExecutor::new()).pool_idle_timeout(Duration::from_secs(30)).build_http();
        Ok(Client { url: url.trim_end_matches('/').to_owned(), http })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let (status, body) = self.send(Method::GET, path, Bytes::new()).await?;
        if !status.is_success() {
            bail!("{}{path} answered {status}", self.url);
        }
        Ok(serde_json::from_slice(&body)?)
    }

    /// Answers the status, so that callers can tell a refusal from a failure.
    pub async fn post(&self, path: &str, body: &impl Serialize) -> anyhow::Result<(StatusCode, Bytes)> {
        self.send(Method::POST, path, serde_json::to_vec(body)?.into()).await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<(StatusCode, Bytes)> {
        let url = format!("{}{path}", self.url);
        let request = Request::builder()
            .method(method)
            .uri(&url)
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let exchange = async {
            let response = self.http.request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("{error}"))?.to_bytes();
            anyhow::Ok((status, body))
        };
        tokio::time::timeout(DEADLINE, exchange)
            .await
            .with_context(|| format!("{url} did not answer in time"))?
            .with_context(|| format!("cannot reach {url}"))
    }
}
