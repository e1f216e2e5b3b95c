//! Clients that do everything to a few keys at once, and what they, and watches meanwhile, were told.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;

use super::history::{History, Outcome, Recorder};
use super::linearizability::{Told, Violation, check};
use crate::{Event, Expect, Revision, Store, Watch, Write};

const KEYS: u32 = 5;
const PREFIX: &str = "/registry/things/";
/// The pause after a failure, so that a store that is away is not only asked.
const PAUSE: Duration = Duration::from_millis(5);

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub seed: u64,
    /// Of each store.
    pub clients: u32,
    /// Of each client.
    pub operations: u32,
}

/// Works on an empty store through several doors, then holds what everybody was told against each other.
/// Answers how many operations were checked.
pub async fn work(doors: &[Arc<dyn Store>], load: Load) -> Result<usize, Violation> {
    let start = doors[0].revision().await.expect("the store works before the load begins");
    let history = Arc::new(History::default());
    let mut watches = JoinSet::new();
    let (over, ended) = tokio::sync::watch::channel(None);
    for (at, door) in doors.iter().enumerate() {
        watches.spawn(follow(door.clone(), PREFIX.to_owned(), start, ended.clone()));
        watches.spawn(follow(door.clone(), key(at as u32 % KEYS), start, ended.clone()));
    }
    let log = tokio::spawn(follow(doors[0].clone(), PREFIX.to_owned(), start, ended));
    let mut clients = JoinSet::new();
    for (at, door) in doors.iter().enumerate() {
        for client in 0..load.clients {
            let recorder = Recorder::new(door.clone(), history.clone());
            let name = format!("{at}-{client}");
            let seed = load.seed.wrapping_mul(1000) + u64::from(client) * 10 + at as u64;
            clients.spawn(client_of(recorder, name, StdRng::seed_from_u64(seed), load.operations));
        }
    }
    while let Some(client) = clients.join_next().await {
        client.expect("a client does not panic");
    }
    // An event that everybody is told, and that comes last.
    let last = loop {
        match doors[0].commit(Write::put(format!("{PREFIX}{END}"), "")).await {
            Ok(revision) => break revision,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    };
    over.send_replace(Some(last));
    let told = log.await.expect("the watch does not panic");
    let watches = watches.join_all().await;
    let ours = |event: &&Arc<Event>| !event.key.ends_with(END);
    let log: Vec<_> = told.events.iter().filter(ours).cloned().collect();
    let operations = history.operations();
    let watches: Vec<_> = watches
        .into_iter()
        .map(|told| Told { events: told.events.iter().filter(ours).cloned().collect(), ..told })
        .collect();
    check(&log, &operations, &watches)?;
    Ok(operations.len())
}

const END: &str = "end";

fn key(number: u32) -> String {
    format!("{PREFIX}{number}")
}

async fn client_of(recorder: Recorder, name: String, mut random: StdRng, operations: u32) {
    let mut seen: Vec<Revision> = vec![0; KEYS as usize];
    for number in 0..operations {
        let at = random.random_range(0..KEYS);
        let (key, known) = (key(at), &mut seen[at as usize]);
        // No value is written twice, so that each tells who wrote it.
        let value = format!("{name}-{number}");
        let outcome = match random.random_range(0..10) {
            0..=2 => {
                *known = recorder.get(&key).await.map_or(*known, |entry| entry.revision);
                continue;
            }
            3 => {
                recorder.list(PREFIX).await;
                continue;
            }
            4 => recorder.write(Write::create(key, value)).await,
            5 => recorder.write(Write::put(key, value)).await,
            6 => recorder.write(Write::delete(key, Expect::Revision(*known))).await,
            7 => recorder.write(Write::delete(key, Expect::Any)).await,
            _ => recorder.write(Write::update(key, *known, value)).await,
        };
        match outcome {
            Outcome::Done(revision) => *known = revision,
            Outcome::Refused(current) => *known = current.map_or(0, |entry| entry.revision),
            Outcome::Unknown => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Watches until the revision that ends the load, over again from where a watch broke.
async fn follow(
    store: Arc<dyn Store>,
    prefix: String,
    after: Revision,
    mut ended: tokio::sync::watch::Receiver<Option<Revision>>,
) -> Told {
    let mut told = Told { prefix: prefix.clone(), after, events: Vec::new() };
    let mut from = after;
    loop {
        let Ok(mut watch) = store.watch(&prefix, from).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        tokio::select! {
            () = take_all(&mut watch, &mut told.events, &mut from) => {}
            // Everything up to it is in the watch once the store says that it is there.
            last = end_of(&mut ended) => {
                if store.revision().await.is_ok_and(|revision| revision >= last) && drain(&mut watch, &mut told.events) {
                    return told;
                }
                from = told.events.last().map_or(after, |event| event.revision);
            }
        }
    }
}

/// The revision that ends the load, once it is over.
async fn end_of(ended: &mut tokio::sync::watch::Receiver<Option<Revision>>) -> Revision {
    let ended = ended.wait_for(Option::is_some).await.expect("the load outlives its watches");
    ended.expect("was waited for")
}

async fn take_all(watch: &mut Watch, events: &mut Vec<Arc<Event>>, from: &mut Revision) {
    while let Some(Ok(batch)) = watch.next().await {
        *from = batch.last().map_or(*from, |event| event.revision);
        events.extend(batch);
    }
}

/// Takes what is there; false where the watch broke.
fn drain(watch: &mut Watch, events: &mut Vec<Arc<Event>>) -> bool {
    loop {
        match watch.try_next() {
            Some(Ok(batch)) => events.extend(batch),
            Some(Err(_)) => return false,
            None => return true,
        }
    }
}
