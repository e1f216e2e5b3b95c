//! `sampan delete`: deletes objects by name, selector or manifest, and waits until they are gone.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use futures_util::StreamExt as _;
use sampan_api::{Gvr, Status};
use sampan_client::{Backend as _, DeleteOptions, ListOptions, Target, WatchEvent};

use super::cluster::{ApiResource, Cluster, ClusterArgs, Discovery};
use super::manifest;

#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// Resource, or RESOURCE/NAME
    #[arg(required_unless_present = "filename")]
    resource: Option<String>,
    names: Vec<String>,
    /// Delete what a manifest names; may be repeated
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "resource")]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Label selector
    #[arg(short = 'l', long, conflicts_with = "names")]
    selector: Option<String>,
    /// Every object of the resource in the namespace
    #[arg(long, conflicts_with_all = ["names", "selector"])]
    all: bool,
    /// Seconds that pods have to end
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<i64>,
    /// What becomes of the objects that the deleted one owns
    #[arg(long, value_enum, default_value_t = Cascade::Background)]
    cascade: Cascade,
    /// What does not exist is no error
    #[arg(long)]
    ignore_not_found: bool,
    /// Return without waiting until the objects are gone
    #[arg(long)]
    no_wait: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Cascade {
    Background,
    Foreground,
    Orphan,
}

/// One object to delete.
struct Doomed<'a> {
    resource: &'a ApiResource,
    namespace: Option<String>,
    name: String,
}

impl DeleteArgs {
    pub async fn run(self) -> Result<()> {
        let cluster = self.cluster.open()?;
        let discovery = Discovery::read(&cluster.remote).await?;
        let mut failed = 0;
        let mut going = Vec::new();
        for doomed in self.doomed(&cluster, &discovery).await? {
            match self.delete(&cluster, &doomed).await {
                Ok(uid) => {
                    println!("{}", said(&doomed));
                    going.push((doomed, uid));
                }
                Err(status) if status.is_not_found() && self.ignore_not_found => {}
                Err(status) => {
                    eprintln!("Error from server ({}): {status}", status.reason);
                    failed += 1;
                }
            }
        }
        if !self.no_wait {
            for (doomed, uid) in going {
                let namespace = doomed.namespace.as_deref();
                until_gone(&cluster, &doomed.resource.gvr, namespace, &doomed.name, &uid).await?;
            }
        }
        if failed > 0 {
            bail!("{failed} objects could not be deleted");
        }
        Ok(())
    }

    async fn doomed<'a>(&self, cluster: &Cluster, discovery: &'a Discovery) -> Result<Vec<Doomed<'a>>> {
        let Some(resource) = &self.resource else {
            let manifests = manifest::read(&self.filename, cluster, discovery)?;
            let doomed = manifests.into_iter().map(|manifest| Doomed {
                resource: manifest.resource,
                namespace: manifest.namespace,
                name: manifest.name,
            });
            return Ok(doomed.collect());
        };
        let (resource, first) = match resource.split_once('/') {
            Some((resource, name)) => (resource, Some(name.to_owned())),
            None => (resource.as_str(), None),
        };
        let resource = discovery.resource(resource)?;
        let namespace = resource.namespace(&cluster.namespace).map(str::to_owned);
        let mut names: Vec<String> = first.into_iter().chain(self.names.iter().cloned()).collect();
        if self.selector.is_some() || self.all {
            let options = ListOptions { label_selector: self.selector.clone(), ..ListOptions::default() };
            let list = cluster.remote.list(&resource.gvr, namespace.as_deref(), &options).await?;
            names.extend(list.items.iter().map(|object| object.header.name.to_string()));
        } else if names.is_empty() {
            bail!("resource(s) were provided, but no name was specified");
        }
        Ok(names.into_iter().map(|name| Doomed { resource, namespace: namespace.clone(), name }).collect())
    }

    /// Deletes one object; answers its uid.
    async fn delete(&self, cluster: &Cluster, doomed: &Doomed<'_>) -> Result<String, Status> {
        let target = Target {
            gvr: &doomed.resource.gvr,
            namespace: doomed.namespace.as_deref(),
            name: &doomed.name,
            subresource: None,
        };
        let uid = cluster.remote.get(target).await?.header.uid.to_string();
        let options = DeleteOptions {
            grace_period_seconds: self.grace_period,
            propagation_policy: Some(match self.cascade {
                Cascade::Background => "Background",
                Cascade::Foreground => "Foreground",
                Cascade::Orphan => "Orphan",
            }),
            ..DeleteOptions::default()
        };
        cluster.remote.delete(target, &options).await?;
        Ok(uid)
    }
}

fn said(doomed: &Doomed<'_>) -> String {
    let place = match &doomed.namespace {
        Some(namespace) => format!(" from {namespace} namespace"),
        None => String::new(),
    };
    format!("{} {:?} deleted{place}", doomed.resource.label(), doomed.name)
}

/// Waits until the object with this uid is gone.
async fn until_gone(
    cluster: &Cluster,
    gvr: &Gvr,
    namespace: Option<&str>,
    name: &str,
    uid: &str,
) -> Result<()> {
    let selection =
        ListOptions { field_selector: Some(format!("metadata.name={name}")), ..ListOptions::default() };
    loop {
        let list = cluster.remote.list(gvr, namespace, &selection).await?;
        if !list.items.iter().any(|object| *object.header.uid == *uid) {
            return Ok(());
        }
        let options = ListOptions { revision: Some(list.revision), ..selection.clone() };
        let mut events = cluster.remote.watch(gvr, namespace, &options).await?;
        // An error of the watch is that of the next list, if it matters.
        while let Some(Ok(event)) = events.next().await {
            match event {
                WatchEvent::Deleted(object) if *object.header.uid == *uid => return Ok(()),
                WatchEvent::Added(_)
                | WatchEvent::Modified(_)
                | WatchEvent::Deleted(_)
                | WatchEvent::Bookmark(_) => {}
            }
        }
    }
}
