//! What a controller has asked for and does not see yet.
//!
//! A view lags behind the writes of its own process. A controller that counts pods must not act
//! again before it sees what it did: it expects each creation and deletion, and waits until the view
//! has shown them, or until the expectation is too old to believe in.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// After this time what was not seen is taken for lost.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Expectations {
    by_key: Mutex<HashMap<String, Expected>>,
}

struct Expected {
    creations: usize,
    /// Uids.
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    /// Before objects are created.
    pub fn expect_creations(&self, key: &str, count: usize) {
        self.change(key, |expected| expected.creations += count);
    }

    /// Before an object is deleted.
    pub fn expect_deletion(&self, key: &str, uid: &str) {
        self.change(key, |expected| {
            expected.deletions.insert(uid.to_owned());
        });
    }

    fn change(&self, key: &str, change: impl FnOnce(&mut Expected)) {
        let mut by_key = self.by_key.lock();
        let fresh = || Expected { creations: 0, deletions: HashSet::new(), since: Instant::now() };
        let expected = by_key.entry(key.to_owned()).or_insert_with(fresh);
        expected.since = Instant::now();
        change(expected);
    }

    /// A creation was seen, or failed.
    pub fn created(&self, key: &str) {
        if let Some(expected) = self.by_key.lock().get_mut(key) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// A deletion was seen, or failed.
    pub fn deleted(&self, key: &str, uid: &str) {
        if let Some(expected) = self.by_key.lock().get_mut(key) {
            expected.deletions.remove(uid);
        }
    }

    /// Whether everything was seen.
    pub fn are_met(&self, key: &str) -> bool {
        let mut by_key = self.by_key.lock();
        let Some(expected) = by_key.get(key) else { return true };
        let met = expected.creations == 0 && expected.deletions.is_empty();
        if met || expected.since.elapsed() > TIMEOUT {
            by_key.remove(key);
            return true;
        }
        false
    }

    pub fn forget(&self, key: &str) {
        self.by_key.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn met_when_everything_was_seen() {
        let expectations = Expectations::default();
        assert!(expectations.are_met("a"));
        expectations.expect_creations("a", 2);
        expectations.expect_deletion("a", "u");
        expectations.created("a");
        expectations.created("a");
        assert!(!expectations.are_met("a"));
        expectations.deleted("a", "other");
        assert!(!expectations.are_met("a"));
        expectations.deleted("a", "u");
        assert!(expectations.are_met("a"));
    }
}
