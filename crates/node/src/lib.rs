//! The node agent: runs the pods that are bound to this node, and knows the cluster only through
//! the API.
//!
//! A [`Node`] has one [worker] per pod, the [proxy] for services, and the [node object](node_object)
//! with its lease. It implements `sampan_client::node_streams::NodeStreams` for logs, exec, attach
//! and port-forward, and `sampan_client::node_usage::NodeUsage` for what is used.
//!
//! Invariants: containers outlive this process, and the next one [adopts](adoption) them; nothing
//! polls; no lock is held over an await; a pod's address is given to another only after the pod's
//! network is gone.

pub mod adoption;
pub mod allotments;
mod amounts;
mod attach_lock;
pub mod config;
pub mod host_ports;
pub mod images;
pub mod logs;
pub mod network;
pub mod node;
pub mod node_object;
pub mod objects;
pub mod pod;
pub mod probe;
pub mod proxy;
pub mod shared;
pub mod spec;
pub mod status;
mod streams;
mod usage;
pub mod volumes;
pub mod worker;

pub use config::NodeConfig;
pub use images::{Puller, RegistryPuller};
pub use node::{Node, NodeError};
pub use proxy::ServiceView;
