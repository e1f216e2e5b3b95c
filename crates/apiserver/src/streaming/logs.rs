//! Container logs: a plain response whose body is as long as the log goes on.

use bytes::Bytes;
use futures_util::TryStreamExt;
use http::{HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use sampan_api::Status;
use sampan_client::node_streams::{LogOptions, NodeStreams};

use super::ContainerRef;

/// Log bytes. An error cuts the response off, which the client sees as an incomplete one.
pub type LogBody = http_body_util::combinators::UnsyncBoxBody<Bytes, Status>;

/// Answers `pods/log`. The stream ends when hyper drops the body: with the client.
pub async fn logs(
    node: &dyn NodeStreams,
    target: &ContainerRef,
    options: LogOptions,
) -> Result<Response<LogBody>, Status> {
    let stream = node.logs(&target.pod, &target.container, options).await?;
    let mut response = Response::new(StreamBody::new(stream.map_ok(Frame::data)).boxed_unsync());
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}
