//! Revisions as readers see them: etcd's own, and how far they were shifted.
//!
//! etcd counts by itself and cannot be told where to go on. Where a cluster's state moves into an etcd that has
//! counted less far than clients have seen, a key says by how much all its revisions are to be taken for
//! later ones, by every server. What clients kept of before is then older than everything that is there, as it is.

use super::cluster::{Cluster, unavailable};
use super::messages::{KeyValue, RANGE, Range, RangeAnswer, TXN, Txn, WatchEvent};
use super::read::{current_revision, unreadable};
use crate::{Entry, Revision, StoreError};

/// Where it is kept, in decimal digits.
pub const KEY: &str = "sampan/revision-shift";

/// By how much revisions are later than etcd's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shift(Revision);

impl Shift {
    pub async fn read(cluster: &Cluster) -> Result<Self, StoreError> {
        let range = Range { key: KEY.as_bytes(), ..Range::default() };
        let answer = cluster.ask(RANGE, &range.encode()).await.map_err(unavailable("be read"))?;
        let answer = RangeAnswer::decode(&answer).map_err(|error| unreadable(&error))?;
        match answer.found.first() {
            None => Ok(Shift::default()),
            Some(found) => Shift::parse(&found.value).ok_or_else(|| StoreError::Unavailable {
                action: "be understood",
                reason: format!("{KEY} holds no number"),
            }),
        }
    }

    /// Half of the numbers that there are is more than anybody counts to, and leaves room to go on.
    fn parse(text: &[u8]) -> Option<Self> {
        let shift = std::str::from_utf8(text).ok()?.parse().ok()?;
        (shift <= Revision::MAX / 2).then_some(Shift(shift))
    }

    /// One of etcd's revisions as readers see it.
    pub fn seen(self, etcds: Revision) -> Revision {
        etcds.saturating_add(self.0)
    }

    /// What etcd calls a revision that somebody saw; `None` for one from before the shift, or for zero.
    pub fn etcds(self, seen: Revision) -> Option<Revision> {
        seen.checked_sub(self.0).filter(|revision| *revision > 0)
    }

    /// What is found under a key; `None` if that is no text.
    pub fn entry(self, found: KeyValue) -> Option<Entry> {
        let entry = found.into_entry()?;
        let (revision, create_revision) = (self.seen(entry.revision), self.seen(entry.create_revision));
        Some(Entry { revision, create_revision, ..entry })
    }

    pub fn event(self, mut event: WatchEvent) -> WatchEvent {
        event.now.mod_revision = self.seen(event.now.mod_revision);
        event.now.create_revision = self.seen(event.now.create_revision);
        event
    }
}

/// Shifts revisions so that whatever is written next is later than `revision`, for all who open the store
/// from now on. Those who have it open must not go on.
pub async fn go_on_after(cluster: &Cluster, revision: Revision) -> Result<(), StoreError> {
    let reached = current_revision(cluster).await?;
    if Shift::read(cluster).await?.seen(reached) >= revision {
        return Ok(());
    }
    let shift = Shift(revision.min(Revision::MAX / 2).saturating_sub(reached));
    let mut txn = Txn::default();
    txn.put(KEY.as_bytes(), shift.0.to_string().as_bytes(), 0);
    cluster.ask(TXN, &txn.encode()).await.map_err(unavailable("be written"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_before_is_older_than_all() {
        let shift = Shift::parse(b"1000").expect("a number");
        assert_eq!(shift.seen(7), 1007);
        assert_eq!(shift.etcds(1007), Some(7));
        assert_eq!(shift.etcds(1000), None);
        assert_eq!(shift.etcds(999), None);
        assert_eq!(Shift::default().etcds(0), None);
        for wrong in ["", "x", "-1", "18446744073709551615"] {
            assert_eq!(Shift::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
