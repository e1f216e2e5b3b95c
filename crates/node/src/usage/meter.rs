//! When readings are taken: only when somebody asks, and one for all who ask at the same time.

use std::sync::Arc;
use std::time::Duration;

use sampan_client::node_usage::{Reading, Window};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The shortest time that a rate is made of; a younger reading is as good as a new one.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest. Who asks at least this often never waits.
const LONGEST: Duration = Duration::from_secs(30);

/// The readings of one node.
#[derive(Default)]
pub struct Meter {
    /// Held while a reading is taken, so that whoever asks meanwhile gets that one.
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    before: Option<Taken>,
    last: Option<Taken>,
}

#[derive(Clone)]
struct Taken {
    at: Instant,
    reading: Arc<Reading>,
}

impl Kept {
    fn put(&mut self, reading: Reading) -> Taken {
        let taken = Taken { at: Instant::now(), reading: Arc::new(reading) };
        self.before = self.last.replace(taken.clone());
        taken
    }

    /// The last two, where they are far enough from each other and near enough to now.
    fn window(&self) -> Option<Window> {
        let (before, last) = (self.before.as_ref()?, self.last.as_ref()?);
        let good = last.at.elapsed() < SHORTEST && fits(last.at.duration_since(before.at));
        good.then(|| Window { before: before.reading.clone(), now: last.reading.clone() })
    }
}

fn fits(time: Duration) -> bool {
    (SHORTEST..=LONGEST).contains(&time)
}

impl Meter {
    /// A reading that is at most a second old; `read` takes one.
    pub async fn reading<E, F>(&self, read: impl Fn() -> F) -> Result<Arc<Reading>, E>
    where
        F: Future<Output = Result<Reading, E>>,
    {
        let mut kept = self.kept.lock().await;
        match &kept.last {
            Some(last) if last.at.elapsed() < SHORTEST => Ok(last.reading.clone()),
            Some(_) | None => Ok(kept.put(read().await?).reading),
        }
    }

    /// A reading that is at most a second old, and one before it.
    pub async fn window<E, F>(&self, read: impl Fn() -> F) -> Result<Window, E>
    where
        F: Future<Output = Result<Reading, E>>,
    {
        let mut kept = self.kept.lock().await;
        if let Some(window) = kept.window() {
            return Ok(window);
        }
        // A young last reading is nothing to measure from yet, and nothing to wait for where the one before
        // it is.
        let earlier = [kept.last.clone(), kept.before.clone()];
        let before = match earlier.into_iter().flatten().find(|taken| fits(taken.at.elapsed())) {
            Some(before) => before,
            None => {
                let first = match kept.last.clone().filter(|last| last.at.elapsed() < SHORTEST) {
                    Some(last) => last,
                    None => kept.put(read().await?),
                };
                tokio::time::sleep_until(first.at + SHORTEST).await;
                first
            }
        };
        let now = kept.put(read().await?);
        kept.before = Some(before.clone());
        Ok(Window { before: before.reading, now: now.reading })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use jiff::Timestamp;
    use sampan_client::node_usage::Machine;

    use super::*;

    struct Bench {
        meter: Meter,
        taken: Cell<u64>,
    }

    impl Bench {
        async fn read(&self) -> Result<Reading, Infallible> {
            self.taken.set(self.taken.get() + 1);
            Ok(Reading {
                at: Timestamp::UNIX_EPOCH,
                node: String::new(),
                booted_at: Timestamp::UNIX_EPOCH,
                machine: Machine { cpu_ns: self.taken.get(), ..Machine::default() },
                pods: Vec::new(),
                incomplete: false,
            })
        }

        /// Which readings a window is of, and how long it took.
        async fn window(&self) -> (u64, u64, Duration) {
            let began = Instant::now();
            let Ok(window) = self.meter.window(|| self.read()).await;
            (window.before.machine.cpu_ns, window.now.machine.cpu_ns, began.elapsed())
        }

        async fn reading(&self) -> u64 {
            let Ok(reading) = self.meter.reading(|| self.read()).await;
            reading.machine.cpu_ns
        }
    }

    #[tokio::test(start_paused = true)]
    async fn readings_are_shared_and_windows_have_a_second_at_least() {
        let bench = Bench { meter: Meter::default(), taken: Cell::new(0) };
        let (second, none) = (Duration::from_secs(1), Duration::ZERO);
        assert_eq!(bench.window().await, (1, 2, second), "the first one waits");
        assert_eq!(bench.window().await, (1, 2, none), "the next one does not");
        assert_eq!(bench.reading().await, 2);
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(bench.window().await, (2, 3, none), "half a minute is bridged");
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(bench.reading().await, 4);
        assert_eq!(bench.window().await, (3, 4, none), "a reading alone makes a window too");
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(bench.reading().await, 5);
        assert_eq!(bench.window().await, (5, 6, second), "an old one does not count");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(bench.window().await, (7, 8, second));
    }
}
