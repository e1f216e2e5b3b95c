//! Which cluster a command talks to, and what that cluster serves.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sampan_api::Gvr;
use sampan_client::kubeconfig::Access;
use sampan_client::remote::{Call, RemoteBackend};
use serde::Deserialize;

use crate::config::DEFAULT_DATA_DIR;

/// The longest discovery document.
const DISCOVERY_BYTES: usize = 64 << 20;
/// The field manager of writes.
const MANAGER: &str = "sampan";

#[derive(Args, Debug)]
pub struct ClusterArgs {
    /// Kubeconfig [default: $KUBECONFIG, then admin.kubeconfig in the data directory]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Namespace [default: the context's]
    #[arg(short, long)]
    pub namespace: Option<String>,
    /// Data directory of a server on this machine
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

/// A cluster, and the namespace that is worked in.
pub struct Cluster {
    pub remote: RemoteBackend,
    pub namespace: String,
    /// The namespace was asked for on the command line.
    pub explicit_namespace: bool,
}

impl ClusterArgs {
    pub fn open(&self) -> Result<Cluster> {
        let path = self.path(std::env::var_os("KUBECONFIG"));
        let access = Access::read(&path, self.context.as_deref()).with_context(
            || "no cluster to talk to; start one with sampan server, or name a kubeconfig with --kubeconfig",
        )?;
        let remote = RemoteBackend::new(&access, MANAGER)
            .with_context(|| format!("{} cannot be used", path.display()))?;
        Ok(Cluster {
            remote,
            namespace: self.namespace.clone().unwrap_or(access.namespace),
            explicit_namespace: self.namespace.is_some(),
        })
    }

    /// The kubeconfig to use. Of the variable's list the first that exists.
    fn path(&self, variable: Option<OsString>) -> PathBuf {
        if let Some(path) = &self.kubeconfig {
            return path.clone();
        }
        if let Some(list) = variable.filter(|list| !list.is_empty()) {
            let paths: Vec<PathBuf> =
                std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect();
            let existing = paths.iter().find(|path| path.exists()).or(paths.first());
            if let Some(path) = existing {
                return path.clone();
            }
        }
        Path::new(&self.data_dir).join("admin.kubeconfig")
    }
}

/// A resource that the cluster serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiResource {
    pub gvr: Gvr,
    pub kind: String,
    pub namespaced: bool,
    singular: String,
    short_names: Vec<String>,
    categories: Vec<String>,
    verbs: Vec<String>,
}

impl ApiResource {
    /// `deployment.apps`: how messages name an object's resource.
    pub fn label(&self) -> String {
        let kind = self.kind.to_ascii_lowercase();
        if self.gvr.group.is_empty() { kind } else { format!("{kind}.{}", self.gvr.group) }
    }

    /// The namespace of a request, of a cluster's resource none.
    pub fn namespace<'a>(&self, namespace: &'a str) -> Option<&'a str> {
        self.namespaced.then_some(namespace)
    }

    fn is_called(&self, name: &str) -> bool {
        let (name, rest) = name.split_once('.').unwrap_or((name, ""));
        let named = self.gvr.resource == name
            || self.singular == name
            || self.kind.eq_ignore_ascii_case(name)
            || self.short_names.iter().any(|short| short == name);
        let grouped = rest.is_empty()
            || self.gvr.group == rest
            || rest == self.gvr.version && self.gvr.group.is_empty()
            || rest
                .split_once('.')
                .is_some_and(|(version, group)| self.gvr.version == version && self.gvr.group == group);
        named && grouped
    }
}

/// Everything that a cluster serves, preferred versions first.
pub struct Discovery {
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
struct RawGroups {
    #[serde(default)]
    items: Vec<RawGroup>,
}

#[derive(Deserialize)]
struct RawGroup {
    #[serde(default)]
    metadata: RawMetadata,
    #[serde(default)]
    versions: Vec<RawVersion>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawMetadata {
    name: String,
}

#[derive(Deserialize)]
struct RawVersion {
    version: String,
    #[serde(default)]
    resources: Vec<RawResource>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawResource {
    resource: String,
    response_kind: RawKind,
    scope: String,
    singular_resource: String,
    short_names: Vec<String>,
    categories: Vec<String>,
    verbs: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawKind {
    kind: String,
}

impl Discovery {
    pub async fn read(remote: &RemoteBackend) -> Result<Self> {
        let call = |path| Call {
            accept: "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            ..Call::get(path)
        };
        let (core, groups) = tokio::try_join!(
            remote.bytes(call("/api"), DISCOVERY_BYTES),
            remote.bytes(call("/apis"), DISCOVERY_BYTES),
        )?;
        let mut discovery = Discovery { resources: Vec::new() };
        discovery.add(&core)?;
        discovery.add(&groups)?;
        Ok(discovery)
    }

    fn add(&mut self, document: &[u8]) -> Result<()> {
        let groups: RawGroups =
            serde_json::from_slice(document).context("the server's discovery cannot be read")?;
        for group in groups.items {
            for version in group.versions {
                for raw in version.resources {
                    self.resources.push(ApiResource {
                        gvr: Gvr {
                            group: group.metadata.name.clone().into(),
                            version: version.version.clone().into(),
                            resource: raw.resource.into(),
                        },
                        kind: raw.response_kind.kind,
                        namespaced: raw.scope == "Namespaced",
                        singular: raw.singular_resource,
                        short_names: raw.short_names,
                        categories: raw.categories,
                        verbs: raw.verbs,
                    });
                }
            }
        }
        Ok(())
    }

    /// By what a person types: plural, singular, kind, short name, with or without group.
    pub fn resource(&self, name: &str) -> Result<&ApiResource> {
        let name = name.to_ascii_lowercase();
        match self.resources.iter().find(|resource| resource.is_called(&name)) {
            Some(resource) => Ok(resource),
            None => bail!("the server doesn't have a resource type {name:?}"),
        }
    }

    /// Resources by names and categories, separated by commas.
    pub fn resources(&self, names: &str) -> Result<Vec<&ApiResource>> {
        let mut found: Vec<&ApiResource> = Vec::new();
        for name in names.split(',').filter(|name| !name.is_empty()) {
            let listed = |one: &&ApiResource| one.verbs.iter().any(|verb| verb == "list");
            let category: Vec<_> = self
                .resources
                .iter()
                .filter(|one| one.categories.iter().any(|category| category == name))
                .filter(listed)
                .collect();
            if category.is_empty() {
                found.push(self.resource(name)?);
            }
            for one in category {
                let known = |other: &&ApiResource| {
                    other.gvr.group == one.gvr.group && other.gvr.resource == one.gvr.resource
                };
                if !found.iter().any(known) {
                    found.push(one);
                }
            }
        }
        Ok(found)
    }

    /// By `apiVersion` and `kind` of a manifest.
    pub fn kind(&self, api_version: &str, kind: &str) -> Result<&ApiResource> {
        let found = self
            .resources
            .iter()
            .find(|resource| resource.kind == kind && resource.gvr.api_version() == api_version);
        found.with_context(|| format!("no matches for kind {kind:?} in version {api_version:?}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn discovery() -> Discovery {
        let resource = |name: &str, kind: &str, short: &str, category: &str| {
            json!({"resource": name, "responseKind": {"kind": kind}, "scope": "Namespaced",
                "singularResource": kind.to_lowercase(), "shortNames": [short], "categories": [category],
                "verbs": ["get", "list"]})
        };
        let mut discovery = Discovery { resources: Vec::new() };
        let group = |name: &str, resources: serde_json::Value| {
            let versions = json!([{"version": "v1", "resources": resources}]);
            json!({"items": [{"metadata": {"name": name}, "versions": versions}]}).to_string()
        };
        let core = json!([resource("pods", "Pod", "po", "all"), resource("events", "Event", "ev", "")]);
        discovery.add(group("", core).as_bytes()).expect("valid");
        let apps = json!([resource("deployments", "Deployment", "deploy", "all")]);
        discovery.add(group("apps", apps).as_bytes()).expect("valid");
        let events = json!([resource("events", "Event", "ev", "")]);
        discovery.add(group("events.k8s.io", events).as_bytes()).expect("valid");
        discovery
    }

    #[test]
    fn resources_are_found_by_what_people_type() {
        let discovery = discovery();
        let check = |typed: &str, expected: &str| {
            let found = discovery
                .resources(typed)
                .map(|found| found.iter().map(|resource| resource.label()).collect::<Vec<_>>().join(" "));
            assert_eq!(found.unwrap_or_else(|error| error.to_string()), expected, "{typed}");
        };
        check("po", "pod");
        check("Pod", "pod");
        check("pods.v1", "pod");
        check("deploy,po", "deployment.apps pod");
        check("deployments.apps", "deployment.apps");
        check("deployments.v1.apps", "deployment.apps");
        check("ev", "event");
        check("events.events.k8s.io", "event.events.k8s.io");
        check("all", "pod deployment.apps");
        check("boats", "the server doesn't have a resource type \"boats\"");
        assert!(discovery.kind("apps/v1", "Deployment").is_ok());
        assert!(discovery.kind("apps/v1beta1", "Deployment").is_err());
    }
}
