//! Back-off of what fails again and again: restarts of containers and pulls of images.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

const INITIAL: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// A delay that doubles from 10 s to 5 min, and starts again after 10 min without a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    entry: Option<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    delay: Duration,
    /// When it was last lengthened.
    updated: Timestamp,
}

impl Backoff {
    /// The delay in force: until when after the failure at `failed_at` nothing may be tried.
    /// `None` when it may be tried now.
    pub fn waits(&self, failed_at: Timestamp, now: Timestamp) -> Option<(Duration, Timestamp)> {
        let entry = self.entry?;
        if is_forgotten(&entry, failed_at) {
            return None;
        }
        let until = failed_at.saturating_add(signed(entry.delay)).unwrap_or(Timestamp::MAX);
        (now < until).then_some((entry.delay, until))
    }

    /// Until when the last lengthening holds; `None` when that is over.
    pub fn holds(&self, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entry?;
        let until = entry.updated.saturating_add(signed(entry.delay)).unwrap_or(Timestamp::MAX);
        (now < until).then_some(until)
    }

    /// Counts a try after the failure at `failed_at`: the next one waits longer.
    pub fn lengthen(&mut self, failed_at: Timestamp, now: Timestamp) {
        let delay = match &self.entry {
            Some(entry) if !is_forgotten(entry, failed_at) => (entry.delay * 2).min(LONGEST),
            Some(_) | None => INITIAL,
        };
        self.entry = Some(Entry { delay, updated: now });
    }
}

fn is_forgotten(entry: &Entry, event: Timestamp) -> bool {
    event.duration_since(entry.updated) > signed(LONGEST * 2)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// A delay as upstream's messages write it: `10s`, `1m20s`, `5m0s`.
pub fn display(delay: Duration) -> String {
    let seconds = delay.as_secs();
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).expect("in range")
    }

    #[test]
    fn the_first_restart_is_at_once_and_later_ones_wait_longer() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.waits(at(0), at(0)), None);
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..8 {
            backoff.lengthen(at(now), at(now));
            now += 1;
            let (delay, until) = backoff.waits(at(now), at(now)).expect("waits");
            assert_eq!(until, at(now + delay.as_secs() as i64));
            waits.push(delay.as_secs());
            now += delay.as_secs() as i64;
            assert_eq!(backoff.waits(at(now - delay.as_secs() as i64), at(now)), None);
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn a_long_run_forgives() {
        let mut backoff = Backoff::default();
        backoff.lengthen(at(0), at(0));
        backoff.lengthen(at(20), at(20));
        assert_eq!(backoff.waits(at(700), at(700)), None);
        backoff.lengthen(at(700), at(700));
        assert_eq!(backoff.waits(at(710), at(710)).map(|(delay, _)| delay), Some(INITIAL));
    }

    #[test]
    fn delays_are_written_as_go_does() {
        for (seconds, expected) in [(10, "10s"), (60, "1m0s"), (80, "1m20s"), (300, "5m0s")] {
            assert_eq!(display(Duration::from_secs(seconds)), expected);
        }
    }
}
