use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn range(text: &str) -> IpNet {
    text.parse().expect("a range")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn special_addresses_are_never_given_out() {
    for (cidr, given) in [
        ("10.1.0.0/29", vec!["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]),
        ("10.1.0.13/30", vec!["10.1.0.14"]),
        ("fd00::/126", vec!["fd00::2", "fd00::3"]),
    ] {
        let mut ipam = Ipam::new(range(cidr)).expect("room");
        let all: Vec<_> = std::iter::from_fn(|| ipam.allocate().ok()).collect();
        assert_eq!(all, given.into_iter().map(address).collect::<Vec<_>>(), "{cidr}");
        assert_eq!(ipam.allocate(), Err(IpamError::Exhausted(range(cidr).trunc())));
    }
    for cidr in ["10.1.0.0/31", "10.1.0.0/32", "fd00::/127"] {
        assert_eq!(Ipam::new(range(cidr)).err(), Some(IpamError::TooSmall(range(cidr))), "{cidr}");
    }
}

#[test]
fn what_was_released_first_comes_back_first() {
    let mut ipam = Ipam::new(range("10.1.0.0/29")).expect("room");
    let first = ipam.allocate().expect("free");
    let second = ipam.allocate().expect("free");
    assert!(ipam.release(second) && ipam.release(first));
    assert!(!ipam.release(first), "released twice");
    let order: Vec<_> = std::iter::from_fn(|| ipam.allocate().ok()).collect();
    let expected = ["10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.3", "10.1.0.2"];
    assert_eq!(order, expected.map(address));
}

#[test]
fn reserving_knows_the_range() {
    let mut ipam = Ipam::new(range("10.1.0.0/29")).expect("room");
    assert_eq!(ipam.reserve(address("10.1.0.2")), Ok(()));
    assert_eq!(ipam.reserve(address("10.1.0.2")), Err(IpamError::Taken(address("10.1.0.2"))));
    for outside in ["10.1.0.0", "10.1.0.1", "10.1.0.7", "10.1.0.8", "fd00::3"] {
        let error = IpamError::Outside { address: address(outside), cidr: range("10.1.0.0/29") };
        assert_eq!(ipam.reserve(address(outside)), Err(error));
    }
    assert_eq!(ipam.allocate(), Ok(address("10.1.0.3")));
}

#[derive(Clone, Debug)]
enum Step {
    Allocate,
    Reserve(u8),
    Release(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Allocate),
        1 => (0u8..16).prop_map(Step::Reserve),
        2 => (0u8..16).prop_map(Step::Release),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// Against a plain model: never an address twice, never a special one, exhaustion only when all
    /// are taken, reuse in order of release.
    #[test]
    fn it_behaves_as_its_model(steps in steps()) {
        let mut ipam = Ipam::new(range("10.1.0.0/28")).expect("room");
        let at = |host: u8| address(&format!("10.1.0.{host}"));
        let mut fresh: BTreeSet<u8> = (2..15).collect();
        let mut released: VecDeque<u8> = VecDeque::new();
        let mut taken: BTreeSet<u8> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Allocate => {
                    let expected = fresh.iter().next().copied().or_else(|| released.front().copied());
                    prop_assert_eq!(ipam.allocate().ok(), expected.map(at));
                    if let Some(host) = expected {
                        if !fresh.remove(&host) { released.pop_front(); }
                        taken.insert(host);
                    }
                }
                Step::Reserve(host) => {
                    let free = (2..15).contains(&host) && !taken.contains(&host);
                    prop_assert_eq!(ipam.reserve(at(host)).is_ok(), free);
                    if free {
                        fresh.remove(&host);
                        released.retain(|other| *other != host);
                        taken.insert(host);
                    }
                }
                Step::Release(host) => {
                    prop_assert_eq!(ipam.release(at(host)), taken.contains(&host));
                    if taken.remove(&host) {
                        released.push_back(host);
                    }
                }
            }
            prop_assert_eq!(ipam.taken(), taken.len());
        }
    }
}
