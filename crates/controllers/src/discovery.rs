//! Which resources the API serves: for controllers that act on objects of every kind.

use sampan_api::{Gvr, Status};
use sampan_client::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A served resource, in the preferred one of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub gvr: Gvr,
    pub kind: String,
    pub namespaced: bool,
    pub deletable: bool,
    pub deletable_as_collection: bool,
    pub listable: bool,
    pub watchable: bool,
}

/// What is served, and the groups that could not be asked, as `group/version: why`.
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    pub resources: Vec<Served>,
    pub failures: Vec<String>,
}

#[derive(Deserialize)]
struct GroupList {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    versions: Vec<Version>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    group_version: String,
    version: String,
}

#[derive(Deserialize)]
struct ResourceList {
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
struct ApiResource {
    name: String,
    kind: String,
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

/// Asks the API what it serves. Fails only where not even the groups can be learnt.
pub(crate) async fn discover(client: &Client) -> Result<Discovered, Status> {
    let groups: GroupList = fetch(client, "/apis").await?;
    let mut found = Discovered::default();
    add(client, &mut found, "", "v1", "/api/v1").await;
    for group in groups.groups {
        // In the order of preference: a resource is taken from the first version that has it.
        for version in group.versions {
            let path = format!("/apis/{}", version.group_version);
            add(client, &mut found, &group.name, &version.version, &path).await;
        }
    }
    Ok(found)
}

async fn add(client: &Client, found: &mut Discovered, group: &str, version: &str, path: &str) {
    let list: ResourceList = match fetch(client, path).await {
        Ok(list) => list,
        // The group went away since the groups were listed.
        Err(status) if status.is_not_found() => return,
        Err(status) => {
            found.failures.push(format!("{group}/{version}: {status}"));
            return;
        }
    };
    for resource in list.resources.into_iter().filter(|resource| !resource.name.contains('/')) {
        let known = |one: &Served| one.gvr.group == group && one.gvr.resource == resource.name;
        if found.resources.iter().any(known) {
            continue;
        }
        let can = |verb: &str| resource.verbs.iter().any(|one| one == verb);
        found.resources.push(Served {
            deletable: can("delete"),
            deletable_as_collection: can("deletecollection"),
            listable: can("list"),
            watchable: can("watch"),
            gvr: Gvr {
                group: group.to_owned().into(),
                version: version.to_owned().into(),
                resource: resource.name.into(),
            },
            kind: resource.kind,
            namespaced: resource.namespaced,
        });
    }
}

async fn fetch<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T, Status> {
    let body = client.backend().raw(path).await?;
    serde_json::from_slice(&body).map_err(|error| Status::internal(format!("{path}: {error}")))
}
