//! Images: a content-addressed store of unpacked layers, archives in and out of it, and the client
//! that pulls from registries.
//!
//! Invariants: an image that the store shows is complete and verified, also after a crash; no
//! archive can write outside the directory it is unpacked into, nor exceed its [`Limits`].
//! This crate starts no processes and knows neither pods nor containers.
//!
//! ```text
//! ImageStore::open(dir) -> Result<ImageStore, StoreError>                  Clone + Send + Sync
//!   .find(text) -> Result<Option<Image>, ReferenceError>                   name, digest or id
//!   .resolve(&Reference) -> Option<Image>      .list() -> Vec<Image>
//!   .lease(&image.id) -> Result<Lease, StoreError>                         while held: in use
//!   .remove(text).await -> Result<Removed, StoreError>   .prune(PruneScope).await -> Result<Removed, StoreError>
//!   .import(reader, ImportOptions).await / .import_path(path, …).await -> Result<Vec<String>, ImportError>
//!   .save(&names, writer).await -> Result<W, SaveError>                     gives the writer back
//!   .pack(PackSource, &Reference, ImageConfig).await -> Result<Image, PackError>
//!   .prepare_rootfs(&Image, dir, read_only).await -> Result<PathBuf, RootfsError>
//! unmount_rootfs(dir).await, remove_rootfs(dir).await -> Result<(), RootfsError>
//! resolve_user(rootfs, "user[:group]") -> Result<ResolvedUser, UserError>  blocking, short
//! RegistryClient::new(RegistryOptions)         Clone + Send + Sync
//!   .pull(&store, &Reference, &Auth, Option<ProgressSink>).await -> Result<Image, Arc<PullError>>
//! Auth::from_docker_config(&[u8]) -> Result<Auth, AuthError>; Auth::merge; PullError::kind()
//! ```

pub mod archive;
pub mod digest;
pub mod fuzzing;
pub mod image;
pub mod limits;
mod manifest;
pub mod pack;
pub mod reference;
pub mod registry;
pub mod rootfs;
pub mod store;
pub mod unpack;
pub mod user;

pub use archive::{ImportError, ImportOptions, ImportProgress, SaveError};
pub use digest::Digest;
pub use image::{Image, ImageConfig, Layer, host_architecture};
pub use limits::{LimitExceeded, Limits};
pub use manifest::ManifestError;
pub use pack::{PackError, PackSource};
pub use reference::{Reference, ReferenceError};
pub use registry::{
    Auth, AuthError, Credentials, Progress, ProgressSink, PullError, PullErrorKind, RegistryClient,
    RegistryOptions,
};
pub use rootfs::{RootfsError, remove_rootfs, unmount_rootfs};
pub use store::{ImageStore, InstallError, Lease, PruneScope, Removed, StoreError};
pub use unpack::UnpackError;
pub use user::{ResolvedUser, UserError, resolve_user};
