use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use x509_parser::extensions::GeneralName;

use super::*;
use crate::identity::authentication::ClientCertificate;
use crate::identity::pki::certificate;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
}

struct Authority {
    key: KeyPair,
    der: CertificateDer<'static>,
}

fn authority() -> Authority {
    use rustls::pki_types::pem::PemObject as _;
    let key = KeyPair::generate().expect("a key");
    let pem = certificate::authority(&key, "ca", at(0)).expect("signed");
    Authority { key, der: CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM") }
}

fn request(names: Vec<SanType>) -> CertificateRequest {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "jäne");
    params.distinguished_name.push(DnType::OrganizationName, "developers");
    params.subject_alt_names = names;
    let key = KeyPair::generate().expect("a key");
    let der = params.serialize_request(&key).expect("signed");
    let mut request = CertificateRequest::from_der(der.der()).expect("a request");
    // rcgen writes one value of a kind at most.
    let groups = request.subject.iter_mut().find(|attribute| attribute.kind == 10).expect("its group");
    groups.values.push("operators".to_owned());
    request
}

fn grant<'a>(request: &'a CertificateRequest, usages: &'a [String], seconds: Option<i64>) -> Grant<'a> {
    Grant { request, usages, expiration_seconds: seconds, longest: Duration::from_secs(365 * 24 * 3600) }
}

fn usages(list: &[&str]) -> Vec<String> {
    list.iter().map(|usage| (*usage).to_owned()).collect()
}

#[test]
fn a_signed_certificate_is_what_was_asked_for() {
    let authority = authority();
    let names = vec![
        SanType::DnsName("a.example".try_into().expect("ASCII")),
        SanType::IpAddress("10.0.0.1".parse().expect("an address")),
        SanType::URI("spiffe://a/b".try_into().expect("ASCII")),
    ];
    let (request, usages) =
        (request(names), usages(&["digital signature", "key encipherment", "client auth"]));
    let der = sign(&grant(&request, &usages, None), &authority.der, &authority.key, at(0)).expect("signed");
    let (rest, read) = X509Certificate::from_der(&der).expect("a certificate");
    assert!(rest.is_empty());
    assert!(
        read.verify_signature(Some(X509Certificate::from_der(&authority.der).expect("X.509").1.public_key()))
            .is_ok()
    );
    assert_eq!(read.public_key().raw, request.public_key);
    assert!(!read.is_ca() && read.basic_constraints().expect("valid").expect("there").critical);
    let usage = read.key_usage().expect("valid").expect("there");
    assert!(usage.critical && usage.value.digital_signature() && usage.value.key_encipherment());
    assert!(!usage.value.key_cert_sign());
    let extended = read.extended_key_usage().expect("valid").expect("there");
    assert!(extended.value.client_auth && !extended.value.server_auth && !extended.value.any);
    let names = read.subject_alternative_name().expect("valid").expect("there");
    let names = &names.value.general_names;
    assert!(names.contains(&GeneralName::DNSName("a.example")), "{names:?}");
    assert!(names.contains(&GeneralName::IPAddress(&[10, 0, 0, 1])), "{names:?}");
    assert!(names.contains(&GeneralName::URI("spiffe://a/b")), "{names:?}");
    let certificate = ClientCertificate::read(&CertificateDer::from(der)).expect("an identity");
    let user = certificate.user(at(1)).expect("valid");
    assert_eq!(user.name, "jäne");
    // Values of one kind are a set, in the order of their encodings.
    assert_eq!(user.groups, ["operators", "developers", "system:authenticated"]);
}

#[test]
fn tls_takes_it_for_clients_and_only_for_what_it_is() {
    let authority = authority();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der.clone()).expect("an authority");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().expect("a verifier");
    let request = request(vec![]);
    for (list, fine) in
        [(&["client auth", "digital signature"], true), (&["server auth", "digital signature"], false)]
    {
        let usages = usages(list);
        let der =
            sign(&grant(&request, &usages, None), &authority.der, &authority.key, at(0)).expect("signed");
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_010));
        let verified = verifier.verify_client_cert(&CertificateDer::from(der), &[], now);
        assert_eq!(verified.is_ok(), fine, "{list:?} {verified:?}");
    }
}

#[test]
fn lives_are_upstreams() {
    let request = request(vec![]);
    let usages = usages(&["client auth"]);
    let end = at(10 * 365 * 24 * 3600);
    let check = |asked: Option<i64>, longest: u64, begin: i64, expected: i64| {
        let grant = Grant { longest: Duration::from_secs(longest), ..grant(&request, &usages, asked) };
        assert_eq!(
            grant.validity(end, at(0)).expect("valid"),
            (at(begin), at(expected)),
            "{asked:?} {longest}"
        );
    };
    let year = 365 * 24 * 3600;
    // What is long ends as long after its beginning, which was five minutes ago.
    check(None, year, -300, year as i64 - 300);
    check(Some(86_400), year, -300, 86_400 - 300);
    // What is short ends as late as asked.
    check(Some(3600), year, -300, 3600);
    check(Some(600), year, -300, 600);
    // At least ten minutes where it was asked, never more than the longest.
    check(Some(1), year, -300, 600);
    check(Some(2 * 365 * 24 * 3600), year, -300, year as i64 - 300);
    check(None, 120, -300, 120);
    check(Some(3600), 120, -300, 120);
    let grant = grant(&request, &usages, None);
    assert_eq!(grant.validity(at(60), at(0)).expect("valid").1, at(60), "never longer than the authority");
    assert!(matches!(grant.validity(at(0), at(0)), Err(SigningError::Expired(_))));
}

#[test]
fn usages_that_nobody_knows_are_refused() {
    let authority = authority();
    let (request, usages) = (request(vec![]), usages(&["client auth", "world domination"]));
    let refused =
        sign(&grant(&request, &usages, None), &authority.der, &authority.key, at(0)).expect_err("refused");
    assert_eq!(refused.to_string(), "unrecognized usage values: [\"world domination\"]");
}

#[test]
fn years_beyond_2049_have_four_digits() {
    assert_eq!(time(at(0)), [&[0x17, 13][..], b"270115080000Z"].concat());
    let far = Timestamp::from_second(2_600_000_000).expect("in range");
    assert_eq!(time(far), [&[0x18, 15][..], b"20520522141320Z"].concat());
}
