//! Why a container or a process in it could not be made.

use std::io;
use std::path::PathBuf;

use super::devices::DeviceError;
use super::masks::MaskError;
use super::mounts::MountError;
use super::namespaces::NamespaceError;
use super::process::ProcessError;
use super::seccomp::SeccompError;
use super::sysctl::SysctlError;

#[derive(Debug, thiserror::Error)]
pub enum NativeError {
    /// Rather than making something else than what was asked for.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    #[error("the spec has no {0}")]
    Missing(&'static str),
    #[error("{what}")]
    Io { what: &'static str, source: io::Error },
    #[error("{what} {path}")]
    Path { what: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Mask(#[from] MaskError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// In its own words.
    #[error("{0}")]
    Said(String),
    #[error("the container's process ended while it was set up")]
    Ended,
    #[error("process {0} is not the container's any more")]
    Gone(i32),
}

/// Names what was being done.
pub fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> NativeError {
    move |source| NativeError::Io { what, source: source.into() }
}
