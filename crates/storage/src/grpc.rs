//! As much of gRPC as the stores and plugins need that are spoken to: single calls and streams over one
//! HTTP/2 connection, to a unix socket or over TCP, with TLS.
//!
//! Messages are encoded and decoded by those who know them, with [`wire`]. There is no load balancing, no
//! compression and no retry here: who calls knows what may be repeated.

mod channel;
mod endpoint;
mod frame;
mod status;
mod stream;
pub mod wire;

pub use channel::{CallError, Channel};
pub use endpoint::{Endpoint, EndpointError, TlsFiles};
pub use frame::{Deframer, frame};
pub use status::Code;
pub use stream::{Receiver, Sender};
