//! HTTP requests at a steady rate, each on a connection of its own, and what became of each.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::command::DEADLINE;
use crate::sandbox::Sandbox;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests that go on until they are stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    incoming: Receiver<Answer>,
    answers: Vec<Answer>,
}

/// What became of one request: when it began, and the body or what went wrong.
#[derive(Clone, Debug)]
pub struct Answer {
    pub began: Instant,
    pub result: Result<String, String>,
}

impl Load {
    /// Sends about `rate` requests per second for `/` to `address` from inside of the sandbox.
    pub fn start(sandbox: &Sandbox, address: SocketAddr, rate: u32) -> Load {
        const WORKERS: u32 = 8;
        let stop = Arc::new(AtomicBool::new(false));
        let interval = Duration::from_secs(1) * WORKERS / rate;
        let (sender, incoming) = channel();
        let workers = (0..WORKERS)
            .map(|worker| {
                let (stop, sender) = (stop.clone(), sender.clone());
                sandbox.in_network(move || {
                    let mut next = Instant::now() + interval * worker / WORKERS;
                    while !stop.load(Ordering::Relaxed) {
                        // The rate is what is wanted here, not something to wait for.
                        std::thread::sleep(next.saturating_duration_since(Instant::now()));
                        next += interval;
                        let began = Instant::now();
                        let result = get(address, "/").map_err(|error| error.to_string());
                        let _ = sender.send(Answer { began, result });
                    }
                })
            })
            .collect();
        Load { stop, workers, incoming, answers: Vec::new() }
    }

    /// Returns when `more` further requests ended, well or not.
    #[track_caller]
    pub fn run_for(&mut self, more: usize) {
        self.answers.extend(self.incoming.try_iter());
        for _ in 0..more {
            let answer = self.incoming.recv_timeout(DEADLINE).expect("requests go on");
            self.answers.push(answer);
        }
    }

    /// Ends it; returns every answer in the order of their beginning.
    pub fn finish(mut self) -> Vec<Answer> {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.join().expect("a worker does not panic");
        }
        self.answers.extend(self.incoming.try_iter());
        self.answers.sort_by_key(|answer| answer.began);
        self.answers
    }
}

/// Fails with the first few requests that failed, if any did.
#[track_caller]
pub fn none_failed(answers: &[Answer]) {
    let start = answers.first().map(|answer| answer.began);
    let failed: Vec<String> = answers
        .iter()
        .filter_map(|answer| {
            let error = answer.result.as_ref().err()?;
            Some(format!("after {:.2?}: {error}", answer.began - start?))
        })
        .collect();
    let shown = &failed[..failed.len().min(20)];
    assert!(failed.is_empty(), "{} of {} requests failed: {shown:#?}", failed.len(), answers.len());
}

/// One GET, on a connection of its own; the body of a 200, an error for anything else.
pub fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, REQUEST_TIMEOUT)?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("a cut answer"))?;
    if !head.starts_with("HTTP/1.1 200 ") && !head.starts_with("HTTP/1.0 200 ") {
        return Err(std::io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
    }
    Ok(body.to_owned())
}
