use std::error::Error as _;

use super::{Access, Token};

const CLUSTER: &str =
    "clusters: [{name: c, cluster: {server: 'https://h:1', certificate-authority-data: Q0E=}}]\n";
const CONTEXTS: &str = "contexts: [{name: a, context: {cluster: c, user: u}}, {name: b, context: {cluster: c, user: u, namespace: n}}]\n";

/// Reads a kubeconfig in a directory that also has the files `tls.crt` and `token`.
fn read(text: &str, context: Option<&str>) -> Result<Access, String> {
    let (process, thread) = (std::process::id(), std::thread::current().id());
    let directory = std::env::temp_dir().join(format!("sampan-kubeconfig-{process}-{thread:?}"));
    std::fs::create_dir_all(&directory).expect("a directory");
    std::fs::write(directory.join("tls.crt"), "CERT").expect("written");
    let path = directory.join("config");
    std::fs::write(&path, text).expect("written");
    let access = Access::read(&path, context);
    std::fs::remove_dir_all(&directory).expect("removed");
    access.map_err(|error| match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

fn config(user: &str) -> String {
    format!("{CLUSTER}{CONTEXTS}users: [{{name: u, user: {user}}}]\ncurrent-context: a\n")
}

#[test]
fn contexts_are_read() {
    let text = config("{client-certificate: tls.crt, client-key-data: S0VZ, token: t}");
    let access = read(&text, None).expect("valid");
    assert_eq!((access.server.as_str(), access.namespace.as_str()), ("https://h:1", "default"));
    assert_eq!(access.certificate_authority.as_deref(), Some(&b"CA"[..]));
    assert_eq!(access.credentials.certificate, Some((b"CERT".to_vec(), b"KEY".to_vec())));
    assert!(matches!(&access.credentials.token, Some(Token::Fixed(token)) if token == "t"));
    assert_eq!(read(&text, Some("b")).expect("valid").namespace, "n");
    let access = read(&config("{token: t, tokenFile: token}"), None).expect("valid");
    assert!(matches!(&access.credentials.token, Some(Token::File(path)) if path.ends_with("token")));
    assert!(!format!("{:?}", access.credentials).contains("KEY"));
}

#[test]
fn what_cannot_be_used_is_named() {
    let check = |text: &str, context: Option<&str>, expected: &str| {
        let error = read(text, context).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    };
    check(&config("{}"), Some("z"), "has no context \"z\"");
    check(&config("{}").replace("current-context: a", ""), None, "current-context");
    check(&config("{}").replace("name: c,", "name: d,"), None, "has no cluster \"c\"");
    check(&config("{}").replace("name: u,", "name: v,"), None, "has no user \"u\"");
    check(&config("{exec: {command: x}}"), None, "exec, which is not supported");
    check(&config("{client-key: none}"), None, "cannot read");
    check(&config("{client-key-data: '!'}"), None, "client-key-data");
    check("a: [", None, "is not a kubeconfig");
    check("[]", None, "is not a kubeconfig");
}
