//! Commands that talk to a running server, or that look at the machine.

use std::future::Future;
use std::process::ExitCode;

use anyhow::Result;
use sampan_api::Status;

mod admin_socket;
pub mod apply;
pub mod certificates;
mod cluster;
pub mod delete;
pub mod doctor;
pub mod exec;
pub mod get;
pub mod image;
pub mod logs;
mod manifest;
pub mod storage;
mod table;
mod terminal;
mod three_way;

/// Runs a command against a cluster. Errors of the server are told as kubectl tells them.
pub fn against_cluster(command: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(command);
    // A read of standard input that waits for a key must not hold the process back.
    runtime.shutdown_background();
    let Err(error) = result else { return result };
    match error.downcast_ref::<Status>() {
        Some(status) if status.code == 503 => eprintln!("error: {status}"),
        Some(status) if status.reason.is_empty() => eprintln!("Error from server: {status}"),
        Some(status) => eprintln!("Error from server ({}): {status}", status.reason),
        None => return Err(error),
    }
    Ok(ExitCode::FAILURE)
}
