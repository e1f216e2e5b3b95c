//! Volumes: what a pod's containers find mounted.

pub mod inside;
