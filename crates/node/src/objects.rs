//! Single objects that the node's pods refer to (config maps, secrets), each followed by one watch
//! for as long as somebody here needs it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use sampan_api::Gvr;
use sampan_api::object::ObjectRef;
use sampan_client::{Client, Informer, InformerEvent, ListOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What is known of an object.
#[derive(Clone, Debug)]
pub enum Known {
    Absent,
    Present(ObjectRef),
}

impl Known {
    pub fn present(&self) -> Option<&ObjectRef> {
        match self {
            Known::Absent => None,
            Known::Present(object) => Some(object),
        }
    }
}

type Key = (Gvr, String, String);

/// Shares the watches.
pub struct ObjectTracker {
    client: Client,
    tracked: Mutex<HashMap<Key, Weak<Tracked>>>,
}

/// One object that is followed until the last holder lets go.
pub struct Tracked {
    known: watch::Receiver<Option<Known>>,
    task: JoinHandle<()>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Tracked {
    /// The object as it is now; waits for the first answer of the API server.
    pub async fn current(&self) -> Known {
        let mut known = self.known.clone();
        match known.wait_for(Option::is_some).await {
            Ok(found) => found.clone().unwrap_or(Known::Absent),
            // The task lives as long as this handle.
            Err(_) => Known::Absent,
        }
    }

    /// Becomes changed with every change of the object.
    pub fn subscribe(&self) -> watch::Receiver<Option<Known>> {
        self.known.clone()
    }
}

impl ObjectTracker {
    pub fn new(client: Client) -> Self {
        ObjectTracker { client, tracked: Mutex::new(HashMap::new()) }
    }

    /// Starts to follow an object, or joins those who do.
    pub fn track(&self, gvr: Gvr, namespace: &str, name: &str) -> Arc<Tracked> {
        let key = (gvr, namespace.to_owned(), name.to_owned());
        let mut all = self.tracked.lock();
        if let Some(tracked) = all.get(&key).and_then(Weak::upgrade) {
            return tracked;
        }
        all.retain(|_, tracked| tracked.strong_count() > 0);
        let (sender, known) = watch::channel(None);
        let task = tokio::spawn(follow(self.client.clone(), key.clone(), sender));
        let tracked = Arc::new(Tracked { known, task });
        all.insert(key, Arc::downgrade(&tracked));
        tracked
    }
}

async fn follow(client: Client, (gvr, namespace, name): Key, known: watch::Sender<Option<Known>>) {
    let (sender, mut events) = mpsc::unbounded_channel();
    let selection =
        ListOptions { field_selector: Some(format!("metadata.name={name}")), ..ListOptions::default() };
    let _informer = Informer::start(client, gvr, Some(namespace), selection, sender);
    while let Some(event) = events.recv().await {
        match event {
            InformerEvent::Applied { new, .. } => {
                known.send_replace(Some(Known::Present(new)));
            }
            InformerEvent::Deleted(_) => {
                known.send_replace(Some(Known::Absent));
            }
            InformerEvent::Synced => {
                known.send_if_modified(|known| {
                    let first = known.is_none();
                    known.get_or_insert(Known::Absent);
                    first
                });
            }
        }
    }
}
