//! Kubernetes' `EncryptionConfiguration` (`apiserver.config.k8s.io/v1`): which resources are stored
//! how. Read, validated in upstream's words, and made into providers.
//!
//! Absent: `aescbc`, `secretbox`, KMS version 1, and AES keys of 192 bits. What asks for them is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::aes_gcm::GcmKey;
use super::kms::KmsProvider;
use super::provider::{Named, Provider, Providers};

/// The largest file that is read, in bytes.
pub const FILE_BYTES: u64 = 1 << 20;

/// A resource as the configuration names it: its group, which is empty for the core, and its plural.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupResource {
    pub group: String,
    pub resource: String,
}

impl GroupResource {
    /// From `plural` or `plural.group`.
    pub fn parse(text: &str) -> Self {
        let (resource, group) = text.split_once('.').unwrap_or((text, ""));
        GroupResource { group: group.to_owned(), resource: resource.to_owned() }
    }

    fn any() -> Self {
        GroupResource { group: "*".to_owned(), resource: "*".to_owned() }
    }

    fn any_of(group: &str) -> Self {
        GroupResource { group: group.to_owned(), resource: "*".to_owned() }
    }
}

impl std::fmt::Display for GroupResource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.group.as_str(), self.resource.as_str()) {
            ("", "*") => f.write_str("*."),
            ("", resource) => f.write_str(resource),
            (group, resource) => write!(f, "{resource}.{group}"),
        }
    }
}

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Syntax(#[from] yaml_serde::Error),
    #[error("got unexpected config type: {api_version}, Kind={kind}")]
    Type { api_version: String, kind: String },
    #[error("{}", .0.join(", "))]
    Invalid(Vec<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawConfig {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    resources: Option<Vec<RawRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<RawProvider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProvider {
    aesgcm: Option<RawKeys>,
    aescbc: Option<IgnoredAny>,
    secretbox: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    identity: bool,
    kms: Option<RawKms>,
}

/// `identity: {}` says something by being there.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeys {
    #[serde(default)]
    keys: Vec<RawKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawKms {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    name: String,
    cachesize: Option<i64>,
    #[serde(default)]
    endpoint: String,
    timeout: Option<String>,
}

/// How resources are stored, as configured.
pub struct Rules {
    rules: BTreeMap<GroupResource, Providers>,
    /// The plugins, each once.
    pub kms: Vec<Arc<KmsProvider>>,
}

impl Rules {
    /// Reads a configuration. `last` reads in every resource what no provider of it can.
    pub fn parse(text: &str, last: Option<&Arc<Provider>>) -> Result<Self, ConfigError> {
        let raw: RawConfig = yaml_serde::from_str(text)?;
        if raw.api_version != "apiserver.config.k8s.io/v1" || raw.kind != "EncryptionConfiguration" {
            return Err(ConfigError::Type { api_version: raw.api_version, kind: raw.kind });
        }
        let mut reader = Reader::default();
        let rules = reader.rules(raw.resources.unwrap_or_default(), last);
        if !reader.faults.is_empty() {
            return Err(ConfigError::Invalid(reader.faults));
        }
        Ok(Rules { rules, kms: reader.kms })
    }

    /// One resource under one provider, which also takes what is not encrypted yet.
    pub fn one(resource: &str, provider: &Arc<Provider>) -> Self {
        let providers = Providers(vec![provider.clone(), Arc::new(Provider::Identity)]);
        Rules { rules: BTreeMap::from([(GroupResource::parse(resource), providers)]), kms: Vec::new() }
    }

    /// Nothing is encrypted.
    pub fn none() -> Self {
        Rules { rules: BTreeMap::new(), kms: Vec::new() }
    }

    /// How a resource is stored; `None` where nothing is said, and for what is of no resource.
    pub fn of(&self, resource: &GroupResource) -> Option<&Providers> {
        if resource.resource.is_empty() {
            return None;
        }
        self.rules
            .get(resource)
            .or_else(|| self.rules.get(&GroupResource::any_of(&resource.group)))
            .or_else(|| self.rules.get(&GroupResource::any()))
    }
}

/// Reads rules, and notes every fault rather than the first.
#[derive(Default)]
struct Reader {
    faults: Vec<String>,
    kms: Vec<Arc<KmsProvider>>,
    names: BTreeSet<String>,
}

impl Reader {
    fn required(&mut self, field: &str, why: &str) {
        self.faults.push(format!("{field}: Required value: {why}"));
    }

    fn invalid(&mut self, field: &str, value: &str, why: &str) {
        self.faults.push(format!("{field}: Invalid value: {value:?}: {why}"));
    }

    fn rules(
        &mut self,
        raw: Vec<RawRule>,
        last: Option<&Arc<Provider>>,
    ) -> BTreeMap<GroupResource, Providers> {
        let mut rules: BTreeMap<GroupResource, Providers> = BTreeMap::new();
        if raw.is_empty() {
            self.required("resources", "at least one resources is required");
        }
        for (index, rule) in raw.into_iter().enumerate() {
            let field = format!("resources[{index}]");
            let resources = self.resources(&format!("{field}.resources"), &rule.resources);
            let providers = self.providers(&format!("{field}.providers"), rule.providers);
            for resource in resources {
                for wider in [GroupResource::any_of(&resource.group), GroupResource::any()] {
                    if rules.contains_key(&wider) {
                        let fault = format!(
                            "resource {:?} is masked by earlier rule {:?}",
                            resource.to_string(),
                            wider.to_string()
                        );
                        self.faults.push(fault);
                    }
                }
                let list = rules.entry(resource).or_insert_with(|| Providers(Vec::new()));
                list.0.extend(providers.iter().cloned());
            }
        }
        for list in rules.values_mut() {
            list.0.extend(last.cloned());
        }
        rules
    }

    fn resources(&mut self, field: &str, names: &[String]) -> Vec<GroupResource> {
        if names.is_empty() {
            self.required(field, &format!("at least one {field} is required"));
        }
        let parsed: Vec<_> = names.iter().map(|name| GroupResource::parse(name)).collect();
        let (mut duplicate, mut overlap) = (false, false);
        for (index, one) in parsed.iter().enumerate() {
            for (other_index, other) in parsed.iter().enumerate() {
                if index != other_index {
                    duplicate |= one == other;
                    let wildcard = one.resource == "*" || other.resource == "*";
                    overlap |= one != other
                        && (*one == GroupResource::any() || one.group == other.group && wildcard);
                }
            }
        }
        if duplicate {
            let why = "the same resource cannot be specified multiple times";
            self.invalid(field, &names.join(","), why);
        }
        if overlap {
            let why = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked";
            self.invalid(field, &names.join(","), why);
        }
        for (index, (name, resource)) in names.iter().zip(&parsed).enumerate() {
            if let Some(fault) = name_fault(name, resource) {
                self.invalid(&format!("{field}[{index}]"), name, fault);
            }
        }
        parsed
    }

    fn providers(&mut self, field: &str, raw: Vec<RawProvider>) -> Vec<Arc<Provider>> {
        if raw.is_empty() {
            self.required(field, &format!("at least one {field} is required"));
        }
        let mut providers = Vec::new();
        for (index, provider) in raw.into_iter().enumerate() {
            let field = format!("{field}[{index}]");
            let found = [
                provider.aesgcm.is_some(),
                provider.aescbc.is_some(),
                provider.secretbox.is_some(),
                provider.identity,
                provider.kms.is_some(),
            ];
            match found.iter().filter(|found| **found).count() {
                0 => {
                    let why = "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity";
                    self.invalid(&field, "", why);
                }
                1 => providers.extend(self.provider(&field, provider).map(Arc::new)),
                _ => {
                    let why = "more than one provider specified in a single element, should split into different list elements";
                    self.invalid(&field, "", why);
                }
            }
        }
        providers
    }

    fn provider(&mut self, field: &str, raw: RawProvider) -> Option<Provider> {
        if let Some(keys) = raw.aesgcm {
            return self.keys(&format!("{field}.aesgcm.keys"), keys.keys).map(Provider::AesGcm);
        }
        if let Some(kms) = raw.kms {
            return self.kms(&format!("{field}.kms"), kms);
        }
        for (name, found) in [("aescbc", &raw.aescbc), ("secretbox", &raw.secretbox)] {
            if found.is_some() {
                let why = "is not supported by this server; use aesgcm or kms";
                self.faults.push(format!("{field}.{name}: Forbidden: {why}"));
                return None;
            }
        }
        Some(Provider::Identity)
    }

    fn keys(&mut self, field: &str, raw: Vec<RawKey>) -> Option<Vec<Named<GcmKey>>> {
        if raw.is_empty() {
            self.required(field, "at least one keys is required");
        }
        let mut keys = Vec::new();
        for (index, key) in raw.into_iter().enumerate() {
            let field = format!("{field}[{index}]");
            if key.name.is_empty() {
                self.required(&format!("{field}.name"), "name is a mandatory field for a key");
            }
            let field = format!("{field}.secret");
            if key.secret.is_empty() {
                self.required(&field, "secret is a mandatory field for a key");
                continue;
            }
            let Ok(secret) = BASE64.decode(&key.secret) else {
                self.invalid(&field, "REDACTED", "secrets must be base64 encoded");
                continue;
            };
            match GcmKey::new(&secret) {
                Some(secret) => keys.push(Named { name: key.name, key: secret }),
                None if secret.len() == 24 => {
                    self.invalid(&field, "REDACTED", "keys of 192 bits are not supported by this server");
                }
                None => {
                    let length = secret.len();
                    let why = format!(
                        "secret is not of the expected length, got {length}, expected one of [16 24 32]"
                    );
                    self.invalid(&field, "REDACTED", &why);
                }
            }
        }
        (!keys.is_empty()).then_some(keys)
    }

    fn kms(&mut self, field: &str, raw: RawKms) -> Option<Provider> {
        let before = self.faults.len();
        match raw.api_version.as_str() {
            "v2" => {}
            "" | "v1" => self.faults.push(format!(
                "{field}.apiVersion: Forbidden: KMSv1 is deprecated and is not supported by this server. Use KMSv2 instead."
            )),
            other => {
                let why = "unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported";
                self.invalid(&format!("{field}.apiVersion"), other, why);
            }
        }
        if raw.name.is_empty() {
            self.required(&format!("{field}.name"), "name is a mandatory field for a provider");
        }
        if raw.name.contains(':') {
            let why = format!("invalid KMS provider name {}, must not contain ':'", raw.name);
            self.invalid(&format!("{field}.name"), &raw.name, &why);
        }
        if !self.names.insert(raw.name.clone()) {
            let why = format!("duplicate KMS provider name {}, names must be unique", raw.name);
            self.invalid(&format!("{field}.name"), &raw.name, &why);
        }
        if let Some(size) = raw.cachesize {
            self.invalid(
                &format!("{field}.cachesize"),
                &size.to_string(),
                "cachesize is not supported in v2",
            );
        }
        let timeout = raw.timeout.as_deref().map_or(Some(Duration::from_secs(3)), parse_duration);
        if timeout.is_none_or(|timeout| timeout.is_zero()) {
            let value = raw.timeout.as_deref().unwrap_or_default();
            self.invalid(&format!("{field}.timeout"), value, "timeout should be a positive value");
        }
        let path = match raw.endpoint.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => Some(path),
            Some((scheme, _)) if scheme != "unix" => {
                let why = format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported");
                self.invalid(&format!("{field}.endpoint"), &raw.endpoint, &why);
                None
            }
            Some(_) | None => {
                let why = "endpoint is a mandatory field for a kms";
                self.invalid(&format!("{field}.endpoint"), &raw.endpoint, why);
                None
            }
        };
        if self.faults.len() > before {
            return None;
        }
        // `unix:///run/kms.sock` is a path, `unix://@name` would be none.
        let kms = Arc::new(KmsProvider::new(raw.name, PathBuf::from(path?), timeout?));
        self.kms.push(kms.clone());
        Some(Provider::Kms(kms))
    }
}

fn name_fault(name: &str, resource: &GroupResource) -> Option<&'static str> {
    if name.chars().any(char::is_uppercase) {
        Some("resource name should not contain capital letters")
    } else if name == "*" {
        Some("use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources")
    } else if matches!(name, "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations") {
        Some("resources which do not have REST API/s cannot be encrypted")
    } else if resource.group == "events.k8s.io" {
        Some(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
        )
    } else if resource.group == "extensions" {
        Some("'extensions' group has been removed and cannot be used for encryption")
    } else if resource.group == "*" && resource.resource != "*" {
        Some("encrypting the same resource across groups is not supported")
    } else {
        None
    }
}

/// A duration as Go writes it: `3s`, `1m30s`, `1.5h`.
fn parse_duration(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().ok()?;
        let units =
            [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
        let (unit, seconds) = units.into_iter().find(|(unit, _)| after.starts_with(unit))?;
        total += number * seconds;
        rest = &after[unit.len()..];
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok())?
}

#[cfg(test)]
mod tests;
