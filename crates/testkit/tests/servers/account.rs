//! What is there, against what clients were told.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sampan_client::Backend as _;
use sampan_testkit::Servers;
use serde_json::Value;

use crate::api::{CONFIG_MAPS, all, at, connect, in_hub};
use crate::load::{Known, Outcome};

pub struct Account {
    outcomes: Vec<Outcome>,
    /// How many objects each number has, by server.
    found: Vec<HashMap<u64, usize>>,
    count: u64,
}

impl Account {
    /// Reads what every server says is there.
    pub fn of(servers: &Servers, outcomes: Vec<Outcome>) -> Self {
        let kubeconfigs: Vec<_> = (0..servers.count()).map(|index| servers.kubeconfig(index)).collect();
        let reading = in_hub(servers.hub(), move || async move {
            let mut found = Vec::new();
            for kubeconfig in &kubeconfigs {
                let mut numbers = HashMap::new();
                for object in all(&connect(kubeconfig), &CONFIG_MAPS, "load").await {
                    let number = object["metadata"]["labels"]["number"].as_str().expect("has one");
                    *numbers.entry(number.parse().expect("a number")).or_default() += 1;
                }
                found.push(numbers);
            }
            let counter = connect(&kubeconfigs[0]).get(at(&CONFIG_MAPS, "counter")).await.expect("is there");
            let counter: Value = counter.decode().expect("an object");
            (found, counter["data"]["count"].as_str().expect("text").parse().expect("a number"))
        });
        let (found, count) = reading.join().expect("every server answers");
        Account { outcomes, found, count }
    }

    fn number_of(&self, increment: bool, known: Known) -> u64 {
        let counted = |outcome: &&Outcome| outcome.increment == increment && outcome.known == known;
        self.outcomes.iter().filter(counted).count() as u64
    }

    fn longest_gap(&self) -> Duration {
        let mut times: Vec<Instant> = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.anywhere && outcome.known == Known::Acknowledged)
            .map(|outcome| outcome.ended)
            .collect();
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    pub fn told(&self) -> String {
        let creations = |known| self.number_of(false, known);
        let increments = |known| self.number_of(true, known);
        format!(
            "{} creations acknowledged, {} refused, {} unknown; {} increments acknowledged, {} refused, {} unknown, \
             {} counted; at most {:.1?} without an acknowledgement anywhere",
            creations(Known::Acknowledged),
            creations(Known::Refused),
            creations(Known::Unknown),
            increments(Known::Acknowledged),
            increments(Known::Refused),
            increments(Known::Unknown),
            self.count,
            self.longest_gap()
        )
    }

    pub fn check(&self, longest: Duration) {
        for (index, found) in self.found.iter().enumerate() {
            assert_eq!(*found, self.found[0], "server {index} shows what server 0 does");
        }
        let found = &self.found[0];
        for outcome in self.outcomes.iter().filter(|outcome| !outcome.increment) {
            let count = found.get(&outcome.number).copied().unwrap_or(0);
            match outcome.known {
                Known::Acknowledged => assert_eq!(count, 1, "acknowledged: {outcome:?}"),
                Known::Refused => assert_eq!(count, 0, "refused: {outcome:?}"),
                Known::Unknown => assert!(count <= 1, "twice: {outcome:?}"),
            }
        }
        let acknowledged = self.number_of(true, Known::Acknowledged);
        let unknown = self.number_of(true, Known::Unknown);
        let range = acknowledged..=acknowledged + unknown;
        assert!(range.contains(&self.count), "{} is counted, of {range:?}", self.count);
        assert!(self.longest_gap() < longest, "nobody could write for {:?}", self.longest_gap());
    }
}
