use std::os::unix::fs::PermissionsExt;

use super::*;

fn config(directory: &Path) -> PkiConfig {
    PkiConfig {
        directory: directory.join("pki"),
        admin_kubeconfig: directory.join("admin.kubeconfig"),
        server_url: "https://127.0.0.1:6443".to_owned(),
        service_addresses: vec!["10.96.0.1".parse().expect("an address")],
        extra_names: vec!["Box.example".to_owned(), "0:0::1:2".to_owned()],
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
}

const DAY: i64 = 24 * 3600;

fn files_of(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(directory.join("pki"))
        .expect("a directory")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            (path.display().to_string(), std::fs::read(&path).expect("a file"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_second_start_reuses_everything() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = Pki::ensure(config(directory.path()), at(0)).expect("a first start");
    let files = files_of(directory.path());
    let kubeconfig = std::fs::read(first.admin_kubeconfig()).expect("a kubeconfig");
    let second = Pki::ensure(config(directory.path()), at(DAY)).expect("a second start");
    assert_eq!(files, files_of(directory.path()));
    assert_eq!(kubeconfig, std::fs::read(second.admin_kubeconfig()).expect("a kubeconfig"));
    assert_eq!(first.ca_pem(), second.ca_pem());
    for (path, _) in files {
        let mode = std::fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
    let mode = std::fs::metadata(directory.path().join("pki")).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn the_serving_certificate_names_the_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let pki = Pki::ensure(config(directory.path()), at(0)).expect("a start");
    let facts = Facts::read(&pki.serving().current().cert[0]).expect("a certificate");
    for name in
        ["localhost", "127.0.0.1", "::1", "kubernetes.default.svc", "10.96.0.1", "box.example", "::1:2"]
    {
        assert!(facts.names.contains(name), "{name} in {:?}", facts.names);
    }
}

#[test]
fn renewal_reaches_open_servers_and_the_kubeconfig() {
    let directory = tempfile::tempdir().expect("a directory");
    let pki = Pki::ensure(config(directory.path()), at(0)).expect("a start");
    let before = pki.serving().current();
    let kubeconfig = std::fs::read(pki.admin_kubeconfig()).expect("a kubeconfig");
    let due = pki.renew(at(DAY)).expect("nothing to do");
    assert!(Arc::ptr_eq(&before, &pki.serving().current()));
    assert!(due > at(19 * DAY) && due < at(21 * DAY), "{due}");
    let next = pki.renew(due).expect("renewed");
    assert!(next > due);
    assert_ne!(before.cert, pki.serving().current().cert);
    assert_ne!(kubeconfig, std::fs::read(pki.admin_kubeconfig()).expect("a kubeconfig"));
}

#[test]
fn new_names_make_a_new_serving_certificate_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = Pki::ensure(config(directory.path()), at(0)).expect("a start");
    let mut changed = config(directory.path());
    changed.extra_names.push("more.example".to_owned());
    let second = Pki::ensure(changed, at(0)).expect("a start");
    assert_eq!(first.ca_pem(), second.ca_pem());
    let facts = Facts::read(&second.serving().current().cert[0]).expect("a certificate");
    assert!(facts.names.contains("more.example"));
}

#[test]
fn damaged_files_are_named() {
    for name in [CA_CERTIFICATE, CA_KEY, SERVING, ADMIN_CERTIFICATE, TOKEN_KEY] {
        let directory = tempfile::tempdir().expect("a directory");
        drop(Pki::ensure(config(directory.path()), at(0)).expect("a start"));
        let path = directory.path().join("pki").join(name);
        let text = std::fs::read_to_string(&path).expect("a file");
        std::fs::write(&path, &text[..text.len() / 2]).expect("written");
        let error = Pki::ensure(config(directory.path()), at(0)).err().expect("refused");
        assert!(error.to_string().contains(&path.display().to_string()), "{name}: {error}");
    }
}

#[test]
fn an_authority_is_never_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(Pki::ensure(config(directory.path()), at(0)).expect("a start"));
    let expired = Pki::ensure(config(directory.path()), at(3651 * DAY)).err();
    assert!(matches!(expired, Some(PkiError::AuthorityExpired { .. })), "{expired:?}");
    std::fs::remove_file(directory.path().join("pki").join(CA_KEY)).expect("removed");
    let missing = Pki::ensure(config(directory.path()), at(0)).err();
    assert!(matches!(missing, Some(PkiError::KeyMissing { .. })), "{missing:?}");
}

#[test]
fn a_start_that_died_after_the_first_key_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let private = PrivateDirectory::open(&directory.path().join("pki")).expect("a directory");
    ensure_key(&private, CA_KEY).expect("a key");
    Pki::ensure(config(directory.path()), at(0)).expect("a start");
}

#[test]
fn a_name_that_is_none_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = config(directory.path());
    config.extra_names.push("no name".to_owned());
    let error = Pki::ensure(config, at(0)).err();
    assert!(matches!(error, Some(PkiError::Issue(CertificateError::Name(_)))), "{error:?}");
}

/// The user whom the server sees behind a client certificate; an error where it refuses the client.
async fn connect(pki: &Pki, client: Option<&KeyedCertificate>) -> std::io::Result<Option<String>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca_der.clone()).expect("an authority");
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match client {
        Some(client) => {
            config.with_client_auth_cert(vec![client.der.clone()], client.private_key()).expect("a key")
        }
        None => config.with_no_client_auth(),
    };
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(pki.server_config().expect("a configuration")));
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let (client_side, server_side) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    let server_side = server_side?;
    client_side?;
    let chain = server_side.get_ref().1.peer_certificates().unwrap_or_default();
    let read = crate::identity::authentication::ClientCertificate::read;
    Ok(chain.first().map(|der| read(der).expect("a name").user(Timestamp::now()).expect("alive").name))
}

#[tokio::test]
async fn only_living_client_certificates_of_this_authority_are_taken() {
    let (directory, elsewhere) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let now = Timestamp::now();
    let pki = Pki::ensure(config(directory.path()), now).expect("a start");
    let foreign = Pki::ensure(config(elsewhere.path()), now).expect("a start");
    assert_eq!(connect(&pki, None).await.expect("nobody is welcome too"), None);
    let admin = pki.issue_client(ADMIN, now).expect("issued");
    assert_eq!(connect(&pki, Some(&admin)).await.expect("ours"), Some("kubernetes-admin".to_owned()));
    let stranger = foreign.issue_client(ADMIN, now).expect("issued");
    assert!(connect(&pki, Some(&stranger)).await.is_err(), "another authority");
    let past = Timestamp::from_second(now.as_second() - 40 * DAY).expect("in range");
    let expired = pki.issue_client(ADMIN, past).expect("issued");
    assert!(connect(&pki, Some(&expired)).await.is_err(), "expired");
    let text = std::fs::read_to_string(pki.directory.path(SERVING)).expect("a file");
    let serving = KeyedCertificate::from_pem(&text).expect("a certificate");
    assert!(connect(&pki, Some(&serving)).await.is_err(), "for servers only");
}
