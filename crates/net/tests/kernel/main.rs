//! The real kernel, in namespaces that each test makes for itself. Needs root.

mod outside;
mod services;
mod setup;
mod support;
