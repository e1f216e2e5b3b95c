//! Configuration: a YAML file and flags, checked once into something immutable.
//!
//! Raw values come from both (flags win); unknown fields of the file are refused by name.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sampan_api::quantity::Quantity;
use sampan_apiserver::ServerLimits;
use sampan_apiserver::expiry::EVENT_TTL;
use sampan_apiserver::identity::pki::Lives;
use sampan_apiserver::strategy::service::ServiceRange;
use sampan_net::IpNet;
use sampan_runtime::protocol::LogLimits;
use serde::Deserialize;

use crate::logging::LogFormat;

mod audit;
mod authentication;
mod authorization;
mod storage;

pub use audit::{Audit, RawAudit};
pub use authentication::{Authentication, RawAuthentication};
pub use authorization::{Authorization, RawAuthorization};
pub use storage::{RawStorage, Storage};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

pub const DEFAULT_DATA_DIR: &str = "/var/lib/sampan";

/// What `sampan server` can be told, on the command line or in the file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RawConfig {
    /// Where everything is kept [default: /var/lib/sampan]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address and port of the API [default: 127.0.0.1:6443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Address at which the other servers' pods reach this one [default: that of --listen, if it is not
    /// loopback]
    #[arg(long, value_name = "ADDRESS")]
    pub advertise_address: Option<String>,
    /// Further name or address in the serving certificate; may be repeated
    #[arg(long, value_name = "NAME")]
    pub tls_san: Vec<String>,
    /// Name of this node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Addresses of pods [default: 10.42.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub cluster_cidr: Option<String>,
    /// Addresses of this node's pods, in the cluster's range [default: its first /24]
    #[arg(long, value_name = "CIDR")]
    pub node_cidr: Option<String>,
    /// Addresses of services [default: 10.43.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pub service_cidr: Option<String>,
    /// Ports of NodePort services [default: 30000-32767]
    #[arg(long, value_name = "LOW-HIGH")]
    pub service_node_port_range: Option<String>,
    /// Networks whose local addresses answer on node ports, beyond loopback; may be repeated
    #[arg(long, value_name = "CIDR")]
    pub node_port_addresses: Vec<String>,
    /// DNS domain of the cluster [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    pub cluster_domain: Option<String>,
    /// The most pods on this node [default: 110]
    #[arg(long, value_name = "COUNT")]
    pub max_pods: Option<u32>,
    /// Size at which the log file of a container is rotated [default: 10Mi]
    #[arg(long, value_name = "QUANTITY")]
    pub container_log_max_size: Option<String>,
    /// Log files that are kept of one container's run, at least 2 [default: 5]
    #[arg(long, value_name = "COUNT")]
    pub container_log_max_files: Option<u32>,
    /// How long events are kept after they were last written [default: 1h]
    #[arg(long, value_name = "DURATION")]
    pub event_ttl: Option<String>,
    /// Reads that the API serves at once; divided, with writes, among the priority levels [default: 400]
    #[arg(long, value_name = "COUNT")]
    pub max_requests_inflight: Option<u32>,
    /// Writes that the API serves at once [default: 200]
    #[arg(long, value_name = "COUNT")]
    pub max_mutating_requests_inflight: Option<u32>,
    /// Watches that one user may have open [default: 10000]
    #[arg(long, value_name = "COUNT")]
    pub max_watches_per_user: Option<u32>,
    /// Where the cluster's state is kept
    #[command(flatten)]
    pub storage: RawStorage,
    /// Whose credentials are accepted
    #[command(flatten)]
    pub authentication: RawAuthentication,
    /// Who decides whether a request may go on
    #[command(flatten)]
    pub authorization: RawAuthorization,
    /// What is recorded of requests
    #[command(flatten)]
    pub audit: RawAudit,
    /// Life of the server's own certificates, which renew themselves [default: 24h]
    #[arg(long, value_name = "DURATION")]
    pub certificate_life: Option<String>,
    /// Life of the certificate in the admin kubeconfig, which is renewed in place [default: 365d]
    #[arg(long, value_name = "DURATION")]
    pub admin_certificate_life: Option<String>,
    /// Longest life of certificates that are signed on request (`certificates.k8s.io`) [default: 365d]
    #[arg(long, value_name = "DURATION")]
    pub cluster_signing_duration: Option<String>,
    /// Which resources are stored encrypted, and how: Kubernetes' EncryptionConfiguration, read again when it
    /// changes [default: secrets, with a key of this server's own]
    #[arg(long, value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,
    /// Log filter: error, warn, info, debug, trace, or target=level,… [default: info]
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Log format [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub advertise_address: Option<IpAddr>,
    pub storage: Storage,
    pub tls_san: Vec<String>,
    pub node_name: String,
    pub cluster_cidr: IpNet,
    pub node_cidr: IpNet,
    pub service_range: ServiceRange,
    pub node_ports: RangeInclusive<u16>,
    pub node_port_addresses: Vec<IpNet>,
    pub cluster_domain: String,
    pub max_pods: u32,
    pub container_log: LogLimits,
    pub event_ttl: Duration,
    pub limits: ServerLimits,
    pub authentication: Authentication,
    pub authorization: Authorization,
    pub audit: Option<Audit>,
    pub lives: Lives,
    pub cluster_signing_duration: Duration,
    pub encryption_provider_config: Option<PathBuf>,
    pub log: String,
    pub log_format: LogFormat,
}

impl Config {
    /// The cgroup of all pods. Servers with other data directories on this machine have others.
    pub fn cgroup_root(&self) -> PathBuf {
        if self.data_dir == Path::new(DEFAULT_DATA_DIR) {
            return "/sampan".into();
        }
        let hash = self
            .data_dir
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
            });
        format!("/sampan-{:08x}", hash as u32).into()
    }
}

impl RawConfig {
    /// Reads a configuration file.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        yaml_serde::from_str(&text)
            .with_context(|| format!("{} is not a valid configuration", path.display()))
    }

    /// This configuration, with what it leaves out taken from another one.
    pub fn or(self, other: RawConfig) -> RawConfig {
        let list = |own: Vec<String>, other: Vec<String>| if own.is_empty() { other } else { own };
        RawConfig {
            data_dir: self.data_dir.or(other.data_dir),
            listen: self.listen.or(other.listen),
            advertise_address: self.advertise_address.or(other.advertise_address),
            storage: self.storage.or(other.storage),
            tls_san: list(self.tls_san, other.tls_san),
            node_name: self.node_name.or(other.node_name),
            cluster_cidr: self.cluster_cidr.or(other.cluster_cidr),
            node_cidr: self.node_cidr.or(other.node_cidr),
            service_cidr: self.service_cidr.or(other.service_cidr),
            service_node_port_range: self.service_node_port_range.or(other.service_node_port_range),
            node_port_addresses: list(self.node_port_addresses, other.node_port_addresses),
            cluster_domain: self.cluster_domain.or(other.cluster_domain),
            max_pods: self.max_pods.or(other.max_pods),
            container_log_max_size: self.container_log_max_size.or(other.container_log_max_size),
            container_log_max_files: self.container_log_max_files.or(other.container_log_max_files),
            event_ttl: self.event_ttl.or(other.event_ttl),
            max_requests_inflight: self.max_requests_inflight.or(other.max_requests_inflight),
            max_mutating_requests_inflight: self
                .max_mutating_requests_inflight
                .or(other.max_mutating_requests_inflight),
            max_watches_per_user: self.max_watches_per_user.or(other.max_watches_per_user),
            authentication: self.authentication.or(other.authentication),
            authorization: self.authorization.or(other.authorization),
            audit: self.audit.or(other.audit),
            certificate_life: self.certificate_life.or(other.certificate_life),
            admin_certificate_life: self.admin_certificate_life.or(other.admin_certificate_life),
            cluster_signing_duration: self.cluster_signing_duration.or(other.cluster_signing_duration),
            encryption_provider_config: self.encryption_provider_config.or(other.encryption_provider_config),
            log: self.log.or(other.log),
            log_format: self.log_format.or(other.log_format),
        }
    }

    pub fn check(self) -> Result<Config> {
        let text = |value: Option<String>, default: &str| value.unwrap_or_else(|| default.to_owned());
        let listen = text(self.listen, "127.0.0.1:6443");
        let listen: SocketAddr = listen
            .parse()
            .with_context(|| format!("listen: {listen:?} is not ADDRESS:PORT, as 127.0.0.1:6443 is"))?;
        let advertise_address = self
            .advertise_address
            .map(|text| {
                text.parse()
                    .with_context(|| format!("advertiseAddress: {text:?} is no address, as 10.0.0.1 is"))
            })
            .transpose()?;
        let cluster = text(self.cluster_cidr, "10.42.0.0/16");
        let cluster_cidr: IpNet = cluster
            .parse()
            .with_context(|| format!("clusterCidr: {cluster:?} is not a CIDR, as 10.42.0.0/16 is"))?;
        let first = IpNet::new(cluster_cidr.network(), cluster_cidr.prefix_len().max(24))
            .expect("a longer prefix is valid");
        let node_cidr = match self.node_cidr {
            None => first,
            Some(text) => {
                text.parse().with_context(|| format!("nodeCidr: {text:?} is not a CIDR, as {first} is"))?
            }
        };
        if !cluster_cidr.contains(&node_cidr) {
            bail!("nodeCidr {node_cidr} is not in clusterCidr {cluster_cidr}");
        }
        let service = text(self.service_cidr, "10.43.0.0/16");
        let service_range: ServiceRange = service.parse().context("serviceCidr")?;
        let service_net: IpNet = service.parse().context("serviceCidr")?;
        if cluster_cidr.contains(&service_net) || service_net.contains(&cluster_cidr) {
            bail!(
                "clusterCidr {cluster_cidr} and serviceCidr {service_range} overlap; choose separate ranges"
            );
        }
        let node_port_addresses = self
            .node_port_addresses
            .iter()
            .map(|text| {
                text.parse().with_context(|| {
                    format!("nodePortAddresses: {text:?} is not a CIDR, as 192.168.1.0/24 is")
                })
            })
            .collect::<Result<_>>()?;
        let node_name = match self.node_name {
            Some(name) => name,
            None => host_name()?,
        };
        let faults = sampan_api::names::dns1123_subdomain(&node_name);
        if let Some(fault) = faults.first() {
            bail!("nodeName: {node_name:?} cannot name a node: {fault}");
        }
        let max_pods = self.max_pods.unwrap_or(110);
        if max_pods == 0 {
            bail!("maxPods: must be at least 1");
        }
        let event_ttl = duration("eventTtl", self.event_ttl.as_deref(), EVENT_TTL.as_secs())?;
        if event_ttl.is_zero() {
            bail!("eventTtl: must be more than nothing");
        }
        let mut limits = ServerLimits::default();
        let concurrency = &mut limits.concurrency;
        if let Some(count) = self.max_requests_inflight {
            concurrency.max_requests_in_flight = count;
        }
        if let Some(count) = self.max_mutating_requests_inflight {
            concurrency.max_mutating_requests_in_flight = count;
        }
        if concurrency.total() == 0 {
            bail!("maxRequestsInflight and maxMutatingRequestsInflight: must not both be 0");
        }
        match self.max_watches_per_user {
            Some(0) => bail!("maxWatchesPerUser: must be at least 1"),
            Some(count) => limits.max_watches_per_user = count as usize,
            None => {}
        }
        let cluster_domain = text(self.cluster_domain, "cluster.local");
        Ok(Config {
            data_dir: std::path::absolute(self.data_dir.unwrap_or_else(|| DEFAULT_DATA_DIR.into()))?,
            listen,
            advertise_address,
            storage: self.storage.check()?,
            tls_san: self.tls_san,
            node_name,
            cluster_cidr,
            node_cidr,
            service_range,
            node_ports: port_range(&text(self.service_node_port_range, "30000-32767"))?,
            node_port_addresses,
            authentication: self.authentication.check(&cluster_domain)?,
            cluster_domain,
            max_pods,
            container_log: log_limits(self.container_log_max_size, self.container_log_max_files)?,
            event_ttl,
            limits,
            authorization: self.authorization.check()?,
            audit: self.audit.check()?,
            lives: Lives {
                own: life("certificateLife", self.certificate_life, Lives::default().own)?,
                admin: life("adminCertificateLife", self.admin_certificate_life, Lives::default().admin)?,
            },
            cluster_signing_duration: life("clusterSigningDuration", self.cluster_signing_duration, YEAR)?,
            encryption_provider_config: self.encryption_provider_config,
            log: text(self.log, "info"),
            log_format: self.log_format.unwrap_or_default(),
        })
    }
}

/// A duration as kube-apiserver's flags have it: `1m30s`.
fn duration(field: &str, text: Option<&str>, default_s: u64) -> Result<Duration> {
    let Some(text) = text else { return Ok(Duration::from_secs(default_s)) };
    let parsed = sampan_api::duration::parse(text);
    parsed.with_context(|| format!("{field}: {text:?} is no duration, as 1m30s is"))
}

/// What is kept of a container's log. Of fewer than two files there would be times with nothing to read.
fn log_limits(size: Option<String>, files: Option<u32>) -> Result<LogLimits> {
    let mut limits = LogLimits::default();
    if let Some(text) = size {
        let bytes = text.parse::<Quantity>().ok().and_then(|quantity| u64::try_from(quantity.value()).ok());
        limits.max_bytes = match bytes {
            Some(bytes @ 1..) => bytes,
            _ => bail!("containerLogMaxSize: {text:?} is no size, as 10Mi is"),
        };
    }
    match files {
        Some(0..2) => bail!("containerLogMaxFiles: must be at least 2"),
        Some(count) => limits.max_files = count,
        None => {}
    }
    Ok(limits)
}

/// A life of certificates: a number with its unit, whole seconds.
fn life(field: &str, text: Option<String>, default: Duration) -> Result<Duration> {
    let Some(text) = text else { return Ok(default) };
    let unit = |text: &str| {
        let at = text.find(|letter: char| !letter.is_ascii_digit())?;
        let (count, unit) = text.split_at(at);
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 24 * 3600,
            _ => return None,
        };
        count.parse::<u64>().ok()?.checked_mul(seconds)
    };
    match unit(&text) {
        // The authority ends before anything longer would.
        Some(seconds) if (1..=10 * YEAR.as_secs()).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => bail!("{field}: {text:?} is not a time up to ten years, as 90s, 30m, 24h and 365d are"),
    }
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>> {
    let parsed = text.split_once('-').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    match parsed {
        Some((low, high)) if 0 < low && low <= high => Ok(low..=high),
        _ => bail!("serviceNodePortRange: {text:?} is not LOW-HIGH, as 30000-32767 is"),
    }
}

fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("cannot read the host's name; set nodeName")?;
    Ok(name.to_string_lossy().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let error = yaml_serde::from_str::<RawConfig>("dataDirr: /x").expect_err("refused");
        assert!(error.to_string().contains("dataDirr"), "{error}");
    }

    #[test]
    fn wrong_values_name_their_field() {
        let check = |yaml: &str, field: &str| {
            let raw: RawConfig = yaml_serde::from_str(yaml).expect("known fields");
            let error = format!("{:#}", raw.check().expect_err("refused"));
            assert!(error.contains(field), "{error}");
        };
        check("listen: here", "listen");
        check("advertiseAddress: here", "advertiseAddress");
        check("storage: {place: redis://a}", "storage");
        check("clusterCidr: 10.42.0.0", "clusterCidr");
        check("serviceCidr: 10.43.0.0/8", "serviceCidr");
        check("serviceCidr: 10.42.0.0/16", "overlap");
        check("nodeName: a_b", "nodeName");
        check("serviceNodePortRange: 1", "serviceNodePortRange");
        check("maxPods: 0", "maxPods");
        check("containerLogMaxSize: much", "containerLogMaxSize");
        check("containerLogMaxSize: \"0\"", "containerLogMaxSize");
        check("containerLogMaxFiles: 1", "containerLogMaxFiles");
        check("eventTtl: soon", "eventTtl");
        check("eventTtl: 0s", "eventTtl");
        check("maxRequestsInflight: 0\nmaxMutatingRequestsInflight: 0", "maxRequestsInflight");
        check("maxWatchesPerUser: 0", "maxWatchesPerUser");
        for wrong in ["0s", "5", "m", "-1h", "11y", "4000d"] {
            check(&format!("clusterSigningDuration: {wrong:?}"), "clusterSigningDuration");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let flags = RawConfig { listen: Some("127.0.0.1:1".into()), ..RawConfig::default() };
        let file: RawConfig = yaml_serde::from_str("listen: 127.0.0.1:2\nnodeName: a").expect("valid");
        let config = flags.or(file).check().expect("valid");
        assert_eq!((config.listen.port(), config.node_name.as_str()), (1, "a"));
    }
}
