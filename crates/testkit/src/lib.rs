//! Real clusters for tests: a whole Sampan in namespaces of its own, with no route out.
//!
//! A [`Cluster`] runs inside a [`Sandbox`]: its own network, mount, process and cgroup namespaces, held by
//! one guardian process. The guardian watches a pipe from the test. When the test ends, in whatever way
//! (done, failed, killed), the pipe closes, and the guardian kills the namespace's first process: the kernel
//! then ends every other process and drops every mount, link and packet rule, so that taking a cluster down
//! does not depend on Sampan working. What a cgroup or a file would leave behind the guardian removes.
//!
//! A [`Suite`] is the `main` of a test file: one cluster, and checks that share it one after another. Each
//! check prints its name and result, and a failed one prints what the cluster was doing.
//!
//! Invariants: nothing here touches the host's network namespace; nothing waits by sleeping, only on
//! processes, pipes and the API's own watches, each with a deadline.

pub mod cluster;
pub mod command;
pub mod daemon;
pub mod etcd;
pub mod image;
pub mod load;
pub mod sandbox;
pub mod servers;
pub mod suite;
pub mod terminal;
pub mod tls;
pub mod web;
pub mod workers;

pub use cluster::{Cluster, Namespace};
pub use command::{Output, Running};
pub use sandbox::Sandbox;
pub use servers::Servers;
pub use suite::Suite;
pub use terminal::Terminal;
pub use workers::Workers;
