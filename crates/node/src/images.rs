//! Images of containers: when to pull, with which credentials, and what to say of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Container, Pod, Secret, ServiceAccount};
use sampan_client::Client;
use sampan_client::events::EventType;
use sampan_image::{Auth, Image, ImageStore, Reference, RegistryClient};

use crate::pod;

/// `imagePullPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// The container's policy; one with the tag `latest` is pulled always unless it says otherwise.
    pub fn of(container: &Container, reference: &Reference) -> Self {
        match container.image_pull_policy.as_deref() {
            Some("Always") => PullPolicy::Always,
            Some("IfNotPresent") => PullPolicy::IfNotPresent,
            Some("Never") => PullPolicy::Never,
            Some(_) | None if reference.is_latest() => PullPolicy::Always,
            Some(_) | None => PullPolicy::IfNotPresent,
        }
    }
}

/// What fetches images from registries.
#[async_trait]
pub trait Puller: Send + Sync + 'static {
    /// Brings the image into the node's store. `configs` are the contents of
    /// `.dockerconfigjson` or `.dockercfg` secrets. The error is for people.
    async fn pull(&self, reference: &Reference, configs: &[Vec<u8>]) -> Result<Image, String>;
}

/// Pulls with the registry client into a store.
pub struct RegistryPuller {
    pub registry: RegistryClient,
    pub store: ImageStore,
}

#[async_trait]
impl Puller for RegistryPuller {
    async fn pull(&self, reference: &Reference, configs: &[Vec<u8>]) -> Result<Image, String> {
        let mut auth = Auth::anonymous();
        for config in configs {
            match Auth::from_docker_config(config) {
                Ok(more) => auth.merge(more),
                // The others may do.
                Err(error) => tracing::debug!(%error, "a pull secret cannot be used"),
            }
        }
        self.registry.pull(&self.store, reference, &auth, None).await.map_err(|error| chain(&*error))
    }
}

/// An error with its causes, for people.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Why a container has no image: reason and message of its status.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("Failed to apply default image tag \"{image}\": couldn't parse image name \"{image}\": {source}")]
    InvalidName { image: String, source: sampan_image::ReferenceError },
    #[error("Container image \"{0}\" is not present with pull policy of Never")]
    NeverPull(String),
    #[error("failed to pull image \"{image}\": {message}")]
    Pull { image: String, message: String },
}

impl ImageError {
    pub fn reason(&self) -> &'static str {
        match self {
            ImageError::InvalidName { .. } => "InvalidImageName",
            ImageError::NeverPull(_) => "ErrImageNeverPull",
            ImageError::Pull { .. } => "ErrImagePull",
        }
    }
}

/// Where the images of this node come from.
pub struct Images {
    pub store: ImageStore,
    pub puller: Arc<dyn Puller>,
    pub client: Client,
}

impl Images {
    /// The image of a container; pulls it where its policy says so. `tell` gets the events.
    pub async fn ensure(
        &self,
        pod: &Pod,
        container: &Container,
        tell: &(dyn Fn(EventType, &str, String) + Send + Sync),
    ) -> Result<Image, ImageError> {
        let name = container.image.clone().unwrap_or_default();
        let reference = Reference::parse(&name).map_err(|source| {
            let error = ImageError::InvalidName { image: name.clone(), source };
            tell(EventType::Warning, "InspectFailed", error.to_string());
            error
        })?;
        let present = self.store.resolve(&reference);
        match (PullPolicy::of(container, &reference), present) {
            (PullPolicy::IfNotPresent | PullPolicy::Never, Some(image)) => {
                tell(
                    EventType::Normal,
                    "Pulled",
                    format!("Container image \"{name}\" already present on machine"),
                );
                Ok(image)
            }
            (PullPolicy::Never, None) => {
                let error = ImageError::NeverPull(name);
                tell(EventType::Warning, "ErrImageNeverPull", error.to_string());
                Err(error)
            }
            (PullPolicy::Always, _) | (PullPolicy::IfNotPresent, None) => {
                self.pull(pod, &name, &reference, tell).await
            }
        }
    }

    async fn pull(
        &self,
        pod: &Pod,
        name: &str,
        reference: &Reference,
        tell: &(dyn Fn(EventType, &str, String) + Send + Sync),
    ) -> Result<Image, ImageError> {
        tell(EventType::Normal, "Pulling", format!("Pulling image \"{name}\""));
        let begun = Instant::now();
        let configs = self.credentials(pod).await;
        match self.puller.pull(reference, &configs).await {
            Ok(image) => {
                let took = display(begun.elapsed());
                let message = format!(
                    "Successfully pulled image \"{name}\" in {took} ({took} including waiting). Image size: {} bytes.",
                    image.size
                );
                tell(EventType::Normal, "Pulled", message);
                Ok(image)
            }
            Err(message) => {
                let error = ImageError::Pull { image: name.to_owned(), message: message.clone() };
                tell(EventType::Warning, "Failed", format!("Failed to pull image \"{name}\": {message}"));
                tell(EventType::Warning, "Failed", format!("Error: {}", error.reason()));
                Err(error)
            }
        }
    }

    /// The registry credentials of the pod and of its service account. A secret that is missing is
    /// passed over: the image may need none.
    async fn credentials(&self, pod: &Pod) -> Vec<Vec<u8>> {
        let spec = pod::spec(pod);
        let mut names: Vec<String> =
            spec.image_pull_secrets.iter().flatten().map(|reference| reference.name.clone()).collect();
        if names.is_empty() {
            let account = spec.service_account_name.as_deref().unwrap_or("default");
            let accounts = self.client.namespaced::<ServiceAccount>(pod::namespace(pod));
            if let Ok(Some(account)) = accounts.find(account).await {
                names
                    .extend(account.image_pull_secrets.into_iter().flatten().map(|reference| reference.name));
            }
        }
        let secrets = self.client.namespaced::<Secret>(pod::namespace(pod));
        let mut configs = Vec::new();
        for name in names {
            match secrets.find(&name).await {
                Ok(Some(secret)) => {
                    let data = secret.data.unwrap_or_default();
                    let config = data.get(".dockerconfigjson").or_else(|| data.get(".dockercfg"));
                    configs.extend(config.map(|config| config.0.clone()));
                }
                Ok(None) => tracing::debug!(name, "a pull secret does not exist"),
                Err(status) => tracing::debug!(name, %status, "a pull secret cannot be read"),
            }
        }
        configs
    }
}

/// `imageID` of a container's status: by digest where the image has one.
pub fn image_id(image: &Image) -> String {
    image.digests.first().cloned().unwrap_or_else(|| image.id.to_string())
}

/// As Go writes a duration, to the millisecond.
fn display(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{}ms", duration.as_millis())
    } else {
        let text = format!("{:.3}", duration.as_secs_f64());
        format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_follows_the_tag() {
        let check = |policy: Option<&str>, image: &str, expected: PullPolicy| {
            let container =
                Container { image_pull_policy: policy.map(str::to_owned), ..Container::default() };
            let reference = Reference::parse(image).expect("a name");
            assert_eq!(PullPolicy::of(&container, &reference), expected, "{policy:?} {image}");
        };
        check(None, "nginx", PullPolicy::Always);
        check(None, "nginx:latest", PullPolicy::Always);
        check(None, "nginx:1", PullPolicy::IfNotPresent);
        check(Some("Never"), "nginx", PullPolicy::Never);
        check(Some("IfNotPresent"), "nginx", PullPolicy::IfNotPresent);
    }

    #[test]
    fn times_are_written_as_go_does() {
        for (millis, expected) in [(12, "12ms"), (1200, "1.2s"), (61_005, "61.005s"), (2000, "2s")] {
            assert_eq!(display(Duration::from_millis(millis)), expected);
        }
    }
}
