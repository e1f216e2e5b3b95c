//! Server-side apply: who owns which field, and what an applied configuration makes of an object.
//!
//! The semantics are those of Kubernetes' structured merge (structured-merge-diff v6): the leaves of
//! an object are owned by managers, written down in `metadata.managedFields`. An update takes
//! ownership of what it changes; an apply owns what it mentions, conflicts with whoever owns a field
//! that it would change, and removes what it mentioned last time and no longer does. How lists and
//! maps split into fields comes from the schema ([`Typed`]).
//!
//! Everything here is a function of values. [`Request::update`] and [`Request::apply`] are the two
//! doors; objects go in with their `managedFields` and come out with new ones.

mod atomics;
mod compare;
mod extract;
mod managed;
mod merge;
mod path;
mod remove;
mod request;
mod set;
mod typed;
mod update;
mod validate;

pub use atomics::atomics;
pub use compare::{Comparison, compare};
pub use extract::field_set;
pub use managed::{Managed, ManagedError, Manager, Operation, Owned, is_reset, same_but_times};
pub use merge::merge;
pub use path::Element;
pub use remove::remove;
pub use request::{ApplyError, Request};
pub use set::{FieldSet, fields};
pub use typed::{ItemError, Typed};
pub use update::{Conflict, Versions};
pub use validate::{Duplicates, Mismatch, validate};

#[cfg(test)]
mod tests;
