//! One forwarded connection: bytes between a client's stream and a port of a pod.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sampan_client::node_streams::{BoxDuplex, NodeStreams, PodRef};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::multiplex::{CHUNK_BYTES, Sink};

/// Where ports are.
#[derive(Clone)]
pub(super) struct Target {
    pub node: Arc<dyn NodeStreams>,
    pub pod: PodRef,
}

impl Target {
    /// Connects a stream to a port until the pod closes the connection or the client resets the
    /// stream. Why it could not be done goes to `error`.
    pub async fn forward(&self, port: u16, input: mpsc::Receiver<Bytes>, data: Sink, error: Sink) {
        match self.node.port_forward(&self.pod, port).await {
            Ok(connection) => {
                tokio::select! {
                    () = copy(connection, input, &data) => {}
                    () = data.reset() => {}
                }
            }
            Err(status) => {
                let PodRef { name, namespace, uid } = &self.pod;
                let message = format!(
                    "error forwarding port {port} to pod {name}_{namespace}, uid {uid}: {}",
                    status.message
                );
                // A client that is gone needs no reason.
                let _ = error.send(Bytes::from(message)).await;
            }
        }
        data.end().await;
        error.end().await;
    }
}

async fn copy(connection: BoxDuplex, mut input: mpsc::Receiver<Bytes>, data: &Sink) {
    let (mut from, mut to) = tokio::io::split(connection);
    let up = async {
        while let Some(bytes) = input.recv().await {
            if to.write_all(&bytes).await.is_err() || to.flush().await.is_err() {
                break;
            }
        }
        // The client's end of its side is not the end of the answer.
        let _ = to.shutdown().await;
        while input.recv().await.is_some() {}
        std::future::pending::<()>().await;
    };
    let down = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK_BYTES);
            match from.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {
                    if data.send(buffer.split().freeze()).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
