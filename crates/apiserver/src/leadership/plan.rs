//! What to do about a lease, as it was seen.

use std::time::Duration;

use sampan_api::object::ObjectRef;
use serde_json::Value;
use tokio::time::Instant;

/// A lease as this process saw it. When it was renewed is told by when it changed here, since clocks of
/// other machines tell nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub revision: u64,
    pub holder: String,
    pub since: Instant,
    pub duration: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Take,
    /// Until it changes, or this.
    WaitUntil(Instant),
}

impl Observed {
    pub fn of(stored: &ObjectRef, before: Option<&Observed>, default: Duration) -> Self {
        let revision = stored.header.revision;
        let lease = super::decode(stored);
        let seconds = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_u64);
        let since = before.filter(|before| before.revision == revision).map(|before| before.since);
        Observed {
            revision,
            holder: holder(&lease).to_owned(),
            since: since.unwrap_or_else(Instant::now),
            duration: seconds.map_or(default, Duration::from_secs),
        }
    }

    /// Of one that does not lead. A lease in its own name is of a term whose beginning it never heard of.
    pub fn plan(&self, identity: &str, now: Instant) -> Step {
        let expires = self.since + self.duration;
        if self.holder.is_empty() || self.holder == identity || now >= expires {
            Step::Take
        } else {
            Step::WaitUntil(expires)
        }
    }
}

pub fn holder(lease: &Value) -> &str {
    lease.pointer("/spec/holderIdentity").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_when_nobody_holds_it() {
        let now = Instant::now();
        let check = |holder: &str, age_s, expected| {
            let seen = Observed {
                revision: 1,
                holder: holder.to_owned(),
                since: now - Duration::from_secs(age_s),
                duration: Duration::from_secs(15),
            };
            assert_eq!(seen.plan("me", now), expected, "{holder} for {age_s} s");
        };
        check("", 0, Step::Take);
        check("me", 0, Step::Take);
        check("other", 15, Step::Take);
        check("other", 5, Step::WaitUntil(now + Duration::from_secs(10)));
    }
}
