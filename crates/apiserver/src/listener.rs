//! Connections: TLS, limits on what an idle or slow client may hold, and a graceful end.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::pki_types::CertificateDer;
use sampan_base::drain::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::corked::Corked;
use crate::ApiServer;
use crate::http::{Connection, handle, text};
use crate::identity::authentication::ClientCertificate;
use crate::identity::pki::Trust;

mod corked;
#[cfg(test)]
mod tests;

/// The most connections at once; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 20_000;
/// How long a client may take for its TLS handshake and for the headers of a request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of request headers.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Streams of one HTTP/2 connection, as in kube-apiserver.
const MAX_STREAMS: u32 = 250;
/// How often a silent HTTP/2 connection is asked whether it lives, and how long it has to say so: a slow client
/// first reads megabytes of events that are on their way to it.
const ALIVE_EVERY: Duration = Duration::from_secs(30);
const ALIVE_WITHIN: Duration = Duration::from_secs(90);
/// How long requests that run may go on after shutdown was asked for. Watches end by themselves.
const DRAIN: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 2 });
/// The pause after the process ran out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of a listener that serve requests.
#[derive(Clone, Default)]
struct Served {
    running: TaskTracker,
    stop: CancellationToken,
}

/// Accepts connections on one socket until shutdown; then lets requests that run come to their end.
pub async fn serve(
    server: Arc<ApiServer>,
    listener: TcpListener,
    trust: watch::Receiver<Arc<Trust>>,
    shutdown: Shutdown,
) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let served = Served::default();
    loop {
        let permit = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.requested() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (server, trust, served) = (server.clone(), trust.clone(), served.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(server, stream, trust, &served).await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(permit);
        });
    }
    drop(listener);
    served.stop.cancel();
    served.running.close();
    let _ = tokio::time::timeout(DRAIN, served.running.wait()).await;
}

async fn connection(
    server: Arc<ApiServer>,
    stream: TcpStream,
    mut trust: watch::Receiver<Arc<Trust>>,
    served: &Served,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr().ok();
    let acceptor = TlsAcceptor::from(trust.borrow_and_update().tls.clone());
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
    let _running = served.running.token();
    let certificates = stream.get_ref().1.peer_certificates();
    let shown = certificates.and_then(|chain| chain.first()).map(|der| der.clone().into_owned());
    let proxies = server.authenticator.front_proxy.as_ref();
    let certificate = certificates.and_then(|chain| chain.first()).map(|der| {
        let is_proxy = proxies.is_some_and(|proxies| proxies.issued(der));
        ClientCertificate::read(der).map(|certificate| certificate.of_front_proxy(is_proxy))
    });
    let certificate = certificate.transpose().map_err(io::Error::other)?;
    let client = Arc::new(Connection { certificate, peer, since: Instant::now() });
    // Who agreed on HTTP/2 speaks it: an upgrade from HTTP/1 would leave to nobody what is held.
    let holds = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request: Request<Incoming>| {
        let (server, client) = (server.clone(), client.clone());
        // The state of a request takes kilobytes, and is moved several times on its way into a task.
        Box::pin(async move {
            Ok::<_, std::convert::Infallible>(if holds && request.version() != Version::HTTP_2 {
                text(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "HTTP/2 was agreed on by ALPN\n")
            } else {
                handle(server, request, &client).await
            })
        })
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES as u32)
        .keep_alive_interval(ALIVE_EVERY)
        .keep_alive_timeout(ALIVE_WITHIN);
    let stream = Corked::new(stream, holds);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream.clone()), service);
    let mut connection = pin!(connection.into_owned());
    let (mut stop, mut stopping) = (pin!(served.stop.cancelled()), false);
    let ended = poll_fn(|cx| {
        if !stopping && stop.as_mut().poll(cx).is_ready() {
            stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        let ended = connection.as_mut().poll(cx).map_err(io::Error::other);
        match stream.poll_out(cx) {
            Poll::Ready(Err(error)) if ended.is_pending() => Poll::Ready(Err(error)),
            Poll::Ready(_) | Poll::Pending => ended,
        }
    });
    tokio::select! {
        ended = ended => ended,
        () = distrusted(trust, shown) => Err(io::Error::other("its certificate's authority was dropped")),
    }
}

/// Waits until the authority of a client's certificate is trusted no longer.
async fn distrusted(mut trust: watch::Receiver<Arc<Trust>>, certificate: Option<CertificateDer<'static>>) {
    if let Some(certificate) = certificate {
        while trust.changed().await.is_ok() {
            if !trust.borrow_and_update().issued(&certificate) {
                return;
            }
        }
    }
    std::future::pending().await
}
