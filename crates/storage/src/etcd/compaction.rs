//! Keeping etcd's history bounded, as kube-apiserver does it: of all servers, one compacts at a time.

use std::sync::Arc;
use std::time::Duration;

use super::cluster::{Cluster, unavailable};
use super::messages::{self, ALARM, COMPACT, Condition, DEFRAGMENT, TXN, Txn, TxnAnswer};
use super::{COMPACTION_KEY, Shared, read};
use crate::grpc::{CallError, Code};
use crate::{Revision, StoreError};

/// How long a member may take to defragment itself.
const DEFRAGMENT_WITHIN: Duration = Duration::from_secs(300);

/// Forgets history up to a revision; what was forgotten already is.
pub async fn compact(cluster: &Cluster, revision: Revision) -> Result<(), StoreError> {
    match cluster.ask(COMPACT, &messages::compaction(revision)).await {
        Ok(_) | Err(CallError::Status { code: Code::OutOfRange, .. }) => Ok(()),
        Err(error) => Err(unavailable("be compacted")(error)),
    }
}

pub async fn defragment(cluster: &Cluster) -> Result<(), StoreError> {
    for member in cluster.members() {
        let done = member.call(DEFRAGMENT, &[], DEFRAGMENT_WITHIN).await;
        done.map_err(unavailable("be defragmented"))?;
    }
    // A request without anything asks which alarms there are.
    let alarms = cluster.ask(ALARM, &[]).await.map_err(unavailable("say its alarms"))?;
    for member in messages::without_space(&alarms).map_err(|error| read::unreadable(&error))? {
        let request = messages::disarm_no_space(member);
        cluster.ask(ALARM, &request).await.map_err(unavailable("end its alarm"))?;
    }
    Ok(())
}

/// Compacts what was current one interval ago, unless another server did.
pub async fn keep_compacting(shared: Arc<Shared>, every: Duration) {
    let mut seen = Turn::default();
    loop {
        tokio::time::sleep(every).await;
        match take_turn(&shared, seen).await {
            Ok((turn, due)) => {
                seen = turn;
                if due > 0
                    && let Err(error) = compact(&shared.cluster, due).await
                {
                    tracing::warn!(%error, "history was not compacted");
                }
            }
            Err(error) => tracing::warn!(%error, "history was not compacted"),
        }
    }
}

/// Whose turn it was when this server last looked, and the revision of that time.
#[derive(Clone, Copy, Default)]
struct Turn {
    version: u64,
    revision: Revision,
}

/// Says that this server compacts now, if nobody did since it last looked. Answers up to where.
async fn take_turn(shared: &Shared, seen: Turn) -> Result<(Turn, Revision), StoreError> {
    let mut txn = Txn::default();
    let key = COMPACTION_KEY.as_bytes();
    txn.compare(key, Condition::Version(seen.version));
    txn.put(key, seen.revision.to_string().as_bytes(), 0);
    txn.otherwise_get(key);
    let answer = shared.cluster.once(TXN, &txn.encode()).await.map_err(unavailable("be written"))?;
    let answer = TxnAnswer::decode(&answer).map_err(|error| read::unreadable(&error))?;
    if answer.succeeded {
        let turn = Turn { version: seen.version + 1, revision: answer.revision };
        return Ok((turn, seen.revision));
    }
    let version = answer.read.into_iter().next().flatten().map_or(0, |found| found.version);
    Ok((Turn { version, revision: answer.revision }, 0))
}
