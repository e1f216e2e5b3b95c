//! Container logs, exec, attach and port-forward: byte streams between a client and a node.
//!
//! The client's side is WebSocket (channel protocols of `k8s.io`, or SPDY tunnelled through one) or
//! SPDY/3.1; the node's side is [`NodeStreams`]. Each accepted request becomes one task. A session
//! ends when its work is done, when the client goes away, when nothing was said for
//! [`IDLE_LIMIT`], or when the server stops; whatever it held goes with it.
//!
//! Every queue is bounded: who does not read stops who writes, and nothing is dropped.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sampan_api::Status;
use sampan_client::node_streams::{NodeStreams, PodRef};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;

mod command;
mod forward;
pub mod fuzzing;
mod logs;
mod multiplex;
mod query;
mod spdy;
#[cfg(test)]
mod tests;
mod websocket;

pub use logs::{LogBody, logs};
pub use query::{CommandQuery, QueryError, container_of, log_options, port_list};

use command::{Command, CommandKind};
use multiplex::Activity;

/// Sessions on which nothing was said for this long end.
pub const IDLE_LIMIT: Duration = Duration::from_secs(4 * 3600);
/// How long a client has to open the streams that its request promises.
const STREAM_CREATION_LIMIT: Duration = Duration::from_secs(30);
/// How long either side has to take note of the other's end.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// The answer to an upgrade: 101, or nothing but a status.
pub type UpgradeResponse = Response<Full<Bytes>>;

/// One container, resolved: the pod exists, runs on the node, and has this container.
#[derive(Clone, Debug)]
pub struct ContainerRef {
    pub pod: PodRef,
    pub container: String,
}

/// What a request holds for as long as the session lasts that it begins; an extension of the request.
#[derive(Clone)]
pub struct Held(pub Arc<dyn std::any::Any + Send + Sync>);

/// The open sessions of a server.
#[derive(Clone, Default)]
pub struct Sessions {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Sessions {
    /// Sessions that are open.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Resolves when sessions are to end.
    pub fn ending(&self) -> WaitForCancellationFutureOwned {
        self.stop.clone().cancelled_owned()
    }

    /// Ends every session, and waits until the last one let go of what it held.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Answers `pods/exec`. Errors of the command itself reach the client through the session.
    pub fn exec<B>(
        &self,
        request: Request<B>,
        node: Arc<dyn NodeStreams>,
        target: ContainerRef,
        query: CommandQuery,
    ) -> Result<UpgradeResponse, Status> {
        self.command(request, Command { node, target, query, kind: CommandKind::Exec })
    }

    /// Answers `pods/attach`.
    pub fn attach<B>(
        &self,
        request: Request<B>,
        node: Arc<dyn NodeStreams>,
        target: ContainerRef,
        query: CommandQuery,
    ) -> Result<UpgradeResponse, Status> {
        self.command(request, Command { node, target, query, kind: CommandKind::Attach })
    }

    fn command<B>(&self, request: Request<B>, command: Command) -> Result<UpgradeResponse, Status> {
        match Transport::of(request.headers())? {
            Transport::WebSocket => {
                let (protocol, response) =
                    websocket::accept(request.headers(), websocket::COMMAND_PROTOCOLS)?;
                let upgrade = Upgrade::of(request);
                self.spawn(upgrade, move |io, activity| {
                    websocket::run_command(io, activity, protocol, command)
                });
                Ok(response)
            }
            Transport::Spdy => {
                let protocol = spdy::negotiate(request.headers(), spdy::COMMAND_PROTOCOLS)?;
                let response = spdy::switching_protocols(protocol);
                let upgrade = Upgrade::of(request);
                let version = command::Version::of_spdy(protocol);
                self.spawn(upgrade, move |io, activity| spdy::run_command(io, activity, version, command));
                Ok(response)
            }
        }
    }

    /// Answers `pods/portforward`. `ports` is the query's, for the older WebSocket protocol.
    pub fn port_forward<B>(
        &self,
        request: Request<B>,
        node: Arc<dyn NodeStreams>,
        pod: PodRef,
        ports: Vec<u16>,
    ) -> Result<UpgradeResponse, Status> {
        let target = forward::Target { node, pod };
        match Transport::of(request.headers())? {
            Transport::WebSocket => {
                let (protocol, response) =
                    websocket::accept(request.headers(), websocket::FORWARD_PROTOCOLS)?;
                if protocol != websocket::Protocol::Tunnel && ports.is_empty() {
                    return Err(Status::bad_request("query parameter \"port\" is required"));
                }
                let upgrade = Upgrade::of(request);
                self.spawn(upgrade, move |io, activity| {
                    websocket::run_forward(io, activity, protocol, target, ports)
                });
                Ok(response)
            }
            Transport::Spdy => {
                let protocol = spdy::negotiate(request.headers(), spdy::FORWARD_PROTOCOLS)?;
                let response = spdy::switching_protocols(protocol);
                let upgrade = Upgrade::of(request);
                self.spawn(upgrade, move |io, activity| spdy::run_forward(io, activity, target));
                Ok(response)
            }
        }
    }

    /// Runs a session that is cut off when the server stops.
    pub(crate) fn track(&self, session: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(session));
    }

    /// Runs a session once the connection is ours.
    fn spawn<F, S>(&self, upgrade: Upgrade, session: F)
    where
        F: FnOnce(TokioIo<hyper::upgrade::Upgraded>, Arc<Activity>) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tasks.spawn(stop.run_until_cancelled_owned(async move {
            let Upgrade { connection, _held } = upgrade;
            match connection.await {
                Ok(connection) => {
                    let activity = Arc::new(Activity::new(IDLE_LIMIT));
                    session(TokioIo::new(connection), activity).await;
                }
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "a client left during the upgrade"
                    );
                }
            }
        }));
    }
}

/// The connection that a request becomes, with what it holds.
struct Upgrade {
    connection: OnUpgrade,
    _held: Option<Held>,
}

impl Upgrade {
    fn of<B>(request: Request<B>) -> Self {
        let held = request.extensions().get::<Held>().cloned();
        Upgrade { connection: hyper::upgrade::on(request), _held: held }
    }
}

/// What a request wants to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    WebSocket,
    Spdy,
}

impl Transport {
    fn of(headers: &HeaderMap) -> Result<Self, Status> {
        let wants_upgrade = has_word(headers, http::header::CONNECTION, "upgrade");
        if wants_upgrade && has_word(headers, http::header::UPGRADE, "websocket") {
            return Ok(Transport::WebSocket);
        }
        if wants_upgrade && has_word(headers, http::header::UPGRADE, "spdy/3.1") {
            return Ok(Transport::Spdy);
        }
        Err(Status::bad_request("Upgrade request required"))
    }
}

/// Whether a comma-separated header holds a word, whatever its case.
fn has_word(headers: &HeaderMap, name: http::HeaderName, word: &str) -> bool {
    words(headers, &name).any(|candidate| candidate.eq_ignore_ascii_case(word))
}

/// The words of a comma-separated header.
fn words<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> impl Iterator<Item = &'a str> {
    let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

fn switching_protocols(upgrade: &'static str) -> UpgradeResponse {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(http::header::UPGRADE, HeaderValue::from_static(upgrade));
    response
}
