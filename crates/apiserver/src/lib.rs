//! See ARCHITECTURE.md.

pub mod identity;
