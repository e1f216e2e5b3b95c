//! What the shop's services share: serving HTTP, calling each other, keeping records, metrics.
//!
//! Everything a service needs to know comes from its environment, as a Kubernetes manifest gives it:
//! `PORT`, `DATA_DIR`, and the addresses of the others (`CATALOGUE_URL`, …).

pub mod client;
pub mod records;
pub mod service;
pub mod types;
