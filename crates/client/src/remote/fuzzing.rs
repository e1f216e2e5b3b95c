//! Doors for the fuzz targets: the bodies that a server answers with.

use http::StatusCode;
use sampan_api::Status;

use super::decode;
use crate::{ObjectList, WatchEvent};

/// Reads one page of a list.
pub fn list(bytes: &[u8]) -> Result<ObjectList, Status> {
    decode::list(bytes)
}

/// Reads one event of a watch.
pub fn event(line: &[u8]) -> Result<WatchEvent, Status> {
    decode::event(line)
}

/// Reads the body of an answer that is an error.
pub fn status(code: StatusCode, body: &[u8]) -> Status {
    decode::status(code, body)
}
