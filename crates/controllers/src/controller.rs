//! What all controllers have in common: a queue, workers, retries.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::NamespaceResourceScope;
use sampan_api::Status;
use sampan_client::typed::Resource;
use sampan_client::{DeleteOptions, InformerEvent, WorkQueue};
use tokio::task::JoinSet;

use crate::Shared;
use crate::identities::Distributor;
use crate::view::{Feed, Kind};

/// Keys of one controller that are worked on at the same time.
const WORKERS: usize = 8;

/// One controller.
#[async_trait]
pub(crate) trait Controller: Send + Sync + 'static {
    /// For logs.
    fn name(&self) -> &'static str;

    /// The keys that a change concerns. Called in the order of changes, after the view shows them.
    fn affected(&self, shared: &Shared, kind: Kind, event: &InformerEvent, queue: &WorkQueue<String>);

    /// Follows what is no object of the API and brings keys into the queue, until it is dropped.
    async fn follow(&self, _: &Shared, _: &WorkQueue<String>) {
        std::future::pending().await
    }

    /// Makes the world as the object of a key wants it. An answered delay brings the key back then.
    async fn reconcile(&self, shared: &Shared, key: &str) -> Result<Option<Duration>, Status>;
}

/// Every controller.
#[derive(Default)]
pub(crate) struct Fleet {
    members: Vec<Member>,
}

/// A controller with what it works with and its queue.
struct Member {
    controller: Arc<dyn Controller>,
    shared: Arc<Shared>,
    queue: WorkQueue<String>,
}

/// The tasks of a fleet that was started.
pub(crate) struct Running {
    tasks: JoinSet<()>,
    followers: JoinSet<()>,
    queues: Vec<WorkQueue<String>>,
}

impl Fleet {
    /// Adds a controller under its own identity.
    pub fn add(&mut self, distributor: &mut Distributor, controller: impl Controller) {
        let shared = distributor.of(controller.name());
        self.add_with(shared, controller);
    }

    /// Adds a controller with what it is to work with.
    pub fn add_with(&mut self, shared: Arc<Shared>, controller: impl Controller) {
        let queue = WorkQueue::observed(&shared.config.queues, controller.name());
        self.members.push(Member { controller: Arc::new(controller), shared, queue });
    }

    /// Starts the workers, and hands every change to every controller.
    pub fn start(self, mut feed: Feed) -> Running {
        let (mut tasks, mut followers) = (JoinSet::new(), JoinSet::new());
        for Member { controller, shared, queue } in &self.members {
            for _ in 0..WORKERS {
                tasks.spawn(work(shared.clone(), controller.clone(), queue.clone()));
            }
            let (shared, controller, queue) = (shared.clone(), controller.clone(), queue.clone());
            followers.spawn(async move { controller.follow(&shared, &queue).await });
        }
        let queues = self.members.iter().map(|member| member.queue.clone()).collect();
        tasks.spawn(async move {
            while let Some((kind, event)) = feed.recv().await {
                for Member { controller, shared, queue } in &self.members {
                    controller.affected(shared, kind, &event, queue);
                }
            }
        });
        Running { tasks, followers, queues }
    }
}

impl Running {
    /// Lets what is worked on end, for a moment, and takes nothing new.
    pub async fn stop(mut self) {
        self.followers.shutdown().await;
        for queue in &self.queues {
            queue.close();
        }
        let left = async { while self.tasks.len() > 1 && self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(2), left).await;
        self.tasks.shutdown().await;
    }
}

async fn work(shared: Arc<Shared>, controller: Arc<dyn Controller>, queue: WorkQueue<String>) {
    while let Some(key) = queue.next().await {
        match controller.reconcile(&shared, &key).await {
            Ok(again) => {
                queue.forget(&key);
                if let Some(delay) = again {
                    queue.add_after(key.clone(), delay);
                }
            }
            // What changed in the meantime has put the key into the queue already.
            Err(status) if status.is_conflict() || status.is_not_found() => {
                tracing::debug!(controller = controller.name(), key, %status, "to be done again");
                queue.retry(key.clone());
            }
            Err(status) => {
                tracing::warn!(controller = controller.name(), key, %status, "reconciling failed");
                queue.retry(key.clone());
            }
        }
        queue.done(&key);
    }
}

/// Deletes an object if it is still as the view showed it.
pub(crate) async fn delete_seen<T>(shared: &Shared, object: &T) -> Result<(), Status>
where
    T: Resource + k8s_openapi::Resource<Scope = NamespaceResourceScope>,
{
    let metadata = object.metadata();
    let options = DeleteOptions {
        uid: metadata.uid.clone(),
        revision: metadata.resource_version.as_deref().and_then(|text| text.parse().ok()),
        ..DeleteOptions::default()
    };
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    match shared.client.namespaced::<T>(namespace).delete(name, &options).await {
        Err(status) if !status.is_not_found() => Err(status),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The object that an event is about, and what it was before.
pub(crate) fn subjects(event: &InformerEvent) -> impl Iterator<Item = &sampan_api::object::ObjectRef> {
    let (first, second) = match event {
        InformerEvent::Applied { old, new } => (Some(new), old.as_ref()),
        InformerEvent::Deleted(object) => (Some(object), None),
        InformerEvent::Synced => (None, None),
    };
    first.into_iter().chain(second)
}

/// The key of an object's controller, where that is of a kind: `namespace/name`.
pub(crate) fn owner_key(
    object: &sampan_api::object::ObjectRef,
    api_version: &str,
    kind: &str,
) -> Option<String> {
    let owner = object.header.controller()?;
    let right = *owner.kind == *kind && *owner.api_version == *api_version;
    right.then(|| format!("{}/{}", object.header.namespace, owner.name))
}
