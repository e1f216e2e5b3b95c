//! `persistentVolumeClaim`: claims bound to volumes that are directories of this node.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use sampan_api::Status;
use sampan_client::Client;

use super::host_path::{self, HostPathError};

/// Why a claim cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("{0}")]
    Api(Box<Status>),
    #[error("persistentvolumeclaim \"{0}\" is not bound")]
    Unbound(String),
    #[error("persistentvolume \"{0}\" is of no kind that this node can mount")]
    Kind(String),
    #[error(transparent)]
    Path(#[from] HostPathError),
}

/// The directory of the volume that a claim is bound to.
pub async fn resolve(client: &Client, namespace: &str, claim: &str) -> Result<PathBuf, ClaimError> {
    let claims = client.namespaced::<PersistentVolumeClaim>(namespace);
    let found = claims.get(claim).await.map_err(|status| ClaimError::Api(Box::new(status)))?;
    let bound = found.status.and_then(|status| status.phase).is_some_and(|phase| phase == "Bound");
    let volume = found.spec.and_then(|spec| spec.volume_name).filter(|name| bound && !name.is_empty());
    let name = volume.ok_or_else(|| ClaimError::Unbound(claim.to_owned()))?;
    let volume = client
        .all::<PersistentVolume>()
        .get(&name)
        .await
        .map_err(|status| ClaimError::Api(Box::new(status)))?;
    let spec = volume.spec.unwrap_or_default();
    match (spec.host_path, spec.local) {
        (Some(source), _) => {
            let path = PathBuf::from(&source.path);
            host_path::check(&path, source.type_.as_deref().unwrap_or_default())?;
            Ok(path)
        }
        (None, Some(source)) => {
            let path = PathBuf::from(&source.path);
            host_path::check(&path, "Directory")?;
            Ok(path)
        }
        (None, None) => Err(ClaimError::Kind(name)),
    }
}
