//! From a pod to the OCI specification of its containers: pure, but for the few files that are named
//! where they are read.

pub mod capabilities;
pub mod cgroup;
pub mod container;
pub mod devices;
pub mod environment;
pub mod expand;
pub mod fields;
pub mod mounts;
pub mod network_files;
pub mod seccomp;
pub mod services;
pub mod user;
