//! Clients of a cluster that go on at once, each in a thread of its own inside, until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::cluster::Cluster;

/// Clients that run.
#[derive(Debug, Default)]
pub struct Workers {
    stop: Arc<AtomicBool>,
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    name: &'static str,
    thread: JoinHandle<Result<(), String>>,
    done: Arc<AtomicUsize>,
}

/// What a client is given: whether it goes on, and the count of what it did.
#[derive(Clone, Debug)]
pub struct Control {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

impl Control {
    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    pub fn count(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts one more.
    pub fn start<W>(&mut self, cluster: &Cluster, name: &'static str, work: W)
    where
        W: AsyncFnOnce(Control) -> Result<(), String> + Send + 'static,
    {
        let done = Arc::new(AtomicUsize::new(0));
        let control = Control { stop: self.stop.clone(), done: done.clone() };
        let thread = cluster.sandbox().in_network(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(work(control))
        });
        self.workers.push(Worker { name, thread, done });
    }

    /// Whether one ended by itself; [`Workers::finish`] tells why.
    pub fn any_ended(&self) -> bool {
        self.workers.iter().any(|worker| worker.thread.is_finished())
    }

    /// Tells all to stop, and waits for none.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops all. None may have failed, and each must have done something; answers how much.
    #[track_caller]
    pub fn finish(self) -> Vec<String> {
        self.stop();
        let finish = |worker: Worker| {
            let ended = worker.thread.join().expect("no panic");
            let done = worker.done.load(Ordering::Relaxed);
            assert_eq!(ended, Ok(()), "{} after {done}", worker.name);
            assert!(done > 0, "{} did something", worker.name);
            format!("{}: {done}", worker.name)
        };
        self.workers.into_iter().map(finish).collect()
    }
}
