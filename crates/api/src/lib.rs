//! What a Kubernetes object is, without I/O: the resource table, metadata, selectors, quantities,
//! schemas, patches, defaults, validation and printing.
//!
//! Everything here is a pure function of bytes and values. This crate knows no tokio, no files and
//! no sockets, and never panics on what came from outside.

pub mod apply;
pub mod certificates;
pub mod custom;
pub mod defaults;
pub mod discovery;
pub mod duration;
pub mod flow_control;
pub mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod pod_resources;
pub mod pod_security;
pub mod printers;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod strategic;
pub mod table;
pub mod validation;
pub mod warnings;

pub use object::{Header, Object, OwnerReference};
pub use resource::Gvr;
pub use status::Status;

/// The version of Kubernetes whose built-in APIs are served.
pub const KUBERNETES_VERSION: &str = "v1.35.0";
