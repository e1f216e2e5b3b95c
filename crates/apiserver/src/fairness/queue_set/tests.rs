use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn queue(queues: usize, hand_size: usize, length_limit: usize) -> Queuing {
    Queuing::Queue { queues, hand_size, length_limit }
}

/// A set under a clock, with what executes and what waits by flow.
struct Bench {
    set: QueueSet,
    now: Duration,
    executing: Vec<(u64, Ticket)>,
    waiting: Vec<(u64, Id)>,
    order: Vec<u64>,
}

impl Bench {
    fn new(queuing: Queuing, limit: u32) -> Self {
        let set = QueueSet::new(queuing, limit, Duration::ZERO);
        Bench { set, now: Duration::ZERO, executing: vec![], waiting: vec![], order: vec![] }
    }

    fn take(&mut self, freed: Vec<(Id, Ticket)>) {
        for (id, ticket) in freed {
            let at = self.waiting.iter().position(|(_, waiting)| *waiting == id).expect("it waited");
            let (flow, _) = self.waiting.remove(at);
            self.order.push(flow);
            self.executing.push((flow, ticket));
        }
    }

    fn arrive(&mut self, flow: u64, work: Work) -> Option<Rejection> {
        let mut freed = Vec::new();
        let arrival = self.set.arrive(self.now, work, flow, &mut freed);
        self.take(freed);
        match arrival {
            Arrival::Execute(ticket) => {
                self.order.push(flow);
                self.executing.push((flow, ticket));
                None
            }
            Arrival::Wait { id, .. } => {
                self.waiting.push((flow, id));
                None
            }
            Arrival::Reject(why) => Some(why),
        }
    }

    fn finish(&mut self, at: usize) {
        let (_, ticket) = self.executing.remove(at);
        let mut freed = Vec::new();
        self.set.finish(self.now, ticket, &mut freed);
        if !ticket.linger().is_zero() {
            self.set.release(self.now + ticket.linger(), ticket, &mut freed);
        }
        self.take(freed);
    }

    fn cancel(&mut self, at: usize) {
        let (_, id) = self.waiting.remove(at);
        let mut freed = Vec::new();
        assert!(self.set.cancel(self.now, id, &mut freed));
        assert!(!self.set.cancel(self.now, id, &mut freed), "once only");
        self.take(freed);
    }

    fn check(&self) {
        let seats: u32 = self.executing.iter().map(|(_, ticket)| ticket.seats()).sum();
        assert_eq!(self.set.seats_in_use(), seats);
        assert_eq!(self.set.executing(), self.executing.len());
        assert_eq!(self.set.waiting(), self.waiting.len());
        if self.set.queuing != Queuing::Exempt {
            assert!(seats <= self.set.limit() || self.executing.len() == 1, "{seats} seats");
        }
        let active = self.set.active().count();
        assert_eq!(self.set.active_queues, active);
        if self.executing.is_empty() {
            assert!(self.waiting.is_empty(), "somebody waits although nothing runs");
        }
    }
}

#[test]
fn what_does_not_fit_is_rejected_where_nothing_queues() {
    let mut bench = Bench::new(Queuing::Reject, 2);
    assert_eq!(bench.arrive(1, Work::seats(1)), None);
    assert_eq!(bench.arrive(1, Work::seats(1)), None);
    assert_eq!(bench.arrive(2, Work::seats(1)), Some(Rejection::ConcurrencyLimit));
    bench.finish(0);
    assert_eq!(bench.arrive(2, Work::seats(1)), None);
    let mut exempt = Bench::new(Queuing::Exempt, 0);
    for _ in 0..1000 {
        assert_eq!(exempt.arrive(1, Work::seats(10)), None);
    }
    exempt.check();
}

#[test]
fn a_full_queue_rejects_only_its_own_flows() {
    // With hands of one card, flow n has queue n.
    let mut bench = Bench::new(queue(4, 1, 2), 1);
    for _ in 0..3 {
        assert_eq!(bench.arrive(0, Work::seats(1)), None);
    }
    assert_eq!(bench.arrive(0, Work::seats(1)), Some(Rejection::QueueFull));
    assert_eq!(bench.arrive(1, Work::seats(1)), None);
    bench.check();
}

#[test]
fn a_flood_of_one_flow_delays_another_by_one_request() {
    let mut bench = Bench::new(queue(8, 1, 100), 1);
    for _ in 0..50 {
        bench.arrive(0, Work::seats(1));
    }
    bench.arrive(1, Work::seats(1));
    bench.order.clear();
    for _ in 0..50 {
        bench.now += MS * 10;
        bench.finish(0);
        bench.check();
    }
    let place = bench.order.iter().position(|flow| *flow == 1).expect("served");
    assert!(place <= 1, "flow 1 was served after {place} others");
}

#[test]
fn busy_flows_share_equally_whatever_their_requests_take() {
    // Flow 0 runs three times as long per request: it gets a third as many.
    let mut bench = Bench::new(queue(4, 1, 1000), 1);
    for _ in 0..400 {
        bench.arrive(0, Work::seats(1));
        bench.arrive(1, Work::seats(1));
    }
    let (mut served, mut used) = ([0u32; 2], [0u32; 2]);
    for _ in 0..200 {
        let flow = bench.executing[0].0;
        let took = if flow == 0 { 30 } else { 10 };
        bench.now += MS * took;
        served[flow as usize] += 1;
        used[flow as usize] += took;
        bench.finish(0);
    }
    assert!(used[0].abs_diff(used[1]) <= 60, "{used:?}");
    assert!(served[1] > 2 * served[0], "{served:?}");
}

#[test]
fn wide_requests_wait_for_seats_and_are_not_starved() {
    let mut bench = Bench::new(queue(4, 1, 100), 4);
    for _ in 0..4 {
        bench.arrive(0, Work::seats(1));
    }
    bench.arrive(1, Work::seats(4));
    for _ in 0..20 {
        bench.arrive(0, Work::seats(1));
    }
    bench.order.clear();
    for _ in 0..5 {
        bench.now += MS * 5;
        bench.finish(0);
        bench.check();
    }
    assert!(bench.order.contains(&1), "{:?}", bench.order);
    // Wider than the level: it goes alone.
    let mut bench = Bench::new(queue(4, 1, 100), 2);
    bench.arrive(0, Work::seats(1));
    bench.arrive(1, Work::seats(10));
    assert_eq!(bench.executing.len(), 1);
    bench.finish(0);
    assert_eq!(bench.executing[0].0, 1);
}

#[test]
fn seats_linger_after_a_write_with_many_watchers() {
    let mut set = QueueSet::new(queue(1, 1, 10), 3, Duration::ZERO);
    let work = Work { seats: 1, final_seats: 3, linger: MS * 5 };
    let mut freed = Vec::new();
    let Arrival::Execute(ticket) = set.arrive(Duration::ZERO, work, 0, &mut freed) else {
        panic!("executes")
    };
    set.finish(MS, ticket, &mut freed);
    assert!(matches!(set.arrive(MS * 2, Work::seats(1), 0, &mut freed), Arrival::Wait { .. }));
    set.release(MS * 6, ticket, &mut freed);
    assert_eq!(freed.len(), 1);
}

#[test]
fn a_new_configuration_takes_effect_at_once() {
    let mut bench = Bench::new(queue(8, 2, 10), 1);
    for flow in 0..6 {
        bench.arrive(flow, Work::seats(1));
    }
    let mut freed = Vec::new();
    bench.set.configure(bench.now, queue(2, 1, 10), 3, &mut freed);
    assert_eq!(freed.len(), 2);
    bench.take(freed);
    bench.check();
    while !bench.executing.is_empty() {
        bench.finish(0);
        bench.check();
    }
    assert_eq!(bench.set.queues.len(), 2, "surplus queues go once they are empty");
}

#[derive(Clone, Debug)]
enum Step {
    Arrive { flow: u64, seats: u32, final_seats: u32 },
    Finish(usize),
    Cancel(usize),
    Wait(u64),
    Configure { queues: usize, limit: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..1000, 1u32..12, 0u32..6)
            .prop_map(|(flow, seats, final_seats)| Step::Arrive { flow, seats, final_seats }),
        3 => (0usize..64).prop_map(Step::Finish),
        1 => (0usize..64).prop_map(Step::Cancel),
        1 => (0u64..100).prop_map(Step::Wait),
        1 => (1usize..10, 1u32..20).prop_map(|(queues, limit)| Step::Configure { queues, limit }),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_figures_add_up_and_everybody_is_served(steps in prop::collection::vec(step(), 1..200)) {
        let mut bench = Bench::new(queue(6, 2, 5), 8);
        let mut shrunk = false;
        for step in steps {
            match step {
                Step::Arrive { flow, seats, final_seats } => {
                    let linger = if final_seats > 0 { MS } else { Duration::ZERO };
                    bench.arrive(flow, Work { seats, final_seats, linger });
                }
                Step::Finish(at) if !bench.executing.is_empty() => bench.finish(at % bench.executing.len()),
                Step::Cancel(at) if !bench.waiting.is_empty() => bench.cancel(at % bench.waiting.len()),
                Step::Finish(_) | Step::Cancel(_) => {}
                Step::Wait(ms) => bench.now += MS * ms as u32,
                Step::Configure { queues, limit } => {
                    let mut freed = Vec::new();
                    bench.set.configure(bench.now, queue(queues, 2, 5), limit, &mut freed);
                    bench.take(freed);
                    shrunk = true;
                }
            }
            // Seats that are taken stay taken when the limit falls below them.
            if !shrunk {
                bench.check();
            }
        }
        while !bench.executing.is_empty() {
            bench.now += MS;
            bench.finish(0);
        }
        prop_assert!(bench.waiting.is_empty());
        prop_assert!(bench.set.is_idle());
    }
}
