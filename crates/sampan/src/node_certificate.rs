//! A node's own certificate: asked for once with whatever the kubeconfig has, kept, and from then on renewed
//! by the node itself before it expires. And whom the node trusts, which follows rotations.
//!
//! Both are files below the data directory, so that a restart needs nothing else. The key never leaves the
//! machine. A request that nobody approves is waited for.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use sampan_api::{Gvr, Status};
use sampan_apiserver::identity::pki::{KeyedCertificate, PrivateDirectory};
use sampan_apiserver::identity::{NODE_PREFIX, NODES_GROUP};
use sampan_client::kubeconfig::{Access, Credentials};
use sampan_client::{Backend as _, ListOptions, RemoteBackend, Target, WatchEvent, WatchStream};
use serde_json::{Value, json};

const REQUESTS: Gvr = Gvr::new("certificates.k8s.io", "v1", "certificatesigningrequests");
const CONFIG_MAPS: Gvr = Gvr::new("", "v1", "configmaps");
const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const CERTIFICATE: &str = "node-client.pem";
const AUTHORITIES: &str = "cluster-ca.crt";
/// Timers stand still while a machine is suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(6 * 3600);
const RETRY_FROM: Duration = Duration::from_secs(1);
const RETRY_TO: Duration = Duration::from_secs(60);

/// The way to the server under the node's own identity.
pub struct NodeCertificate {
    node: String,
    directory: PrivateDirectory,
    /// As the kubeconfig says, with what was learnt since.
    access: Access,
    remote: RemoteBackend,
    /// Under the kubeconfig's identity, for when the node's own is worth nothing.
    first: RemoteBackend,
    current: Option<KeyedCertificate>,
}

impl NodeCertificate {
    /// Reads what an earlier run kept. `access` is the kubeconfig's.
    pub fn open(directory: PathBuf, node: &str, mut access: Access) -> Result<Self> {
        let directory = PrivateDirectory::open(&directory)?;
        if let (Some(known), Some(kept)) = (&mut access.certificate_authority, directory.read(AUTHORITIES)?) {
            // Either may be the newer one.
            known.push(b'\n');
            known.extend_from_slice(kept.as_bytes());
        }
        let current = match directory.read(CERTIFICATE)? {
            None => None,
            // One that cannot be read is asked for anew.
            Some(text) => KeyedCertificate::from_pem(&text).ok(),
        };
        let current = current.filter(|certificate| Timestamp::now() < certificate.facts.not_after);
        let remote = RemoteBackend::new(&access, "sampan-agent")?;
        let first = RemoteBackend::new(&access, "sampan-agent")?;
        let mut own =
            NodeCertificate { node: node.to_owned(), directory, access, remote, first, current: None };
        if let Some(current) = current {
            own.take(current)?;
        }
        Ok(own)
    }

    /// The API under the node's identity once it has one; follows renewals.
    pub fn remote(&self) -> RemoteBackend {
        self.remote.clone()
    }

    /// Waits until the node has a certificate that lives.
    pub async fn ready(&mut self) {
        let mut delay = RETRY_FROM;
        while self.current.is_none() {
            if let Err(error) = self.renew().await {
                tracing::warn!(error = format!("{error:#}"), "the node has no certificate yet");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(RETRY_TO);
            }
        }
    }

    /// Renews the certificate and follows the cluster's authorities for as long as it is polled.
    pub async fn keep_fresh(mut self) {
        let mut delay = RETRY_FROM;
        loop {
            let now = Timestamp::now();
            let due = self.current.as_ref().map_or(now, |certificate| certificate.facts.renew_at());
            let left = Duration::try_from(due.duration_since(now)).unwrap_or_default();
            let followed = tokio::select! {
                () = tokio::time::sleep(left.min(LONGEST_SLEEP)) => None,
                bundle = self.changed_authorities() => Some(bundle),
            };
            let done = match followed {
                Some(Ok(bundle)) => self.follow(bundle).await,
                Some(Err(error)) => Err(error),
                None if Timestamp::now() < due => Ok(()),
                None => self.renew().await,
            };
            match done {
                Ok(()) => delay = RETRY_FROM,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "the node's identity is not renewed yet");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(RETRY_TO);
                }
            }
        }
    }

    /// Asks for a certificate as the node itself, or else with what the kubeconfig has, and uses it.
    async fn renew(&mut self) -> Result<()> {
        let certificate = match self.current {
            None => self.request(&self.first).await?,
            Some(_) => match self.request(&self.remote).await {
                Ok(certificate) => certificate,
                Err(error) => {
                    tracing::debug!(error = format!("{error:#}"), "the node's own identity is not taken");
                    self.request(&self.first).await?
                }
            },
        };
        self.directory.write(CERTIFICATE, &certificate.to_pem())?;
        tracing::info!(not_after = %certificate.facts.not_after, "the node has a new certificate");
        self.take(certificate)
    }

    async fn request(&self, backend: &RemoteBackend) -> Result<KeyedCertificate> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, NODES_GROUP);
        params.distinguished_name.push(DnType::CommonName, format!("{NODE_PREFIX}{}", self.node));
        let request = params.serialize_request(&key)?.pem()?;
        let body = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"generateName": "node-csr-"},
            "spec": {"request": STANDARD.encode(request), "signerName": SIGNER,
                "usages": ["digital signature", "client auth"]}});
        let target = Target { gvr: &REQUESTS, namespace: None, name: "", subresource: None };
        let created = backend.create(target, body.to_string().into()).await?;
        let name = created.header.name.to_string();
        tracing::info!(name, "asked for the node's certificate; it waits until the request is approved");
        let pem = signed(backend, &name).await?;
        Ok(KeyedCertificate::new(pem, key.serialize_pem())?)
    }

    /// Waits until the cluster's authorities are others than those that are known.
    async fn changed_authorities(&self) -> Result<String> {
        let kept = self.directory.read(AUTHORITIES)?;
        loop {
            let mut events =
                watch(&self.remote, &CONFIG_MAPS, Some("kube-public"), "kube-root-ca.crt").await?;
            while let Some(event) = events.next().await {
                let (WatchEvent::Added(map) | WatchEvent::Modified(map)) = event? else { continue };
                let map: Value = map.decode()?;
                if let Some(bundle) = map["data"]["ca.crt"].as_str()
                    && kept.as_deref() != Some(bundle)
                {
                    return Ok(bundle.to_owned());
                }
            }
        }
    }

    /// Trusts other authorities. What one before signed ends with it, so that the certificate is renewed.
    async fn follow(&mut self, bundle: String) -> Result<()> {
        let rotated = self.directory.read(AUTHORITIES)?.is_some();
        self.directory.write(AUTHORITIES, &bundle)?;
        self.access.certificate_authority = Some(bundle.into_bytes());
        self.remote.replace(&self.access).context("the cluster's authorities cannot be used")?;
        if rotated { self.renew().await } else { Ok(()) }
    }

    fn take(&mut self, certificate: KeyedCertificate) -> Result<()> {
        let pair =
            (certificate.certificate_pem.clone().into_bytes(), certificate.key_pem.clone().into_bytes());
        self.access.credentials = Credentials { certificate: Some(pair), token: None };
        self.remote.replace(&self.access)?;
        self.current = Some(certificate);
        Ok(())
    }
}

/// Waits for the certificate of a request.
async fn signed(backend: &RemoteBackend, name: &str) -> Result<String> {
    loop {
        let mut events = watch(backend, &REQUESTS, None, name).await?;
        while let Some(event) = events.next().await {
            let (WatchEvent::Added(request) | WatchEvent::Modified(request)) = event? else { continue };
            let request: Value = request.decode()?;
            if let Some(pem) = request["status"]["certificate"].as_str() {
                return Ok(String::from_utf8(STANDARD.decode(pem)?)?);
            }
            let conditions = request["status"]["conditions"].as_array().into_iter().flatten();
            let mut refusals = conditions.filter(|one| one["type"] == "Denied" || one["type"] == "Failed");
            if let Some(condition) = refusals.next() {
                bail!("the request {name} was refused: {}", condition["message"]);
            }
        }
    }
}

/// Follows one object.
async fn watch(
    backend: &RemoteBackend,
    gvr: &Gvr,
    namespace: Option<&str>,
    name: &str,
) -> Result<WatchStream, Status> {
    let options =
        ListOptions { field_selector: Some(format!("metadata.name={name}")), ..ListOptions::default() };
    backend.watch(gvr, namespace, &options).await
}
