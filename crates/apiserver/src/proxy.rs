//! Passing requests on to another server: pods, services and aggregated API servers.
//!
//! Bodies stream in both directions. An upgrade is asked of the other server as it came; once both
//! sides switched, bytes are carried until one of them ends. Credentials for this server never leave
//! it.

use std::io;
use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use sampan_api::Status;

use crate::http::{ResponseBody, host_of};
use crate::identity::User;
use crate::outgoing::{self, Client, SendError};
use crate::streaming::Sessions;

mod headers;
mod html;
mod location;

pub(crate) use headers::identify;
use location::Rewrite;

/// Where a request is passed on to, and how.
pub struct Target<'a> {
    /// HTTP/1 is what upgrades need; anything else may take what the peer offers.
    pub client: &'a Client,
    pub upgrades: &'a Client,
    pub scheme: Scheme,
    /// Host and port of the other server.
    pub authority: Authority,
    /// Path, escaped, and query there.
    pub path: PathAndQuery,
    pub manner: Manner<'a>,
}

/// What differs between an aggregated server and anything else.
pub enum Manner<'a> {
    /// An API server that trusts us to say who asks.
    Aggregated(&'a User),
    /// A server that knows nothing of the path before its own: links are made to fit.
    Beneath { prefix: String },
}

/// Why a request was not passed on.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("error trying to reach service: {0}")]
    Send(#[from] SendError),
    #[error("the request cannot be passed on: {0}")]
    Request(#[from] http::Error),
    #[error("the response cannot be read: {0}")]
    Body(String),
    #[error("the backend attempted to redirect this request, which is not permitted")]
    Redirect,
}

impl ProxyError {
    pub fn status(&self) -> Status {
        match self {
            ProxyError::Send(_) => Status::unavailable(self.to_string()),
            ProxyError::Request(_) => Status::bad_request(self.to_string()),
            ProxyError::Body(_) => Status::internal(self),
            ProxyError::Redirect => Status::failure(502, "", self.to_string()),
        }
    }
}

/// Passes a request on and answers what came back.
pub async fn forward(
    sessions: &Sessions,
    mut request: Request<Incoming>,
    target: &Target<'_>,
) -> Result<Response<ResponseBody>, ProxyError> {
    let upgrade = upgrade_of(request.headers());
    let asked_host = host_of(&request).unwrap_or_default().to_owned();
    let client_side = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
    let (mut head, body) = request.into_parts();
    let uri = Uri::builder()
        .scheme(target.scheme.clone())
        .authority(target.authority.clone())
        .path_and_query(target.path.clone())
        .build()?;
    headers::prepare(&mut head.headers, upgrade.as_ref());
    let rewrite = match &target.manner {
        Manner::Aggregated(user) => {
            head.headers.remove(HOST);
            headers::identify(&mut head.headers, user);
            None
        }
        Manner::Beneath { prefix } => {
            if let Ok(host) = HeaderValue::from_str(&asked_host) {
                head.headers.insert(HOST, host);
            }
            headers::forwarded(&mut head.headers, prefix, target.path.path());
            Some(Rewrite { prefix, target: target.authority.as_str(), asked: &asked_host })
        }
    };
    head.uri = uri;
    head.version = Version::HTTP_11;
    let body: outgoing::Body = body.map_err(io::Error::other).boxed_unsync();
    let client = if upgrade.is_some() { target.upgrades } else { target.client };
    let mut response = client.send(Request::from_parts(head, body)).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if let Some(client_side) = client_side {
            let server_side = hyper::upgrade::on(&mut response);
            sessions.relay(client_side, server_side);
        }
        let (head, _) = response.into_parts();
        return Ok(Response::from_parts(head, empty()));
    }
    answer(response, rewrite.as_ref()).await
}

async fn answer(
    response: Response<Incoming>,
    rewrite: Option<&Rewrite<'_>>,
) -> Result<Response<ResponseBody>, ProxyError> {
    let (mut head, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut head.headers);
    let moved =
        head.headers.get(http::header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let Some(rewrite) = rewrite else {
        if head.status.is_redirection() && moved.is_some() {
            return Err(ProxyError::Redirect);
        }
        return Ok(Response::from_parts(head, body.map_err(io::Error::other).boxed_unsync()));
    };
    if let Some(moved) = moved {
        if let Ok(value) = HeaderValue::from_str(&rewrite.url(&moved)) {
            head.headers.insert(http::header::LOCATION, value);
        }
    } else if html::is_html(&head.headers) {
        let bytes = html::rewrite(&mut head.headers, body, rewrite).await?;
        return Ok(Response::from_parts(head, outgoing::full(bytes)));
    }
    Ok(Response::from_parts(head, body.map_err(io::Error::other).boxed_unsync()))
}

/// The protocol that a request wants to change to.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let wants = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut words = wants.flat_map(|text| text.split(','));
    words.any(|word| word.trim().eq_ignore_ascii_case("upgrade")).then(|| headers.get(UPGRADE).cloned())?
}

fn empty() -> ResponseBody {
    outgoing::full("")
}

/// How long the two sides of an upgrade have to come.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);

impl Sessions {
    /// Carries bytes between two connections that changed their protocol, until one side ends.
    fn relay(&self, client: hyper::upgrade::OnUpgrade, server: hyper::upgrade::OnUpgrade) {
        self.track(async move {
            let both = async { tokio::try_join!(client, server) };
            match tokio::time::timeout(UPGRADE_TIMEOUT, both).await {
                Ok(Ok((client, server))) => {
                    let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                    // Whoever broke the connection knows why.
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "a proxied connection was not upgraded"),
                Err(_) => tracing::debug!("a proxied connection was not upgraded in time"),
            }
        });
    }
}
