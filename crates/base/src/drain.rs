//! Shutdown: one signal for everyone, and tasks that somebody waits for.
//!
//! Drain, then deadline, then force: [`Tasks::stop`] signals, waits until the deadline, and aborts
//! what is left.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

/// Told to every task; resolves when the process is to end.
#[derive(Clone)]
pub struct Shutdown {
    receiver: watch::Receiver<bool>,
}

impl Shutdown {
    /// Waits for the signal. A process whose owner is gone is shutting down, too.
    pub async fn requested(&self) {
        let mut receiver = self.receiver.clone();
        let _ = receiver.wait_for(|requested| *requested).await;
    }

    pub fn is_requested(&self) -> bool {
        *self.receiver.borrow()
    }
}

/// The tasks of a process, by name, with their owner.
pub struct Tasks {
    sender: watch::Sender<bool>,
    tasks: JoinSet<&'static str>,
}

impl Default for Tasks {
    fn default() -> Self {
        Tasks { sender: watch::Sender::new(false), tasks: JoinSet::new() }
    }
}

impl Tasks {
    pub fn shutdown(&self) -> Shutdown {
        Shutdown { receiver: self.sender.subscribe() }
    }

    /// Starts a task that ends by itself soon after the signal.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            name
        });
    }

    /// Starts a task that is cut off at the signal, wherever it is.
    pub fn spawn_until_shutdown(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let shutdown = self.shutdown();
        self.spawn(name, async move {
            tokio::select! {
                () = task => {}
                () = shutdown.requested() => {}
            }
        });
    }

    /// Waits for the first task that ends; before the signal that is a fault of the task.
    pub async fn first_end(&mut self) -> Option<&'static str> {
        match self.tasks.join_next().await? {
            Ok(name) => Some(name),
            Err(error) => {
                tracing::error!(%error, "a task failed");
                Some("a task that panicked")
            }
        }
    }

    /// Signals, waits until the deadline, then aborts. Answers how many had to be aborted.
    pub async fn stop(mut self, deadline: Duration) -> usize {
        self.sender.send_replace(true);
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(deadline, drained).await;
        let left = self.tasks.len();
        self.tasks.shutdown().await;
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_aborted_after_the_deadline() {
        let mut tasks = Tasks::default();
        let shutdown = tasks.shutdown();
        tasks.spawn("polite", async move { shutdown.requested().await });
        tasks.spawn("stubborn", std::future::pending());
        tasks.spawn_until_shutdown("cut off", std::future::pending());
        assert_eq!(tasks.stop(Duration::from_secs(5)).await, 1);
    }
}
