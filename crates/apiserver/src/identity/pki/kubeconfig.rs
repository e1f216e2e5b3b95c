//! The kubeconfig that a client certificate is handed out in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::certificate::KeyedCertificate;

/// A kubeconfig with everything embedded.
pub fn kubeconfig(server_url: &str, ca_pem: &str, user: &str, certificate: &KeyedCertificate) -> String {
    let ca = STANDARD.encode(ca_pem);
    let client = STANDARD.encode(&certificate.certificate_pem);
    let key = STANDARD.encode(&certificate.key_pem);
    // A JSON string is a YAML scalar.
    let server_url = serde_json::Value::from(server_url);
    let user = serde_json::Value::from(user);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: sampan\n\
         \x20 cluster:\n\
         \x20   certificate-authority-data: {ca}\n\
         \x20   server: {server_url}\n\
         users:\n\
         - name: {user}\n\
         \x20 user:\n\
         \x20   client-certificate-data: {client}\n\
         \x20   client-key-data: {key}\n\
         contexts:\n\
         - name: sampan\n\
         \x20 context:\n\
         \x20   cluster: sampan\n\
         \x20   user: {user}\n\
         current-context: sampan\n\
         preferences: {{}}\n"
    )
}
