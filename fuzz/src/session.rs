//! A session of exec or port-forward in memory: a client that sends some bytes and leaves, a server, and a
//! node that gives back what it gets.

use std::sync::Arc;

use async_trait::async_trait;
use sampan_api::Status;
use sampan_apiserver::streaming::fuzzing as doors;
use sampan_client::node_streams::{
    BoxDuplex, ExecSession, ExitStatus, LogOptions, LogStream, NodeStreams, PodRef, StreamFlags,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// What is asked for.
#[derive(Clone, Copy)]
pub enum Kind {
    Exec,
    PortForward,
}

/// Room in each direction of a connection.
const BUFFER: usize = 64 * 1024;

/// Sends bytes to a server and answers what it sends until it closes the connection.
pub fn serve(kind: Kind, is_websocket: bool, protocol: usize, bytes: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        let node = Arc::new(Echo);
        let server = async {
            match kind {
                Kind::Exec => doors::exec(theirs, is_websocket, protocol, node).await,
                Kind::PortForward => doors::port_forward(theirs, is_websocket, protocol, node).await,
            }
        };
        let (mut from, mut to) = tokio::io::split(ours);
        let sending = async {
            // A server that has enough closes.
            let _ = to.write_all(bytes).await;
            let _ = to.shutdown().await;
        };
        let mut answer = Vec::new();
        let receiving = from.read_to_end(&mut answer);
        let ((), (), received) = tokio::join!(server, sending, receiving);
        received.expect("memory does not fail");
        answer
    })
}

struct Echo;

impl Echo {
    fn session(streams: StreamFlags) -> ExecSession {
        let (stdin, stdout) = tokio::io::duplex(BUFFER);
        let (resize, mut sizes) = mpsc::channel(4);
        tokio::spawn(async move { while sizes.recv().await.is_some() {} });
        ExecSession {
            stdin: streams.stdin.then(|| Box::new(stdin) as _),
            stdout: streams.stdout.then(|| Box::new(stdout) as _),
            stderr: streams.stderr.then(|| Box::new(tokio::io::empty()) as _),
            resize: streams.tty.then_some(resize),
            ends_with_input: false,
            exit: Box::pin(std::future::ready(Ok(ExitStatus { code: 0 }))),
        }
    }
}

#[async_trait]
impl NodeStreams for Echo {
    async fn logs(&self, _: &PodRef, _: &str, _: LogOptions) -> Result<LogStream, Status> {
        Err(Status::unavailable("no logs here"))
    }

    async fn exec(
        &self,
        _pod: &PodRef,
        _container: &str,
        _command: Vec<String>,
        streams: StreamFlags,
    ) -> Result<ExecSession, Status> {
        Ok(Echo::session(streams))
    }

    async fn attach(&self, _: &PodRef, _: &str, streams: StreamFlags) -> Result<ExecSession, Status> {
        Ok(Echo::session(streams))
    }

    async fn port_forward(&self, _pod: &PodRef, port: u16) -> Result<BoxDuplex, Status> {
        if port.is_multiple_of(7) {
            return Err(Status::unavailable("nobody listens"));
        }
        let (ours, theirs) = tokio::io::duplex(BUFFER);
        tokio::spawn(async move {
            let (mut from, mut to) = tokio::io::split(ours);
            // The client's end may be gone.
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        });
        Ok(Box::new(theirs))
    }
}
