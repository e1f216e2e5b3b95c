//! One socket to a supervisor: calls that wait for their answers, and a stream of events.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::RequestError;
use crate::protocol::frame::{self, FrameDecoder};
use crate::protocol::{Call, Event, ExitStatus, Failure, Reply, Request, Response};
use crate::socket;

/// Events that may wait for the reader before the connection is given up.
const EVENTS: usize = 1024;
/// Requests that may wait for the socket.
const OUTGOING: usize = 16;
const READ_BUFFER: usize = 16 << 10;

/// An answer with what belongs to it.
pub struct Answer {
    pub response: Response,
    pub fds: Vec<OwnedFd>,
    /// Gets the exit of the exec that the answer is about.
    pub exit: Option<oneshot::Receiver<ExitStatus>>,
}

type Waiting = oneshot::Sender<Result<Answer, Failure>>;
type Pending = Arc<Mutex<Option<HashMap<u64, Waiting>>>>;

struct Outgoing {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// Two tasks own the socket: one writes requests, one reads replies. Both end when it is dropped.
pub struct Connection {
    outgoing: mpsc::Sender<Outgoing>,
    /// `None` once the connection is gone: nothing may wait any more.
    pending: Pending,
    next_id: AtomicU64,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Connection {
    pub fn open(stream: UnixStream) -> (Connection, mpsc::Receiver<Event>) {
        let stream = Arc::new(stream);
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let (outgoing, requests) = mpsc::channel(OUTGOING);
        let (event_sender, events) = mpsc::channel(EVENTS);
        let writer = tokio::spawn(write(Arc::clone(&stream), requests));
        let reader_pending = Arc::clone(&pending);
        let reader = tokio::spawn(async move {
            let mut reader = Reader { pending: reader_pending, execs: HashMap::new(), events: event_sender };
            if let Err(error) = reader.run(&stream).await {
                tracing::warn!(%error, "connection to a supervisor ends");
            }
            lock(&reader.pending).take();
        });
        let tasks = [writer, reader];
        (Connection { outgoing, pending, next_id: AtomicU64::new(1), tasks }, events)
    }

    /// Sends a request and waits for its answer. Cancelled, the request may still be done.
    pub async fn call(&self, request: Request, fds: Vec<OwnedFd>) -> Result<Answer, RequestError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let bytes = frame::encode(&Call { id, request }, fds.len())?;
        let (sender, answer) = oneshot::channel();
        lock(&self.pending).as_mut().ok_or(RequestError::Disconnected)?.insert(id, sender);
        self.outgoing.send(Outgoing { bytes, fds }).await.map_err(|_| RequestError::Disconnected)?;
        Ok(answer.await.map_err(|_| RequestError::Disconnected)??)
    }
}

fn lock(pending: &Pending) -> std::sync::MutexGuard<'_, Option<HashMap<u64, Waiting>>> {
    // A panic while holding the lock cannot leave the map half changed.
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn write(stream: Arc<UnixStream>, mut requests: mpsc::Receiver<Outgoing>) {
    while let Some(Outgoing { bytes, mut fds }) = requests.recv().await {
        let mut sent = 0;
        while sent < bytes.len() {
            let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            let attempt = || socket::send(stream.as_fd(), &bytes[sent..], &raw);
            match stream.async_io(Interest::WRITABLE, attempt).await {
                Ok(count) => sent += count,
                // The reader sees the end of the connection too, and tells everybody.
                Err(_) => return,
            }
            // They went with the first byte.
            fds.clear();
        }
    }
}

/// Why reading stops.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("reading from the supervisor")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] frame::FrameError),
    #[error("{EVENTS} events wait for their reader")]
    Lagging,
}

struct Reader {
    pending: Pending,
    execs: HashMap<u64, oneshot::Sender<ExitStatus>>,
    events: mpsc::Sender<Event>,
}

impl Reader {
    async fn run(&mut self, stream: &UnixStream) -> Result<(), ReadError> {
        let mut decoder = FrameDecoder::default();
        let mut buffer = vec![0; READ_BUFFER];
        loop {
            let attempt = || socket::receive(stream.as_fd(), &mut buffer);
            let (count, fds) = stream.async_io(Interest::READABLE, attempt).await?;
            if count == 0 {
                return Ok(());
            }
            decoder.push(&buffer[..count], fds)?;
            while let Some(frame) = decoder.next_frame()? {
                let reply = frame.decode()?;
                self.handle(reply, frame.fds)?;
            }
        }
    }

    fn handle(&mut self, reply: Reply, fds: Vec<OwnedFd>) -> Result<(), ReadError> {
        match reply {
            Reply::Answer { id, result } => {
                let waiting = lock(&self.pending).as_mut().and_then(|pending| pending.remove(&id));
                // Registered before the next frame is read, which may bring the exit already.
                let exit = match &result {
                    Ok(Response::Exec { exec, .. }) => {
                        let (sender, exit) = oneshot::channel();
                        self.execs.insert(*exec, sender);
                        Some(exit)
                    }
                    Ok(_) | Err(_) => None,
                };
                let answer = result.map(|response| Answer { response, fds, exit });
                // Nobody waits when the call was cancelled.
                if let Some(waiting) = waiting {
                    let _cancelled = waiting.send(answer);
                }
                Ok(())
            }
            Reply::Event(Event::ExecExited { exec, status }) => {
                if let Some(sender) = self.execs.remove(&exec) {
                    let _dropped = sender.send(status);
                }
                Ok(())
            }
            Reply::Event(event) => match self.events.try_send(event) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
                Err(mpsc::error::TrySendError::Full(_)) => Err(ReadError::Lagging),
            },
        }
    }
}
