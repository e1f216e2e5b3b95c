//! Pulls images from registries (OCI distribution-spec v1.1, Docker registry HTTP API v2).
//!
//! Everything that arrives is bounded and checked against its digest before it is used. Pulls of
//! the same reference with the same credentials share one download; it ends when the last of them
//! is dropped. Proxies of the environment are not used.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;

use crate::digest::Digest;
use crate::image::Image;
use crate::reference::Reference;
use crate::store::ImageStore;

mod auth;
mod error;
pub(crate) mod fuzzing;
mod pull;
mod session;
#[cfg(test)]
mod tests;
mod transport;

pub use auth::{Auth, AuthError, Credentials};
pub use error::{PullError, PullErrorKind, TransportError};
use session::Repository;
use transport::Transport;

/// How to talk to registries.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// `host` or `host:port` of registries that are asked in plain HTTP. Loopback always is.
    pub insecure_hosts: Vec<String>,
    /// Certificate authorities besides the system's.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Blobs of one image that are fetched at once.
    pub parallel: usize,
    /// Tries after the first, without headway.
    pub retries: u32,
    /// The first wait; each next one is twice as long, up to 8 s.
    pub retry_delay: Duration,
    /// The longest wait for a connection, an answer, or the next piece of one.
    pub timeout: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        RegistryOptions {
            insecure_hosts: Vec::new(),
            extra_roots: Vec::new(),
            parallel: 3,
            retries: 5,
            retry_delay: Duration::from_millis(250),
            timeout: Duration::from_secs(60),
        }
    }
}

/// How far one blob of a pull has come, in bytes as transferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub layer: Digest,
    pub done: u64,
    pub total: u64,
}

/// Told of progress; must not block.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// A client of all registries. Clones share connections and downloads.
#[derive(Clone)]
pub struct RegistryClient {
    inner: Arc<ClientInner>,
}

struct ClientInner {
    transport: Transport,
    options: RegistryOptions,
    in_flight: Mutex<HashMap<Key, InFlight>>,
}

/// A pull with other credentials is another pull: it must not see what these may.
type Key = (usize, Reference, Auth);
type Outcome = Result<Image, Arc<PullError>>;
type Sinks = Arc<Mutex<Vec<ProgressSink>>>;

struct InFlight {
    pull: WeakShared<BoxFuture<'static, Outcome>>,
    sinks: Sinks,
}

impl RegistryClient {
    pub fn new(options: RegistryOptions) -> Self {
        let transport = Transport::new(&options);
        let in_flight = Mutex::new(HashMap::new());
        RegistryClient { inner: Arc::new(ClientInner { transport, options, in_flight }) }
    }

    /// Pulls `reference` into `store`, whether or not the store has it: the tag may have moved. Blobs
    /// and layers that the store has are not fetched again.
    ///
    /// The logins in `auth` that match are tried in turn; without any, the pull is anonymous.
    pub async fn pull(
        &self,
        store: &ImageStore,
        reference: &Reference,
        auth: &Auth,
        progress: Option<ProgressSink>,
    ) -> Outcome {
        self.join(store, reference, auth, progress).await
    }

    fn join(
        &self,
        store: &ImageStore,
        reference: &Reference,
        auth: &Auth,
        progress: Option<ProgressSink>,
    ) -> Shared<BoxFuture<'static, Outcome>> {
        let key: Key = (Arc::as_ptr(&store.inner) as usize, reference.clone(), auth.clone());
        let mut in_flight = self.inner.in_flight.lock();
        if let Some(known) = in_flight.get(&key)
            && let Some(pull) = known.pull.upgrade()
        {
            known.sinks.lock().extend(progress);
            return pull;
        }
        let sinks: Sinks = Arc::new(Mutex::new(progress.into_iter().collect()));
        let (client, store, own_key, own_sinks) = (self.clone(), store.clone(), key.clone(), sinks.clone());
        let pull = async move {
            let result = client.pull_alone(&store, &own_key.1, &own_key.2, own_sinks).await;
            client.inner.in_flight.lock().remove(&own_key);
            result.map_err(Arc::new)
        };
        let pull = pull.boxed().shared();
        in_flight.retain(|_, known| known.pull.upgrade().is_some());
        let weak = pull.downgrade().expect("it has not been polled");
        in_flight.insert(key, InFlight { pull: weak, sinks });
        pull
    }

    async fn pull_alone(
        &self,
        store: &ImageStore,
        reference: &Reference,
        auth: &Auth,
        sinks: Sinks,
    ) -> Result<Image, PullError> {
        let progress: ProgressSink = Arc::new(move |progress: Progress| {
            let sinks = sinks.lock().clone();
            sinks.iter().for_each(|sink| sink(progress.clone()));
        });
        let mut logins: Vec<Option<&Credentials>> = auth.for_image(reference).into_iter().map(Some).collect();
        if logins.is_empty() {
            logins.push(None);
        }
        let mut refused = None;
        for credentials in logins {
            let repository = Repository {
                transport: &self.inner.transport,
                reference,
                credentials,
                retries: self.inner.options.retries,
                retry_delay: self.inner.options.retry_delay,
                authorization: Mutex::new(None),
            };
            match pull::pull(store, &repository, self.inner.options.parallel, &progress).await {
                Err(error) if error.kind() == PullErrorKind::Unauthorized => refused = Some(error),
                done => return done,
            }
        }
        Err(refused.expect("at least one login was tried, and each was refused"))
    }
}
