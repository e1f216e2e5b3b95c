//! Connections: TLS, limits on what an idle or slow client may hold, and a graceful end.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::pki_types::CertificateDer;
use sampan_base::drain::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use self::corked::Corked;
use crate::ApiServer;
use crate::http::{Connection, handle};
use crate::identity::authentication::ClientCertificate;
use crate::identity::pki::Trust;

mod corked;

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
/// How long requests that run may go on after shutdown was asked for.
const DRAIN: Duration = Duration::from_secs(2);
/// The pause after the process ran out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections on one socket until shutdown.
pub async fn serve(
    server: Arc<ApiServer>,
    listener: TcpListener,
    trust: watch::Receiver<Arc<Trust>>,
    shutdown: Shutdown,
) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = Arc::new(GracefulShutdown::new());
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
        let (server, trust, graceful) = (server.clone(), trust.clone(), graceful.clone());
        tokio::spawn(async move {
            if let Err(error) = connection(server, stream, trust, &graceful).await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(permit);
        });
    }
    if let Some(graceful) = Arc::into_inner(graceful) {
        let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    }
}

async fn connection(
    server: Arc<ApiServer>,
    stream: TcpStream,
    mut trust: watch::Receiver<Arc<Trust>>,
    graceful: &GracefulShutdown,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr().ok();
    let acceptor = TlsAcceptor::from(trust.borrow_and_update().tls.clone());
    let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await??;
    let certificates = stream.get_ref().1.peer_certificates();
    let shown = certificates.and_then(|chain| chain.first()).map(|der| der.clone().into_owned());
    let proxies = server.authenticator.front_proxy.as_ref();
    let certificate = certificates.and_then(|chain| chain.first()).map(|der| {
        let is_proxy = proxies.is_some_and(|proxies| proxies.issued(der));
        ClientCertificate::read(der).map(|certificate| certificate.of_front_proxy(is_proxy))
    });
    let certificate = certificate.transpose().map_err(io::Error::other)?;
    let client = Arc::new(Connection { certificate, peer, since: Instant::now() });
    let service = service_fn(move |request| {
        let (server, client) = (server.clone(), client.clone());
        // The state of a request takes kilobytes, and is moved several times on its way into a task.
        Box::pin(async move { Ok::<_, std::convert::Infallible>(handle(server, request, &client).await) })
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
    // Somebody else goes on with a connection of HTTP/1 that is upgraded.
    let holds = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let stream = Corked::new(stream, holds);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream.clone()), service);
    let mut connection = pin!(graceful.watch(connection.into_owned()));
    let served = poll_fn(|cx| {
        let served = connection.as_mut().poll(cx).map_err(io::Error::other);
        match stream.poll_out(cx) {
            Poll::Ready(Err(error)) if served.is_pending() => Poll::Ready(Err(error)),
            Poll::Ready(_) | Poll::Pending => served,
        }
    });
    tokio::select! {
        served = served => served,
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
