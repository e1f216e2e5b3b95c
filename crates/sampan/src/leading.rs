//! Work that one of several servers does at a time: the controllers, the scheduler.

use std::future::Future;
use std::time::Duration;

use sampan_apiserver::leadership::{Elector, Fence, Term};
use sampan_base::drain::{Shutdown, Tasks};
use sampan_base::readiness::Gate;

/// How long work may take to end before the lease is given up. What it still writes after that is refused.
const DRAIN: Duration = Duration::from_millis(500);
/// How long giving up the lease may take; after that it runs out.
const RELEASE: Duration = Duration::from_secs(3);

/// Does `work` whenever this server leads, until shutdown. The gate opens when somebody is known to lead.
pub async fn lead<W>(
    name: &'static str,
    elector: Elector,
    gate: Gate,
    shutdown: Shutdown,
    work: impl Fn(Fence, Option<Gate>, Shutdown) -> W,
) where
    W: Future<Output = ()> + Send + 'static,
{
    let mut gate = Some(gate);
    loop {
        let acquired = tokio::select! {
            acquired = elector.acquire(|| gate.take().map(Gate::open).unwrap_or_default()) => acquired,
            () = shutdown.requested() => return,
        };
        let mut term = match acquired {
            Ok(term) => term,
            Err(status) => {
                tracing::error!(%status, name, "cannot stand for election");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        if serve(name, &mut term, gate.take(), &shutdown, &work).await {
            // Ends by itself where etcd does not answer.
            let _ = tokio::time::timeout(RELEASE, term.release()).await;
            return;
        }
    }
}

const RETRY: Duration = Duration::from_secs(2);

/// Does the work of one term; answers whether it ended since the process does.
async fn serve<W>(
    name: &'static str,
    term: &mut Term,
    gate: Option<Gate>,
    shutdown: &Shutdown,
    work: &impl Fn(Fence, Option<Gate>, Shutdown) -> W,
) -> bool
where
    W: Future<Output = ()> + Send + 'static,
{
    let mut tasks = Tasks::default();
    tasks.spawn(name, work(term.fence(), gate, tasks.shutdown()));
    let ended = tokio::select! {
        () = shutdown.requested() => true,
        () = term.hold() => false,
        _ = tasks.first_end() => {
            tracing::error!(name, "ended by itself; beginning anew");
            false
        }
    };
    let deadline = if ended { DRAIN } else { Duration::ZERO };
    tasks.stop(deadline).await;
    ended
}
