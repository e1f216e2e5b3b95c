//! Doors for the fuzz targets: what reads a client's bytes here, without a server around it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sampan_client::node_streams::{NodeStreams, PodRef, StreamFlags};
use tokio::io::{AsyncRead, AsyncWrite};

use super::command::{Command, CommandKind, Version};
use super::forward::Target;
use super::multiplex::Activity;
use super::spdy::fuzzing as frames;
use super::{CommandQuery, ContainerRef, IDLE_LIMIT, spdy, websocket};

/// Reads as many frames as there are, and writes them again; `None` where that is no SPDY.
pub fn spdy_frames(bytes: &[u8]) -> Option<Vec<u8>> {
    frames::rewrite(BytesMut::from(bytes))
}

/// Reads header blocks that follow one another on a connection. `None` where one cannot be read.
pub fn spdy_headers(blocks: &[&[u8]]) -> Option<Vec<Vec<(String, String)>>> {
    frames::read_headers(blocks)
}

/// Reads what stands in a header block when it is inflated.
pub fn spdy_plain_headers(block: &[u8]) -> Option<Vec<(String, String)>> {
    frames::read_plain_headers(block)
}

/// The header block of some pairs, as the first on a connection.
pub fn spdy_header_block(pairs: &[(String, String)]) -> Option<Bytes> {
    frames::write_headers(pairs)
}

/// Serves `cat` with all streams to a client; `protocol` is any number.
pub async fn exec<C>(connection: C, is_websocket: bool, protocol: usize, node: Arc<dyn NodeStreams>)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let tty = protocol % 2 == 1;
    let streams = StreamFlags { stdin: true, stdout: true, stderr: !tty, tty };
    let query = CommandQuery { streams, command: vec!["cat".to_owned()] };
    let target = ContainerRef { pod: pod(), container: "c".to_owned() };
    let command = Command { node, target, query, kind: CommandKind::Exec };
    let activity = Arc::new(Activity::new(IDLE_LIMIT));
    if is_websocket {
        let protocols = websocket::COMMAND_PROTOCOLS;
        let protocol = protocols[protocol / 2 % protocols.len()].1;
        websocket::run_command(connection, activity, protocol, command).await;
    } else {
        let version = Version::of_spdy(spdy::COMMAND_PROTOCOLS[protocol / 2 % spdy::COMMAND_PROTOCOLS.len()]);
        spdy::run_command(connection, activity, version, command).await;
    }
}

/// Forwards ports to a client; `protocol` is any number.
pub async fn port_forward<C>(connection: C, is_websocket: bool, protocol: usize, node: Arc<dyn NodeStreams>)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let target = Target { node, pod: pod() };
    let activity = Arc::new(Activity::new(IDLE_LIMIT));
    if is_websocket {
        let protocols = websocket::FORWARD_PROTOCOLS;
        let protocol = protocols[protocol % protocols.len()].1;
        websocket::run_forward(connection, activity, protocol, target, vec![80, 81]).await;
    } else {
        spdy::run_forward(connection, activity, target).await;
    }
}

fn pod() -> PodRef {
    PodRef { namespace: "n".to_owned(), name: "p".to_owned(), uid: "u".to_owned() }
}
