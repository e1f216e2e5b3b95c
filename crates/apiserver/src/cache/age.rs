//! How long ago a revision was the latest one.
//!
//! Kubernetes forgets revisions after five minutes, and its clients and tests know: a list's pages come to an
//! end then, also where nothing that they show has changed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far two marks are apart at least.
const STEP: Duration = Duration::from_secs(20);

/// Marks of when which revision was the latest, the oldest first.
#[derive(Debug, Default)]
pub struct Ages {
    marks: VecDeque<(Instant, u64)>,
}

impl Ages {
    /// A revision is the latest now. Marks that tell nothing more about `age` go.
    pub fn note(&mut self, revision: u64, now: Instant, age: Duration) {
        if self.marks.back().is_some_and(|(at, _)| now.duration_since(*at) < STEP) {
            return;
        }
        self.marks.push_back((now, revision));
        while self.marks.get(1).is_some_and(|(at, _)| now.duration_since(*at) > age) {
            self.marks.pop_front();
        }
    }

    /// Whether a later revision is known to be older than that.
    pub fn is_superseded_for(&self, revision: u64, now: Instant, age: Duration) -> bool {
        let known = self.marks.iter().rev().find(|(at, _)| now.duration_since(*at) > age);
        known.is_some_and(|(_, later)| *later > revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_grow_old_when_later_ones_do() {
        const AGE: Duration = Duration::from_secs(300);
        let (start, mut ages) = (Instant::now(), Ages::default());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for second in 0..1000 {
            ages.note(second, at(second), AGE);
        }
        assert!(ages.marks.len() < 20, "{}", ages.marks.len());
        assert!(ages.is_superseded_for(600, at(1000), AGE));
        assert!(!ages.is_superseded_for(701, at(1000), AGE));
        // The latest one stays young, however long nothing happens.
        assert!(!ages.is_superseded_for(999, at(9000), AGE));
        assert!(ages.is_superseded_for(900, at(9000), AGE));
    }
}
