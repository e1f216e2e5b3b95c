//! A container's environment: `envFrom`, `env` with its sources and references, services.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret};

use super::expand::expand;
use super::fields::{self, FieldError, NodeFacts};

/// The objects of the pod's namespace that its environment refers to. Absent where the API server
/// has none of that name.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub config_maps: BTreeMap<String, ConfigMap>,
    pub secrets: BTreeMap<String, Secret>,
}

/// Why a container's environment cannot be built: `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnvironmentError {
    #[error("configmap \"{0}\" not found")]
    NoConfigMap(String),
    #[error("secret \"{0}\" not found")]
    NoSecret(String),
    #[error("couldn't find key {key} in ConfigMap {namespace}/{name}")]
    NoConfigMapKey { key: String, namespace: String, name: String },
    #[error("couldn't find key {key} in Secret {namespace}/{name}")]
    NoSecretKey { key: String, namespace: String, name: String },
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// An environment and what was left out of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// In order; no name twice.
    pub variables: Vec<(String, String)>,
    /// Messages for events with reason `InvalidEnvironmentVariableNames`.
    pub skipped: Vec<String>,
}

/// The names of config maps and secrets that a container's environment needs.
pub fn references(container: &Container) -> (Vec<&str>, Vec<&str>) {
    let mut config_maps = Vec::new();
    let mut secrets = Vec::new();
    for source in container.env_from.iter().flatten() {
        config_maps.extend(source.config_map_ref.as_ref().map(|reference| reference.name.as_str()));
        secrets.extend(source.secret_ref.as_ref().map(|reference| reference.name.as_str()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.as_ref().map(|reference| reference.name.as_str()));
        secrets.extend(source.secret_key_ref.as_ref().map(|reference| reference.name.as_str()));
    }
    (config_maps, secrets)
}

/// Builds the environment without the image's own variables.
pub fn build(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    services: &BTreeMap<String, String>,
    node: &NodeFacts,
) -> Result<Environment, EnvironmentError> {
    let namespace = crate::pod::namespace(pod);
    let mut builder = Builder { names: Vec::new(), values: BTreeMap::new(), skipped: Vec::new() };
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &source.config_map_ref {
            match sources.config_maps.get(&reference.name) {
                Some(map) => {
                    let data = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.clone()));
                    builder.add_all(prefix, data, "configMap", namespace, &reference.name);
                }
                None if reference.optional == Some(true) => {}
                None => return Err(EnvironmentError::NoConfigMap(reference.name.clone())),
            }
        } else if let Some(reference) = &source.secret_ref {
            match sources.secrets.get(&reference.name) {
                Some(secret) => {
                    let data = secret.data.iter().flatten();
                    let data = data
                        .map(|(key, value)| (key.as_str(), String::from_utf8_lossy(&value.0).into_owned()));
                    builder.add_all(prefix, data, "secret", namespace, &reference.name);
                }
                None if reference.optional == Some(true) => {}
                None => return Err(EnvironmentError::NoSecret(reference.name.clone())),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match (variable.value.as_deref().filter(|value| !value.is_empty()), &variable.value_from)
        {
            (Some(text), _) => {
                Some(expand(text, |name| builder.values.get(name).or_else(|| services.get(name)).cloned()))
            }
            (None, Some(source)) => resolve(pod, container, variable, source, sources, node)?,
            (None, None) => Some(String::new()),
        };
        if let Some(value) = value {
            builder.set(&variable.name, value);
        }
    }
    for (name, value) in services {
        if !builder.values.contains_key(name) {
            builder.set(name, value.clone());
        }
    }
    Ok(builder.finish())
}

/// The value of a variable with a source; `None` where an optional source is absent.
fn resolve(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    source: &EnvVarSource,
    sources: &Sources,
    node: &NodeFacts,
) -> Result<Option<String>, EnvironmentError> {
    let namespace = crate::pod::namespace(pod);
    if let Some(field) = &source.field_ref {
        return Ok(Some(fields::pod_field(pod, &field.field_path, node)?));
    }
    if let Some(resource) = &source.resource_field_ref {
        return Ok(Some(fields::resource_field(pod, Some(container), resource, node)?));
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional == Some(true);
        let Some(map) = sources.config_maps.get(&reference.name) else {
            return if optional {
                Ok(None)
            } else {
                Err(EnvironmentError::NoConfigMap(reference.name.clone()))
            };
        };
        return match map.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(EnvironmentError::NoConfigMapKey {
                key: reference.key.clone(),
                namespace: namespace.to_owned(),
                name: reference.name.clone(),
            }),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional == Some(true);
        let Some(secret) = sources.secrets.get(&reference.name) else {
            return if optional { Ok(None) } else { Err(EnvironmentError::NoSecret(reference.name.clone())) };
        };
        return match secret.data.as_ref().and_then(|data| data.get(&reference.key)) {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(EnvironmentError::NoSecretKey {
                key: reference.key.clone(),
                namespace: namespace.to_owned(),
                name: reference.name.clone(),
            }),
        };
    }
    tracing::debug!(variable = variable.name, "an environment variable's source is of no known kind");
    Ok(Some(String::new()))
}

struct Builder {
    names: Vec<String>,
    values: BTreeMap<String, String>,
    skipped: Vec<String>,
}

impl Builder {
    fn set(&mut self, name: &str, value: String) {
        if self.values.insert(name.to_owned(), value).is_none() {
            self.names.push(name.to_owned());
        }
    }

    fn add_all<'a>(
        &mut self,
        prefix: &str,
        data: impl Iterator<Item = (&'a str, String)>,
        kind: &str,
        namespace: &str,
        source: &str,
    ) {
        let mut invalid = Vec::new();
        for (key, value) in data {
            let name = format!("{prefix}{key}");
            if is_variable_name(&name) {
                self.set(&name, value);
            } else {
                invalid.push(name);
            }
        }
        if !invalid.is_empty() {
            invalid.sort();
            self.skipped.push(format!(
                "Keys [{}] from the EnvFrom {kind} {namespace}/{source} were skipped since they are considered \
                 invalid environment variable names.",
                invalid.join(", ")
            ));
        }
    }

    fn finish(mut self) -> Environment {
        let variables = self
            .names
            .into_iter()
            .filter_map(|name| self.values.remove(&name).map(|value| (name, value)))
            .collect();
        Environment { variables, skipped: self.skipped }
    }
}

/// Printable ASCII without `=` (relaxed validation, KEP-4369).
fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=')
}

#[cfg(test)]
#[path = "environment/tests.rs"]
mod tests;
