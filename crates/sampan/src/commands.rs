//! Commands that talk to a running server.

pub mod image;
