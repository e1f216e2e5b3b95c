//! A priority level at work: its queue set, and the requests that wait in it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::metrics::SchemaSeries;
use super::queue_set::{Arrival, DemandStats, Id, QueueSet, Queuing, Rejection, Ticket, Work};

/// How many seats a level may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub nominal: u32,
    /// What is left when it lends all that it may.
    pub lower: u32,
    /// What it has when it borrows all that it may.
    pub upper: u32,
}

/// A priority level as it is configured now. What runs and waits in it is shared by its
/// configurations.
pub struct Level {
    pub name: Arc<str>,
    pub uid: HeaderValue,
    pub queuing: Queuing,
    pub limits: Limits,
    /// The widest request.
    pub max_seats: u32,
    pub running: Arc<Running>,
}

/// What runs and waits in a level.
pub struct Running {
    began: Instant,
    state: Mutex<State>,
}

struct State {
    set: QueueSet,
    waiters: HashMap<Id, oneshot::Sender<Ticket>>,
}

/// A request may execute for as long as this lives.
pub struct Seat {
    running: Arc<Running>,
    ticket: Ticket,
    series: Arc<SchemaSeries>,
    began: Instant,
}

impl Running {
    pub fn new(queuing: Queuing, limit: u32) -> Arc<Self> {
        let set = QueueSet::new(queuing, limit, Duration::ZERO);
        let state = Mutex::new(State { set, waiters: HashMap::new() });
        Arc::new(Running { began: Instant::now(), state })
    }

    pub fn configure(&self, queuing: Queuing, limit: u32) {
        self.change(|set, now, freed| set.configure(now, queuing, limit, freed));
    }

    /// Runs a change of the queue set, and wakes whom it let go.
    fn change<T>(&self, change: impl FnOnce(&mut QueueSet, Duration, &mut Vec<(Id, Ticket)>) -> T) -> T {
        let now = self.began.elapsed();
        let mut state = self.state.lock();
        let mut freed = Vec::new();
        let answer = change(&mut state.set, now, &mut freed);
        while let Some((id, ticket)) = freed.pop() {
            let waiter = state.waiters.remove(&id);
            // Whoever stopped to wait just now gives its seat to the next one.
            if waiter.is_none_or(|waiter| waiter.send(ticket).is_err()) {
                state.set.finish(now, ticket, &mut freed);
                if !ticket.linger().is_zero() {
                    state.set.release(now, ticket, &mut freed);
                }
            }
        }
        answer
    }

    /// Waits for a seat, at most `limit`. `queued` is called when there is none at once; what it
    /// answers lives for as long as the request waits.
    pub async fn acquire<T>(
        self: &Arc<Self>,
        series: &Arc<SchemaSeries>,
        work: Work,
        hash: u64,
        limit: Duration,
        queued: impl FnOnce() -> T,
    ) -> Result<Seat, Rejection> {
        series.estimated(work.max_seats());
        let (sender, receiver) = oneshot::channel();
        let arrival = {
            let now = self.began.elapsed();
            let mut state = self.state.lock();
            // Nothing else can go because something came: whoever waited still does.
            let mut freed = Vec::new();
            let arrival = state.set.arrive(now, work, hash, &mut freed);
            if let Arrival::Wait { id, .. } = arrival {
                state.waiters.insert(id, sender);
            }
            drop(state);
            for (id, ticket) in freed {
                self.wake(id, ticket);
            }
            arrival
        };
        let (id, queue_length) = match arrival {
            Arrival::Execute(ticket) => return Ok(self.seat(ticket, series)),
            Arrival::Reject(why) => return Err(why),
            Arrival::Wait { id, queue_length } => (id, queue_length),
        };
        let _waits = (queued(), series.wait(work.max_seats(), queue_length));
        let mut waiter = Waiter { running: self, id, receiver: Some(receiver) };
        match tokio::time::timeout(limit, waiter.ticket()).await {
            Ok(ticket) => Ok(self.seat(ticket, series)),
            Err(_) => match waiter.give_up() {
                // It got its seat in the very moment.
                Some(ticket) => Ok(self.seat(ticket, series)),
                None => Err(Rejection::TimeOut),
            },
        }
    }

    fn wake(&self, id: Id, ticket: Ticket) {
        let waiter = self.state.lock().waiters.remove(&id);
        if waiter.is_none_or(|waiter| waiter.send(ticket).is_err()) {
            self.end(ticket);
        }
    }

    fn seat(self: &Arc<Self>, ticket: Ticket, series: &Arc<SchemaSeries>) -> Seat {
        series.began(ticket.seats());
        Seat { running: self.clone(), ticket, series: series.clone(), began: Instant::now() }
    }

    fn end(&self, ticket: Ticket) {
        self.change(|set, now, freed| {
            set.finish(now, ticket, freed);
            if !ticket.linger().is_zero() {
                set.release(now, ticket, freed);
            }
        });
    }

    pub fn take_demand(&self) -> DemandStats {
        self.state.lock().set.take_demand(self.began.elapsed())
    }

    /// Reads the queue set.
    pub fn look<T>(&self, look: impl FnOnce(&QueueSet) -> T) -> T {
        look(&self.state.lock().set)
    }
}

/// A request that waits. Dropping it gives its place up.
struct Waiter<'a> {
    running: &'a Running,
    id: Id,
    receiver: Option<oneshot::Receiver<Ticket>>,
}

impl Waiter<'_> {
    async fn ticket(&mut self) -> Ticket {
        let receiver = self.receiver.as_mut().expect("taken at the end only");
        match receiver.await {
            Ok(ticket) => {
                self.receiver = None;
                ticket
            }
            // The sender lives in the level, and goes only when it sends.
            Err(_) => std::future::pending().await,
        }
    }

    /// The ticket, if it came in the meantime.
    fn give_up(&mut self) -> Option<Ticket> {
        let mut receiver = self.receiver.take()?;
        let id = self.id;
        self.running.change(|set, now, freed| set.cancel(now, id, freed));
        self.running.state.lock().waiters.remove(&id);
        receiver.try_recv().ok()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.give_up() {
            self.running.end(ticket);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let ticket = self.ticket;
        self.series.ended(ticket.seats(), self.began.elapsed());
        self.running.change(|set, now, freed| set.finish(now, ticket, freed));
        if !ticket.linger().is_zero() {
            let running = self.running.clone();
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(async move {
                    tokio::time::sleep(ticket.linger()).await;
                    running.change(|set, now, freed| set.release(now, ticket, freed));
                })),
                // The process is ending.
                Err(_) => running.change(|set, now, freed| set.release(now, ticket, freed)),
            }
        }
    }
}
