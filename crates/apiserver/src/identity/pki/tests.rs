use std::os::unix::fs::PermissionsExt;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::*;

fn config(directory: &Path) -> PkiConfig {
    PkiConfig {
        directory: directory.join("pki"),
        admin_kubeconfig: directory.join("admin.kubeconfig"),
        server_url: "https://127.0.0.1:6443".to_owned(),
        service_addresses: vec!["10.96.0.1".parse().expect("an address")],
        extra_names: vec!["Box.example".to_owned(), "0:0::1:2".to_owned()],
        lives: Lives {
            own: Duration::from_secs(30 * 24 * 3600),
            admin: Duration::from_secs(300 * 24 * 3600),
        },
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
    assert_eq!(first.bundle(), second.bundle());
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
    assert!(due > at(18 * DAY) && due < at(21 * DAY), "{due}");
    let next = pki.renew(due).expect("renewed");
    assert!(next > due);
    // The front proxy's client may be the first one that is due.
    let next = pki.renew(next).expect("renewed");
    assert!(next > due);
    assert_ne!(before.cert, pki.serving().current().cert);
    // The administrator's lives longer.
    assert_eq!(kubeconfig, std::fs::read(pki.admin_kubeconfig()).expect("a kubeconfig"));
    pki.renew(at(250 * DAY)).expect("renewed");
    assert_ne!(kubeconfig, std::fs::read(pki.admin_kubeconfig()).expect("a kubeconfig"));
}

#[test]
fn new_names_make_a_new_serving_certificate_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = Pki::ensure(config(directory.path()), at(0)).expect("a start");
    let mut changed = config(directory.path());
    changed.extra_names.push("more.example".to_owned());
    let second = Pki::ensure(changed, at(0)).expect("a start");
    assert_eq!(first.bundle(), second.bundle());
    let facts = Facts::read(&second.serving().current().cert[0]).expect("a certificate");
    assert!(facts.names.contains("more.example"));
}

#[test]
fn damaged_files_are_named() {
    for name in ["ca.crt", "ca.key", "front-proxy-ca.key", SERVING, ADMIN_CERTIFICATE, "sa.key"] {
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
    std::fs::remove_file(directory.path().join("pki").join("ca.key")).expect("removed");
    let missing = Pki::ensure(config(directory.path()), at(0)).err();
    assert!(matches!(missing, Some(PkiError::KeyMissing { .. })), "{missing:?}");
}

#[test]
fn a_start_that_died_after_the_first_key_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let private = PrivateDirectory::open(&directory.path().join("pki")).expect("a directory");
    ensure_key(&private, "ca.key").expect("a key");
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

fn trusting(bundle: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("an authority");
    }
    roots
}

/// The user whom the server sees behind a client certificate; an error where it refuses the client.
async fn connect(pki: &Pki, client: Option<&KeyedCertificate>) -> std::io::Result<Option<String>> {
    connect_trusting(pki, &pki.bundle(), client).await
}

/// The same of a client that trusts some authorities.
async fn connect_trusting(
    pki: &Pki,
    bundle: &str,
    client: Option<&KeyedCertificate>,
) -> std::io::Result<Option<String>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = trusting(bundle);
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
    let acceptor = tokio_rustls::TlsAcceptor::from(pki.trust().borrow().tls.clone());
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

#[tokio::test]
async fn a_rotation_leaves_nobody_behind_until_it_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let now = Timestamp::now();
    let pki = Pki::ensure(config(directory.path()), now).expect("a start");
    let (old_bundle, old_client) = (pki.bundle(), pki.issue_client(ADMIN, now).expect("issued"));
    let kubeconfig = std::fs::read(pki.admin_kubeconfig()).expect("a kubeconfig");
    let (trust, mut changes) = (pki.trust(), pki.bundle_changes());
    pki.rotate_authorities(RotationStep::Begin, now).expect("begun");
    assert!(changes.has_changed().expect("alive"));
    changes.mark_unchanged();
    let both = pki.bundle();
    assert!(both.starts_with(&old_bundle) && both.len() > old_bundle.len());
    assert_ne!(kubeconfig, std::fs::read(pki.admin_kubeconfig()).expect("a kubeconfig"));
    let new_client = pki.issue_client(ADMIN, now).expect("issued");
    for client in [&old_client, &new_client] {
        for bundle in [&old_bundle, &both] {
            connect_trusting(&pki, bundle, Some(client)).await.expect("everybody goes on");
        }
        assert!(trust.borrow().issued(&client.der));
    }
    // Begun twice is begun once, and a restart finds it as it was.
    pki.rotate_authorities(RotationStep::Begin, now).expect("begun");
    assert_eq!(pki.bundle(), both);
    drop(pki);
    let pki = Pki::ensure(config(directory.path()), now).expect("a start");
    assert_eq!(pki.bundle(), both);
    connect_trusting(&pki, &old_bundle, Some(&old_client)).await.expect("everybody goes on");
    let trust = pki.trust();
    pki.rotate_authorities(RotationStep::Finish, now).expect("finished");
    let new_bundle = pki.bundle();
    assert!(both.ends_with(&new_bundle) && new_bundle != old_bundle);
    connect_trusting(&pki, &both, Some(&new_client)).await.expect("who followed goes on");
    connect_trusting(&pki, &new_bundle, Some(&new_client)).await.expect("who followed goes on");
    assert!(connect_trusting(&pki, &old_bundle, Some(&new_client)).await.is_err(), "who did not");
    assert!(connect_trusting(&pki, &both, Some(&old_client)).await.is_err(), "the old one's client");
    assert!(!trust.borrow().issued(&old_client.der) && trust.borrow().issued(&new_client.der));
    let front_proxy = pki.front_proxy_client().current().cert[0].clone();
    assert!(pki.front_proxy().issued(&front_proxy));
    drop(pki);
    let pki = Pki::ensure(config(directory.path()), now).expect("a start");
    assert_eq!(pki.bundle(), new_bundle);
    connect(&pki, Some(&new_client)).await.expect("as before");
}

#[test]
fn a_rotation_that_died_at_its_end_is_completed() {
    let directory = tempfile::tempdir().expect("a directory");
    let pki = Pki::ensure(config(directory.path()), at(0)).expect("a start");
    let old = pki.bundle();
    pki.rotate_authorities(RotationStep::Begin, at(0)).expect("begun");
    let both = pki.bundle();
    // The key is the first that an end writes.
    let next = pki.keys.lock().clients.newest().issuer.key().serialize_pem();
    pki.directory.write("ca.key", &next).expect("written");
    drop(pki);
    let pki = Pki::ensure(config(directory.path()), at(0)).expect("a start");
    assert!(both.ends_with(&pki.bundle()) && pki.bundle() != old, "{}", pki.bundle());
    assert_eq!(pki.directory.read("ca-next.pem").expect("read"), None);
}

#[test]
fn a_start_after_everything_expired_makes_it_anew() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = config(directory.path());
    config.lives = Lives { own: Duration::from_secs(120), admin: Duration::from_secs(120) };
    let pki = Pki::ensure(config.clone(), at(0)).expect("a start");
    let (before, bundle) = (pki.serving().current(), pki.bundle());
    let kubeconfig = std::fs::read(pki.admin_kubeconfig()).expect("a kubeconfig");
    drop(pki);
    let pki = Pki::ensure(config, at(DAY)).expect("a start");
    assert_ne!(before.cert, pki.serving().current().cert);
    assert_ne!(kubeconfig, std::fs::read(pki.admin_kubeconfig()).expect("a kubeconfig"));
    assert_eq!(bundle, pki.bundle());
    let facts = Facts::read(&pki.serving().current().cert[0]).expect("a certificate");
    assert!(facts.not_before <= at(DAY) && facts.not_after == at(DAY + 120), "{facts:?}");
}

#[test]
fn short_lives_are_renewed_in_their_middle() {
    for seconds in [6_i64, 60, 120, 3600, 30 * 24 * 3600] {
        let directory = tempfile::tempdir().expect("a directory");
        let mut config = config(directory.path());
        let life = Duration::from_secs(seconds.unsigned_abs());
        config.lives = Lives { own: life, admin: life };
        let pki = Pki::ensure(config, at(0)).expect("a start");
        let due = pki.renew(at(0)).expect("nothing is due");
        assert!(due > at(seconds * 4 / 10) && due <= at(seconds * 8 / 10), "{seconds}: {due}");
    }
}
