//! Packet rules (`nf_tables`): a model of tables, chains, rules, expressions and sets, and the
//! netlink messages that bring them into the kernel in one transaction.
//!
//! The kernel takes a transaction whole or not at all. [`replace`] puts a ruleset in the place of
//! whatever its tables held; [`update`] sends the differences between two rulesets, so that what
//! did not change keeps its counters and its dynamic elements.
//!
//! Not here: reading rules back. What a process did not put there itself, it replaces.

mod batch;
mod difference;
mod encode;
mod expression;
mod model;
mod print;

pub use batch::{NftError, Object, Operation, Sent};
pub use expression::{
    BitwiseMask, Comparison, CtKey, Direction, DynsetOperation, Expression, FibAddress, FibResult, LimitUnit,
    Match, MetaKey, NatKind, NumgenKind, PayloadBase, Register, RejectKind, SetReference, Verdict,
};
pub use model::{
    BaseChain, Chain, ChainKind, Data, Family, Field, Hook, Key, Name, Policy, Rule, Ruleset, Set, SetKind,
    Table,
};

use crate::netlink::{Connection, NETFILTER};
use batch::Batch;

/// Puts a ruleset in the place of its tables, in one transaction.
pub fn replace(ruleset: &Ruleset) -> Result<Sent, NftError> {
    let mut batch = Batch::new();
    for table in &ruleset.tables {
        batch.replace_table(table);
    }
    batch.send(&mut Connection::open(NETFILTER)?)
}

/// Sends the differences between what the kernel has and what it should have, in one transaction.
/// `None` when a difference cannot be sent on its own (the definition of a set or the hook of a
/// chain): then the whole has to be replaced.
pub fn update(old: &Ruleset, new: &Ruleset) -> Result<Option<Sent>, NftError> {
    let Some(batch) = difference::between(old, new) else { return Ok(None) };
    if batch.is_empty() {
        return Ok(Some(Sent::default()));
    }
    batch.send(&mut Connection::open(NETFILTER)?).map(Some)
}

/// Removes a table of either address family with all that is in it; none is fine.
pub fn delete_table(name: &str) -> Result<(), NftError> {
    let mut batch = Batch::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        batch.delete_table(family, name);
    }
    batch.send(&mut Connection::open(NETFILTER)?).map(|_| ())
}

/// Whether there is a table of that name for IPv4 or IPv6.
pub fn table_exists(name: &str) -> Result<bool, NftError> {
    batch::table_exists(&mut Connection::open(NETFILTER)?, name)
}
