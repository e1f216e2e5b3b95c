//! Questions about a pod's specification that several parts ask.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

/// What part a container has in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum ContainerKind {
    /// Runs to completion before the next one starts.
    Init,
    /// An init container with `restartPolicy: Always`: starts in order, then stays.
    Sidecar,
    Main,
    /// Added to a pod that runs, by its `ephemeralcontainers` subresource; never started again.
    Ephemeral,
}

/// `metadata.uid`.
pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// `metadata.name`.
pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// `metadata.namespace`.
pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// The specification. A pod from the API server always has one; an empty one stands in otherwise.
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

/// How messages of upstream name a pod: `name_namespace(uid)`.
pub fn full_name(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

/// Every container of the pod's own in the order in which they start: init containers first.
pub fn containers(spec: &PodSpec) -> impl Iterator<Item = (ContainerKind, &Container)> {
    let init = spec.init_containers.iter().flatten().map(|container| {
        let always = container.restart_policy.as_deref() == Some("Always");
        (if always { ContainerKind::Sidecar } else { ContainerKind::Init }, container)
    });
    init.chain(spec.containers.iter().map(|container| (ContainerKind::Main, container)))
}

/// The container with a name, of any kind but ephemeral.
pub fn container<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a Container> {
    containers(spec).map(|(_, container)| container).find(|container| container.name == name)
}

/// The ephemeral container with a name.
pub fn ephemeral<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a EphemeralContainer> {
    spec.ephemeral_containers.iter().flatten().find(|container| container.name == name)
}

/// The container with a name, an ephemeral one in the form of the others.
pub fn any_container<'a>(spec: &'a PodSpec, name: &str) -> Option<Cow<'a, Container>> {
    let own = container(spec, name).map(Cow::Borrowed);
    own.or_else(|| ephemeral(spec, name).map(|container| Cow::Owned(plain(container))))
}

/// An ephemeral container as one that runs to its end. What it may not have is left out.
fn plain(ephemeral: &EphemeralContainer) -> Container {
    let all = ephemeral.clone();
    Container {
        name: all.name,
        image: all.image,
        command: all.command,
        args: all.args,
        working_dir: all.working_dir,
        env: all.env,
        env_from: all.env_from,
        volume_mounts: all.volume_mounts,
        volume_devices: all.volume_devices,
        image_pull_policy: all.image_pull_policy,
        security_context: all.security_context,
        stdin: all.stdin,
        stdin_once: all.stdin_once,
        tty: all.tty,
        termination_message_path: all.termination_message_path,
        termination_message_policy: all.termination_message_policy,
        ..Container::default()
    }
}

/// Seconds between SIGTERM and SIGKILL when the pod is deleted.
pub fn grace_seconds(pod: &Pod) -> i64 {
    let asked =
        pod.metadata.deletion_grace_period_seconds.filter(|_| pod.metadata.deletion_timestamp.is_some());
    asked.or(spec(pod).termination_grace_period_seconds).unwrap_or(30).max(0)
}

/// `spec.restartPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// The pod's restart policy; `Always` when it is not set.
pub fn restart_policy(spec: &PodSpec) -> RestartPolicy {
    match spec.restart_policy.as_deref() {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        Some(_) | None => RestartPolicy::Always,
    }
}

/// Whether the pod uses the node's own network namespace.
pub fn host_network(spec: &PodSpec) -> bool {
    spec.host_network.unwrap_or(false)
}

/// The host name that the pod's processes see, without a domain.
pub fn hostname(pod: &Pod) -> String {
    let spec = spec(pod);
    if let Some(wanted) = spec.hostname_override.as_deref().filter(|wanted| !wanted.is_empty()) {
        return wanted.to_owned();
    }
    if let Some(wanted) = spec.hostname.as_deref().filter(|wanted| !wanted.is_empty()) {
        return wanted.to_owned();
    }
    let name = name(pod);
    let mut end = name.len().min(63);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].trim_end_matches(['-', '.']).to_owned()
}

/// `hostname.subdomain.namespace.svc.domain` when the pod has a subdomain.
pub fn fqdn(pod: &Pod, cluster_domain: &str) -> Option<String> {
    let subdomain = spec(pod).subdomain.as_deref().filter(|subdomain| !subdomain.is_empty())?;
    Some(format!("{}.{subdomain}.{}.svc.{cluster_domain}", hostname(pod), namespace(pod)))
}

/// The container that an API call means when it names none: the annotated default or the first.
pub fn default_container(pod: &Pod) -> Option<&str> {
    let annotated =
        pod.metadata.annotations.as_ref().and_then(|all| all.get("kubectl.kubernetes.io/default-container"));
    match annotated {
        Some(wanted) if container(spec(pod), wanted).is_some() => Some(wanted),
        Some(_) | None => spec(pod).containers.first().map(|container| container.name.as_str()),
    }
}
