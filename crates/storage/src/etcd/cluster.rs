//! The members of an etcd cluster: which one is asked, and what to do when it does not answer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::StoreError;
use crate::grpc::{CallError, Channel, Code, Endpoint, Receiver, Sender};

/// The longest answer, in bytes. Lists are read in pages that are smaller.
const ANSWER_BYTES: usize = 64 << 20;
/// How long one member is waited for, and all of them together.
pub const ATTEMPT: Duration = Duration::from_secs(3);
pub const WITHIN: Duration = Duration::from_secs(10);
/// Pauses after every member was tried in vain.
const PAUSE_FROM: Duration = Duration::from_millis(20);
const PAUSE_TO: Duration = Duration::from_millis(500);
/// A member that has no leader says so at once, instead of when the wait is over.
const HEADERS: &[(&str, &str)] = &[("hasleader", "true")];

/// Every member is as good as the others. One is asked until it fails, then the next one.
pub struct Cluster {
    members: Vec<Channel>,
    current: AtomicUsize,
}

/// What a failed call means for what it asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It did not happen, and asking again is of no use.
    Refused,
    /// It did not happen; another member may do it, or this one later.
    NotDone,
    /// It may have happened, or happen yet.
    Unclear,
}

pub fn failure(error: &CallError) -> Failure {
    match error {
        CallError::Connect { .. } => Failure::NotDone,
        CallError::Connection(_) | CallError::Timeout(_) | CallError::Protocol(_) => Failure::Unclear,
        CallError::TooLarge { .. } => Failure::Unclear,
        CallError::Status { code, message } => match code {
            Code::ResourceExhausted if message.contains("too many requests") => Failure::NotDone,
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Failure::Refused,
            Code::Canceled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Failure::Unclear,
        },
    }
}

/// Whether a call was refused for want of space.
pub fn is_full(error: &CallError) -> bool {
    matches!(error, CallError::Status { code: Code::ResourceExhausted, message } if message.contains("space exceeded"))
}

/// Waits a little longer each time.
pub struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Pause(PAUSE_FROM)
    }
}

impl Pause {
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(PAUSE_TO);
    }
}

impl Cluster {
    pub fn new(endpoints: Vec<Endpoint>) -> Self {
        let member = |endpoint| Channel::new(endpoint, ANSWER_BYTES).with_headers(HEADERS);
        // Servers that were told the same list do not all ask its first member.
        let mut random = [0];
        let first = match ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random) {
            Ok(()) => usize::from(random[0]) % endpoints.len().max(1),
            Err(_) => 0,
        };
        Cluster { members: endpoints.into_iter().map(member).collect(), current: AtomicUsize::new(first) }
    }

    pub fn members(&self) -> &[Channel] {
        &self.members
    }

    fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Turns to the next member, if nobody has yet.
    fn leave(&self, index: usize) {
        let next = (index + 1) % self.members.len();
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Asks one member, once. After a failure that is its own, the next call asks another one.
    pub async fn once(&self, method: &'static str, message: &[u8]) -> Result<Bytes, CallError> {
        let index = self.current();
        let answer = self.members[index].call(method, message, ATTEMPT).await;
        if let Err(error) = &answer
            && failure(error) != Failure::Refused
        {
            self.leave(index);
        }
        answer
    }

    /// Begins a call that goes on both ways.
    pub async fn open(
        &self,
        method: &'static str,
        first: &[u8],
    ) -> Result<(usize, Sender, Receiver), CallError> {
        let index = self.current();
        match self.members[index].open(method, first, ATTEMPT).await {
            Ok((sender, receiver)) => Ok((index, sender, receiver)),
            Err(error) => {
                self.leave(index);
                Err(error)
            }
        }
    }

    /// Says that a call which was opened with this member broke off.
    pub fn broke_off(&self, index: usize) {
        self.leave(index);
    }

    /// Asks until somebody answers or the time is over: for what may happen more than once.
    pub async fn ask(&self, method: &'static str, message: &[u8]) -> Result<Bytes, CallError> {
        let until = Instant::now() + WITHIN;
        let mut pause = Pause::default();
        for tried in 1.. {
            match self.once(method, message).await {
                Ok(answer) => return Ok(answer),
                Err(error @ CallError::TooLarge { .. }) => return Err(error),
                Err(error) if failure(&error) == Failure::Refused || Instant::now() >= until => {
                    return Err(error);
                }
                Err(error) => tracing::debug!(%error, method, "etcd did not answer"),
            }
            if tried % self.members.len() == 0 {
                pause.wait().await;
            }
        }
        unreachable!("the numbers do not end before the time does")
    }
}

/// The error of something that was not done.
pub fn unavailable(action: &'static str) -> impl Fn(CallError) -> StoreError {
    move |error| {
        if is_full(&error) {
            return StoreError::Full { reason: error.to_string() };
        }
        StoreError::Unavailable { action, reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_surely_did_not_happen_is_called_so() {
        let status = |code, message: &str| CallError::Status { code, message: message.to_owned() };
        let check = |error: CallError, expected| assert_eq!(failure(&error), expected, "{error}");
        check(CallError::Timeout(ATTEMPT), Failure::Unclear);
        check(status(Code::Unavailable, "etcdserver: leader changed"), Failure::Unclear);
        check(status(Code::Unknown, "etcdserver: request timed out"), Failure::Unclear);
        check(status(Code::InvalidArgument, "etcdserver: request is too large"), Failure::Refused);
        check(status(Code::ResourceExhausted, "etcdserver: too many requests"), Failure::NotDone);
        let full = status(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
        assert!(is_full(&full));
        check(full, Failure::Refused);
    }
}
