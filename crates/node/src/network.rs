//! The network of this node's pods: a namespace, a link and an address each.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use sampan_net::namespace::NamespaceError;
use sampan_net::{Ipam, IpamError, LinkError, NodeNetwork, link, namespace};

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub enum PodNetworkError {
    #[error(transparent)]
    Address(#[from] IpamError),
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the task that sets up the network did not end: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Hands out addresses and attaches pods.
pub struct PodNetwork {
    node: NodeNetwork,
    ipam: Mutex<Ipam>,
}

impl PodNetwork {
    pub fn new(node: NodeNetwork) -> Result<Self, PodNetworkError> {
        let ipam = Mutex::new(Ipam::new(node.pod_cidr)?);
        Ok(PodNetwork { node, ipam })
    }

    /// Where a pod's namespace is kept.
    pub fn namespace_path(pod_dir: &Path) -> PathBuf {
        pod_dir.join("netns")
    }

    /// Marks an adopted pod's address as taken.
    pub fn reserve(&self, address: IpAddr) -> Result<(), IpamError> {
        self.ipam.lock().reserve(address)
    }

    /// Makes the namespace and attaches it, with `known` addresses or a new one.
    pub async fn attach(
        self: &std::sync::Arc<Self>,
        uid: &str,
        pod_dir: &Path,
        known: Vec<IpAddr>,
    ) -> Result<Vec<IpAddr>, PodNetworkError> {
        let path = Self::namespace_path(pod_dir);
        let (this, uid) = (self.clone(), uid.to_owned());
        tokio::task::spawn_blocking(move || {
            let fresh = known.is_empty();
            let addresses = if fresh { vec![this.ipam.lock().allocate()?] } else { known };
            let attached = namespace::create(&path).map_err(PodNetworkError::from).and_then(|()| {
                link::attach(&this.node, &uid, &path, &addresses).map_err(PodNetworkError::from)
            });
            match attached {
                Ok(attachment) => Ok(attachment.addresses),
                Err(error) => {
                    if fresh {
                        addresses.iter().for_each(|address| {
                            this.ipam.lock().release(*address);
                        });
                    }
                    Err(error)
                }
            }
        })
        .await?
    }

    /// Undoes `attach`. Repeatable.
    pub async fn detach(
        self: &std::sync::Arc<Self>,
        uid: &str,
        pod_dir: &Path,
        addresses: Vec<IpAddr>,
    ) -> Result<(), PodNetworkError> {
        let path = Self::namespace_path(pod_dir);
        let (this, uid) = (self.clone(), uid.to_owned());
        tokio::task::spawn_blocking(move || {
            link::detach(&uid)?;
            namespace::delete(&path)?;
            for address in addresses {
                this.ipam.lock().release(address);
            }
            Ok(())
        })
        .await?
    }
}
