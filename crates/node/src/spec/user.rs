//! Who a container's process is: user, groups, and whether it may be root.

use std::io::Read;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod};

/// The most that is read of an image's `/etc/passwd` or `/etc/group`, bytes.
const FILE_LIMIT: u64 = 1 << 20;

/// Why no process can be started under the wanted user: `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserError {
    #[error("container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})")]
    ImageIsRoot { pod: String, container: String },
    #[error("container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})")]
    RunAsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root \
         (pod: \"{pod}\", container: {container})"
    )]
    NotNumeric { user: String, pod: String, container: String },
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
}

/// The identity of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Sorted; without `gid`.
    pub groups: Vec<u32>,
    /// The home directory that the image's passwd file names; `/` without one.
    pub home: String,
}

/// The image's user data base.
#[derive(Clone, Debug, Default)]
pub struct UserFiles {
    pub passwd: String,
    pub group: String,
}

impl UserFiles {
    /// Reads `/etc/passwd` and `/etc/group` below a root that its content cannot escape. Absent,
    /// unreadable and oversized files count as empty.
    pub fn read(root: &Path) -> Self {
        UserFiles { passwd: read_inside(root, "etc/passwd"), group: read_inside(root, "etc/group") }
    }
}

fn read_inside(root: &Path, path: &str) -> String {
    let mut text = String::new();
    let opened = crate::volumes::inside::open_file(root, Path::new(path));
    if let Ok(file) = opened
        && file.take(FILE_LIMIT).read_to_string(&mut text).is_err()
    {
        text.clear();
    }
    text
}

/// Decides the identity of a container's process; `image_user` is the image's `User`.
pub fn resolve(
    pod: &Pod,
    container: &Container,
    image_user: &str,
    files: &UserFiles,
) -> Result<Identity, UserError> {
    let pods = crate::pod::spec(pod).security_context.as_ref();
    let own = container.security_context.as_ref();
    let wanted_user = own.and_then(|own| own.run_as_user).or(pods.and_then(|pods| pods.run_as_user));
    let wanted_group = own.and_then(|own| own.run_as_group).or(pods.and_then(|pods| pods.run_as_group));
    let non_root = own.and_then(|own| own.run_as_non_root).or(pods.and_then(|pods| pods.run_as_non_root));
    if non_root == Some(true) {
        verify_non_root(pod, container, wanted_user, image_user)?;
    }
    let (image_name, image_group) = match image_user.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (image_user, None),
    };
    let entry = match wanted_user {
        Some(uid) => find_uid(&files.passwd, to_id(uid)),
        None => find_user(&files.passwd, image_name)?,
    };
    let gid = match (wanted_group, wanted_user, image_group) {
        (Some(gid), _, _) => to_id(gid),
        // A group of the image belongs to the image's user.
        (None, None, Some(group)) => find_group(&files.group, group)?,
        (None, _, _) => entry.gid,
    };
    let mut groups: Vec<u32> = Vec::new();
    let merge = pods.and_then(|pods| pods.supplemental_groups_policy.as_deref()) != Some("Strict");
    if let Some(name) = entry.name.as_deref().filter(|_| merge) {
        groups.extend(groups_of(&files.group, name));
    }
    groups.extend(
        pods.iter().flat_map(|pods| pods.supplemental_groups.iter().flatten()).map(|gid| to_id(*gid)),
    );
    groups.extend(pods.and_then(|pods| pods.fs_group).map(to_id));
    groups.retain(|group| *group != gid);
    groups.sort_unstable();
    groups.dedup();
    Ok(Identity { uid: entry.uid, gid, groups, home: entry.home })
}

fn verify_non_root(
    pod: &Pod,
    container: &Container,
    wanted: Option<i64>,
    image_user: &str,
) -> Result<(), UserError> {
    let pod = crate::pod::full_name(pod);
    let container = container.name.clone();
    let image_name = image_user.split(':').next().unwrap_or_default();
    match (wanted, image_name.parse::<i64>()) {
        (Some(0), _) => Err(UserError::RunAsRoot { pod, container }),
        (Some(_), _) => Ok(()),
        (None, Ok(0)) => Err(UserError::ImageIsRoot { pod, container }),
        (None, Ok(_)) => Ok(()),
        (None, Err(_)) if image_name.is_empty() => Err(UserError::ImageIsRoot { pod, container }),
        (None, Err(_)) => Err(UserError::NotNumeric { user: image_name.to_owned(), pod, container }),
    }
}

/// The API server admits ids from 0 to 2^31-1 only.
fn to_id(id: i64) -> u32 {
    u32::try_from(id).unwrap_or(65534)
}

struct Entry {
    name: Option<String>,
    uid: u32,
    gid: u32,
    home: String,
}

fn entries(passwd: &str) -> impl Iterator<Item = Entry> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.trim().parse().ok()?;
        let gid = fields.next()?.trim().parse().ok()?;
        let home = fields.nth(1).unwrap_or("/");
        let home = if home.is_empty() { "/" } else { home };
        Some(Entry { name: Some(name.to_owned()), uid, gid, home: home.to_owned() })
    })
}

fn find_uid(passwd: &str, uid: u32) -> Entry {
    let unknown = Entry { name: None, uid, gid: 0, home: "/".to_owned() };
    entries(passwd).find(|entry| entry.uid == uid).unwrap_or(unknown)
}

fn find_user(passwd: &str, name: &str) -> Result<Entry, UserError> {
    if name.is_empty() {
        let mut root = find_uid(passwd, 0);
        if root.name.is_none() {
            root.home = "/root".to_owned();
        }
        return Ok(root);
    }
    if let Some(entry) = entries(passwd).find(|entry| entry.name.as_deref() == Some(name)) {
        return Ok(entry);
    }
    match name.parse() {
        Ok(uid) => Ok(find_uid(passwd, uid)),
        Err(_) => Err(UserError::NoUser(name.to_owned())),
    }
}

fn find_group(group: &str, name: &str) -> Result<u32, UserError> {
    let by_name = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.trim().parse().ok()).flatten()
    });
    by_name.or_else(|| name.parse().ok()).ok_or_else(|| UserError::NoGroup(name.to_owned()))
}

fn groups_of(group: &str, user: &str) -> Vec<u32> {
    let member = |line: &str| {
        let mut fields = line.split(':');
        let gid = fields.nth(2)?.trim().parse().ok()?;
        fields.next()?.split(',').any(|name| name.trim() == user).then_some(gid)
    };
    group.lines().filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbroken\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:app,other\nweb:x:60:other\n";

    fn check(
        pod: serde_json::Value,
        own: serde_json::Value,
        image: &str,
        expected: Result<(u32, u32, &[u32]), &str>,
    ) {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"containers": [], "securityContext": pod}}))
        .expect("a pod");
        let container = serde_json::from_value(serde_json::json!({"name": "c", "securityContext": own}));
        let files = UserFiles { passwd: PASSWD.to_owned(), group: GROUP.to_owned() };
        let got = resolve(&pod, &container.expect("a container"), image, &files);
        match expected {
            Ok((uid, gid, groups)) => {
                let got = got.expect(image);
                assert_eq!((got.uid, got.gid, got.groups.as_slice()), (uid, gid, groups), "{image}");
            }
            Err(text) => assert_eq!(got.expect_err(image).to_string(), text),
        }
    }

    #[test]
    fn the_pod_stands_against_the_image() {
        use serde_json::json;
        let none = || json!({});
        check(none(), none(), "", Ok((0, 0, &[])));
        check(none(), none(), "app", Ok((1000, 1001, &[50])));
        check(none(), none(), "app:web", Ok((1000, 60, &[50])));
        check(none(), none(), "7:8", Ok((7, 8, &[])));
        check(
            none(),
            none(),
            "nobody",
            Err("unable to find user nobody: no matching entries in passwd file"),
        );
        check(
            none(),
            none(),
            "app:none",
            Err("unable to find group none: no matching entries in group file"),
        );
        check(json!({"runAsUser": 5}), none(), "app:web", Ok((5, 0, &[])));
        check(json!({"runAsUser": 5}), json!({"runAsUser": 1000}), "", Ok((1000, 1001, &[50])));
        check(
            json!({"runAsGroup": 9, "fsGroup": 12, "supplementalGroups": [11, 9]}),
            none(),
            "",
            Ok((0, 9, &[11, 12])),
        );
        check(json!({"supplementalGroupsPolicy": "Strict"}), none(), "app", Ok((1000, 1001, &[])));
    }

    #[test]
    fn root_is_refused_where_it_must_not_be() {
        use serde_json::json;
        let pod = || json!({"runAsNonRoot": true});
        let at = "(pod: \"p_n(u)\", container: c)";
        check(
            pod(),
            json!({}),
            "",
            Err(&format!("container has runAsNonRoot and image will run as root {at}")),
        );
        check(
            pod(),
            json!({}),
            "0",
            Err(&format!("container has runAsNonRoot and image will run as root {at}")),
        );
        check(
            pod(),
            json!({}),
            "app",
            Err(&format!(
                "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root {at}"
            )),
        );
        check(
            pod(),
            json!({"runAsUser": 0}),
            "",
            Err(&format!("container's runAsUser breaks non-root policy {at}")),
        );
        check(pod(), json!({"runAsUser": 3}), "", Ok((3, 0, &[])));
        check(pod(), json!({"runAsNonRoot": false}), "", Ok((0, 0, &[])));
        check(pod(), json!({}), "1000:1", Ok((1000, 1, &[50])));
    }
}
