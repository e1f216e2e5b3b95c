//! Reads kubeconfig files: where a cluster is, and how to prove who one is.
//!
//! Certificates, bearer tokens and token files are understood. Credential plugins (`exec`,
//! `auth-provider`) and unverified TLS are refused by name rather than ignored.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// The most bytes that are read of a kubeconfig or of a file that it names.
const FILE_BYTES: u64 = 4 << 20;

/// How to reach a cluster, as one context of a kubeconfig tells it.
#[derive(Clone, Debug)]
pub struct Access {
    /// The server's URL.
    pub server: String,
    /// The authorities that the server's certificate must come from, in PEM; `None` is those of
    /// the system.
    pub certificate_authority: Option<Vec<u8>>,
    /// The name that the certificate must have, instead of the URL's.
    pub tls_server_name: Option<String>,
    pub credentials: Credentials,
    /// The namespace of the context; `default` where it has none.
    pub namespace: String,
}

/// How to prove who one is.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Certificate chain and key, in PEM.
    pub certificate: Option<(Vec<u8>, Vec<u8>)>,
    pub token: Option<Token>,
}

#[derive(Clone)]
pub enum Token {
    Fixed(String),
    /// Read again from time to time, since it is renewed.
    File(PathBuf),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificate = if self.certificate.is_some() { "a certificate" } else { "no certificate" };
        let token = if self.token.is_some() { "a token" } else { "no token" };
        write!(f, "Credentials({certificate}, {token})")
    }
}

/// A kubeconfig that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KubeconfigError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is longer than {FILE_BYTES} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("{} is not a kubeconfig", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: yaml_serde::Error,
    },
    #[error("{} has no current-context; name one", path.display())]
    NoCurrentContext { path: PathBuf },
    #[error("{} has no {kind} {name:?}", path.display())]
    Missing { path: PathBuf, kind: &'static str, name: String },
    #[error("{field} of {} is not base64", path.display())]
    Base64 {
        path: PathBuf,
        field: &'static str,
        #[source]
        source: base64::DecodeError,
    },
    #[error("{} uses {field}, which is not supported", path.display())]
    Unsupported { path: PathBuf, field: &'static str },
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct RawKubeconfig {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
    contexts: Vec<NamedContext>,
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    #[serde(default)]
    cluster: RawCluster,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct RawCluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: bool,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: RawUser,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct RawUser {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    exec: Option<serde::de::IgnoredAny>,
    auth_provider: Option<serde::de::IgnoredAny>,
    username: Option<String>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    #[serde(default)]
    context: RawContext,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawContext {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

impl Access {
    /// Reads a context of a kubeconfig, the current one where none is named. Paths in it are
    /// relative to it.
    pub fn read(path: &Path, context: Option<&str>) -> Result<Self, KubeconfigError> {
        let source = Source { path };
        let bytes = read_file(path)?;
        let raw: RawKubeconfig = yaml_serde::from_slice(&bytes)
            .map_err(|error| KubeconfigError::Parse { path: path.to_owned(), source: error })?;
        let current = raw.current_context.as_deref().filter(|name| !name.is_empty());
        let name =
            context.or(current).ok_or_else(|| KubeconfigError::NoCurrentContext { path: path.to_owned() })?;
        let missing = |kind, name: &str| KubeconfigError::Missing {
            path: path.to_owned(),
            kind,
            name: name.to_owned(),
        };
        let context = raw.contexts.into_iter().find(|context| context.name == name);
        let context = context.ok_or_else(|| missing("context", name))?.context;
        let cluster = raw.clusters.into_iter().find(|cluster| cluster.name == context.cluster);
        let cluster = cluster.ok_or_else(|| missing("cluster", &context.cluster))?.cluster;
        let user = raw.users.into_iter().find(|user| user.name == context.user);
        let user = match user {
            Some(user) => user.user,
            None if context.user.is_empty() => RawUser::default(),
            None => return Err(missing("user", &context.user)),
        };
        if cluster.insecure_skip_tls_verify {
            return Err(source.unsupported("insecure-skip-tls-verify"));
        }
        let certificate_authority = source.data(
            "certificate-authority-data",
            cluster.certificate_authority_data,
            cluster.certificate_authority,
        )?;
        Ok(Access {
            server: cluster.server,
            certificate_authority,
            tls_server_name: cluster.tls_server_name,
            credentials: source.credentials(user)?,
            namespace: context.namespace.filter(|name| !name.is_empty()).unwrap_or_else(|| "default".into()),
        })
    }
}

/// The file that values come from.
struct Source<'a> {
    path: &'a Path,
}

impl Source<'_> {
    fn unsupported(&self, field: &'static str) -> KubeconfigError {
        KubeconfigError::Unsupported { path: self.path.to_owned(), field }
    }

    fn credentials(&self, user: RawUser) -> Result<Credentials, KubeconfigError> {
        if user.exec.is_some() {
            return Err(self.unsupported("exec"));
        }
        if user.auth_provider.is_some() {
            return Err(self.unsupported("auth-provider"));
        }
        if user.username.is_some() {
            return Err(self.unsupported("username"));
        }
        let certificate =
            self.data("client-certificate-data", user.client_certificate_data, user.client_certificate)?;
        let key = self.data("client-key-data", user.client_key_data, user.client_key)?;
        // The file wins over the text, as in other clients.
        let token = match (user.token_file, user.token) {
            (Some(file), _) => Some(Token::File(self.beside(&file))),
            (None, Some(token)) if !token.is_empty() => Some(Token::Fixed(token)),
            (None, _) => None,
        };
        Ok(Credentials { certificate: certificate.zip(key), token })
    }

    /// A value that is embedded or in a file; embedded wins.
    fn data(
        &self,
        field: &'static str,
        embedded: Option<String>,
        file: Option<PathBuf>,
    ) -> Result<Option<Vec<u8>>, KubeconfigError> {
        if let Some(text) = embedded.filter(|text| !text.is_empty()) {
            let compact: String = text.split_whitespace().collect();
            let bytes = STANDARD.decode(compact).map_err(|source| KubeconfigError::Base64 {
                path: self.path.to_owned(),
                field,
                source,
            })?;
            return Ok(Some(bytes));
        }
        let file = file.filter(|file| !file.as_os_str().is_empty());
        file.map(|file| read_file(&self.beside(&file))).transpose()
    }

    fn beside(&self, file: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| file.to_owned(), |directory| directory.join(file))
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, KubeconfigError> {
    use std::io::Read as _;
    let read = |source| KubeconfigError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(read)?;
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(KubeconfigError::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
