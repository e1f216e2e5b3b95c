//! Fair queuing of the requests of one priority level (KEP-1040): pure, under a clock that is passed in.
//!
//! Each flow is dealt a hand of queues by its hash, and a request joins the one of them with the
//! least work before it. A queue that had less than its share is served first: virtual time `R` runs as
//! fast as every queue with work could be served, and each queue remembers the `R` at which its next
//! request would begin. With room for everybody, nobody waits and a request costs a few additions.
//!
//! Invariants: seats in use never pass the limit, unless one request alone needs more than all of
//! them; what arrived is executed, rejected or cancelled once; with nothing waiting and nothing
//! executing, every figure is zero.

use std::collections::VecDeque;
use std::time::Duration;

mod demand;
mod shuffle;

pub use demand::{Demand, DemandStats};
pub use shuffle::deal;

/// The time that a request is assumed to take before it has shown how long it does.
const ASSUMED: f64 = 0.003;

/// How much a request is expected to need.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Seats while it executes.
    pub seats: u32,
    /// Seats after its end, for what it set off: events that go to watchers.
    pub final_seats: u32,
    /// For how long after its end.
    pub linger: Duration,
}

impl Work {
    pub const fn seats(seats: u32) -> Self {
        Work { seats, final_seats: 0, linger: Duration::ZERO }
    }

    pub fn max_seats(&self) -> u32 {
        self.seats.max(self.final_seats)
    }

    fn total(&self) -> f64 {
        f64::from(self.seats) * ASSUMED + f64::from(self.final_seats) * self.linger.as_secs_f64()
    }
}

/// How a level queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queuing {
    /// Nothing is limited.
    Exempt,
    /// What does not fit is rejected.
    Reject,
    /// What does not fit waits.
    Queue { queues: usize, hand_size: usize, length_limit: usize },
}

/// Why a request was not executed; as the metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    ConcurrencyLimit,
    QueueFull,
    TimeOut,
    Cancelled,
}

impl Rejection {
    pub const ALL: [Rejection; 4] =
        [Rejection::ConcurrencyLimit, Rejection::QueueFull, Rejection::TimeOut, Rejection::Cancelled];

    pub fn as_str(self) -> &'static str {
        match self {
            Rejection::ConcurrencyLimit => "concurrency-limit",
            Rejection::QueueFull => "queue-full",
            Rejection::TimeOut => "time-out",
            Rejection::Cancelled => "cancelled",
        }
    }
}

/// Names a request that waits.
pub type Id = u64;

/// A request that executes. Given back by [`QueueSet::finish`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ticket {
    queue: Option<usize>,
    work: Work,
    started: Duration,
}

impl Ticket {
    /// For how long its seats stay taken after its end.
    pub fn linger(&self) -> Duration {
        self.work.linger
    }

    pub fn seats(&self) -> u32 {
        self.work.max_seats()
    }
}

/// What becomes of a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrival {
    Execute(Ticket),
    Wait { id: Id, queue_length: usize },
    Reject(Rejection),
}

#[derive(Debug)]
struct Waiting {
    id: Id,
    work: Work,
    arrival: f64,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    waiting_work: f64,
    executing: usize,
    seats_in_use: u32,
    /// The `R` at which its next request would begin.
    next: f64,
}

impl Queue {
    fn is_active(&self) -> bool {
        !self.waiting.is_empty() || self.executing > 0
    }

    /// A request does not begin before it arrived, in virtual time either: a queue that could not use
    /// its share must not save it up.
    fn bound_next(&mut self) {
        if let Some(first) = self.waiting.front() {
            self.next = self.next.max(first.arrival);
        }
    }
}

/// The requests of one priority level.
#[derive(Debug)]
pub struct QueueSet {
    queuing: Queuing,
    /// Seats.
    limit: u32,
    queues: Vec<Queue>,
    waiting: usize,
    seats_waiting: u32,
    executing: usize,
    seats_in_use: u32,
    active_queues: usize,
    r: f64,
    synced: Duration,
    robin: usize,
    next_id: Id,
    demand: Demand,
}

impl QueueSet {
    pub fn new(queuing: Queuing, limit: u32, now: Duration) -> Self {
        let mut set = QueueSet {
            queuing,
            limit,
            queues: Vec::new(),
            waiting: 0,
            seats_waiting: 0,
            executing: 0,
            seats_in_use: 0,
            active_queues: 0,
            r: 0.0,
            synced: now,
            robin: 0,
            next_id: 0,
            demand: Demand::default(),
        };
        set.resize();
        set
    }

    /// Takes a new configuration. What waits keeps its queue; `freed` receives what may go now.
    pub fn configure(&mut self, now: Duration, queuing: Queuing, limit: u32, freed: &mut Vec<(Id, Ticket)>) {
        self.sync(now);
        self.queuing = queuing;
        self.limit = limit;
        self.resize();
        self.dispatch(now, freed);
    }

    /// A request begins. `hash` is that of its flow.
    pub fn arrive(&mut self, now: Duration, work: Work, hash: u64, freed: &mut Vec<(Id, Ticket)>) -> Arrival {
        self.sync(now);
        let Queuing::Queue { queues, hand_size, length_limit } = self.queuing else {
            if !self.fits(work.max_seats()) {
                return Arrival::Reject(Rejection::ConcurrencyLimit);
            }
            return Arrival::Execute(self.start(now, None, work));
        };
        let at = self.choose(queues, hand_size, hash);
        if self.seats_in_use >= self.limit && self.queues[at].waiting.len() >= length_limit {
            return Arrival::Reject(Rejection::QueueFull);
        }
        if self.waiting == 0 && self.fits(work.max_seats()) {
            // What every request does that meets no other: it passes its queue without entering it.
            let r = self.r;
            let queue = &mut self.queues[at];
            queue.next = if queue.is_active() { queue.next.max(r) } else { r } + work.total();
            return Arrival::Execute(self.start(now, Some(at), work));
        }
        let id = self.enqueue(at, work);
        self.dispatch(now, freed);
        if let Some(mine) = freed.iter().position(|(freed, _)| *freed == id) {
            return Arrival::Execute(freed.swap_remove(mine).1);
        }
        Arrival::Wait { id, queue_length: self.queues[at].waiting.len() }
    }

    /// A request stops to wait. False where it does not wait any more.
    pub fn cancel(&mut self, now: Duration, id: Id, freed: &mut Vec<(Id, Ticket)>) -> bool {
        self.sync(now);
        for at in 0..self.queues.len() {
            if let Some(place) = self.queues[at].waiting.iter().position(|waiting| waiting.id == id) {
                self.leave(at, place);
                self.queues[at].bound_next();
                // It may have kept narrower ones behind it.
                self.dispatch(now, freed);
                return true;
            }
        }
        false
    }

    /// A request has been executed. Where its ticket lingers, [`QueueSet::release`] follows.
    pub fn finish(&mut self, now: Duration, ticket: Ticket, freed: &mut Vec<(Id, Ticket)>) {
        self.sync(now);
        self.executing -= 1;
        if let Some(at) = ticket.queue {
            let queue = &mut self.queues[at];
            let took = now.saturating_sub(ticket.started).as_secs_f64();
            queue.executing -= 1;
            queue.next -= f64::from(ticket.work.seats) * (ASSUMED - took);
            queue.bound_next();
            if !queue.is_active() {
                self.active_queues -= 1;
            }
        }
        if ticket.work.linger.is_zero() {
            self.free(now, ticket, freed);
        }
    }

    /// Frees the seats of a request that lingered.
    pub fn release(&mut self, now: Duration, ticket: Ticket, freed: &mut Vec<(Id, Ticket)>) {
        self.sync(now);
        self.free(now, ticket, freed);
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    pub fn executing(&self) -> usize {
        self.executing
    }

    pub fn seats_in_use(&self) -> u32 {
        self.seats_in_use
    }

    pub fn limit(&self) -> u32 {
        self.limit
    }

    pub fn virtual_time(&self) -> f64 {
        self.r
    }

    pub fn is_idle(&self) -> bool {
        self.waiting == 0 && self.executing == 0 && self.seats_in_use == 0
    }

    /// The seats that were wanted since the last call.
    pub fn take_demand(&mut self, now: Duration) -> DemandStats {
        self.sync(now);
        self.demand.take(f64::from(self.seats_in_use + self.seats_waiting))
    }

    /// Each queue that has something: its number, how much waits and executes, its seats, and the
    /// virtual time of its next request.
    pub fn active(&self) -> impl Iterator<Item = (usize, usize, usize, u32, f64)> {
        let queues = self.queues.iter().enumerate().filter(|(_, queue)| queue.is_active());
        queues.map(|(at, queue)| (at, queue.waiting.len(), queue.executing, queue.seats_in_use, queue.next))
    }

    /// Advances virtual time up to now, at the rate that held since the last change.
    fn sync(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.synced).as_secs_f64();
        self.synced = self.synced.max(now);
        self.demand.pass(f64::from(self.seats_in_use + self.seats_waiting), passed);
        if self.active_queues > 0 {
            let wanted = (self.seats_in_use + self.seats_waiting).min(self.limit);
            self.r += passed * f64::from(wanted) / self.active_queues as f64;
        } else if self.r != 0.0 && self.is_idle() {
            // Nobody is left who remembers the time: it begins anew, and never overflows.
            self.r = 0.0;
            self.queues.iter_mut().for_each(|queue| queue.next = 0.0);
        }
    }

    fn fits(&self, seats: u32) -> bool {
        match self.queuing {
            Queuing::Exempt => true,
            // Wider than everything: alone, or never.
            _ if seats > self.limit => self.executing == 0,
            _ => self.seats_in_use + seats <= self.limit,
        }
    }

    /// The queue of a flow's hand with the least work before a new request.
    fn choose(&self, queues: usize, hand_size: usize, hash: u64) -> usize {
        let mut best = (f64::INFINITY, 0);
        deal(hash, queues, hand_size, |at| {
            let queue = &self.queues[at];
            let work = queue.waiting_work + f64::from(queue.seats_in_use) * ASSUMED;
            if work < best.0 {
                best = (work, at);
            }
        });
        best.1
    }

    fn enqueue(&mut self, at: usize, work: Work) -> Id {
        let id = self.next_id;
        self.next_id += 1;
        let arrival = self.r;
        let queue = &mut self.queues[at];
        self.active_queues += usize::from(!queue.is_active());
        if queue.waiting.is_empty() && queue.executing == 0 {
            queue.next = arrival;
        }
        queue.waiting.push_back(Waiting { id, work, arrival });
        queue.waiting_work += work.total();
        queue.bound_next();
        self.waiting += 1;
        self.seats_waiting += work.max_seats();
        id
    }

    /// Takes one out of its queue.
    fn leave(&mut self, at: usize, place: usize) -> Option<Waiting> {
        let queue = &mut self.queues[at];
        let waiting = queue.waiting.remove(place)?;
        queue.waiting_work =
            if queue.waiting.is_empty() { 0.0 } else { queue.waiting_work - waiting.work.total() };
        self.active_queues -= usize::from(!queue.is_active());
        self.waiting -= 1;
        self.seats_waiting -= waiting.work.max_seats();
        Some(waiting)
    }

    fn start(&mut self, now: Duration, at: Option<usize>, work: Work) -> Ticket {
        self.executing += 1;
        self.seats_in_use += work.max_seats();
        if let Some(at) = at {
            let queue = &mut self.queues[at];
            self.active_queues += usize::from(!queue.is_active());
            queue.executing += 1;
            queue.seats_in_use += work.max_seats();
        }
        Ticket { queue: at, work, started: now }
    }

    fn free(&mut self, now: Duration, ticket: Ticket, freed: &mut Vec<(Id, Ticket)>) {
        self.seats_in_use -= ticket.seats();
        if let Some(at) = ticket.queue {
            self.queues[at].seats_in_use -= ticket.seats();
        }
        self.dispatch(now, freed);
        self.resize();
    }

    /// Lets as many go as fit, in fair order. A wide one that is next holds back narrow ones behind
    /// it, since it would starve otherwise.
    fn dispatch(&mut self, now: Duration, freed: &mut Vec<(Id, Ticket)>) {
        while self.waiting > 0 {
            let Some((at, seats)) = self.next_queue() else { return };
            if !self.fits(seats) {
                return;
            }
            self.robin = at;
            let Some(waiting) = self.leave(at, 0) else { return };
            let queue = &mut self.queues[at];
            queue.next += waiting.work.total();
            queue.bound_next();
            let ticket = self.start(now, Some(at), waiting.work);
            freed.push((waiting.id, ticket));
        }
    }

    /// The queue whose first request would end first in virtual time, from the one after the last.
    fn next_queue(&self) -> Option<(usize, u32)> {
        let count = self.queues.len();
        let mut best: Option<(f64, usize, u32)> = None;
        for step in 1..=count {
            let at = (self.robin + step) % count;
            let queue = &self.queues[at];
            let Some(first) = queue.waiting.front() else { continue };
            let end = queue.next + first.work.total();
            if best.is_none_or(|(earliest, ..)| end < earliest) {
                best = Some((end, at, first.work.max_seats()));
            }
        }
        best.map(|(_, at, seats)| (at, seats))
    }

    /// Makes missing queues, and drops surplus ones from the end once they are empty.
    fn resize(&mut self) {
        let wanted = match self.queuing {
            Queuing::Queue { queues, .. } => queues,
            Queuing::Exempt | Queuing::Reject => 0,
        };
        while self.queues.len() > wanted
            && self.queues.last().is_some_and(|queue| !queue.is_active() && queue.seats_in_use == 0)
        {
            self.queues.pop();
        }
        if self.queues.len() < wanted {
            self.queues.resize_with(wanted, Queue::default);
        }
        if self.robin >= self.queues.len() {
            self.robin = 0;
        }
    }
}

#[cfg(test)]
mod tests;
