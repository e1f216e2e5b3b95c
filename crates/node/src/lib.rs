//! The node agent: runs the pods that are bound to this node, and knows the cluster only through
//! the API.

pub mod amounts;
pub mod config;
pub mod images;
pub mod logs;
pub mod objects;
pub mod pod;
pub mod probe;
pub mod spec;
pub mod status;
pub mod volumes;
pub mod worker;
