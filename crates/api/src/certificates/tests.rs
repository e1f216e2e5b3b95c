use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use super::*;

/// A request for `CN/O`, with names as `dns:x`, `ip:x`, `email:x` or `uri:x`.
fn request(subject: &str, names: &[&str]) -> CertificateRequest {
    let (common_name, organization) = subject.split_once('/').expect("CN/O");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.split_once(':').expect("kind:name") {
            ("dns", name) => SanType::DnsName(name.try_into().expect("ASCII")),
            ("email", name) => SanType::Rfc822Name(name.try_into().expect("ASCII")),
            ("uri", name) => SanType::URI(name.try_into().expect("ASCII")),
            (_, name) => SanType::IpAddress(name.parse().expect("an address")),
        })
        .collect();
    let key = KeyPair::generate().expect("a key");
    let pem = params.serialize_request(&key).expect("signed").pem().expect("PEM");
    CertificateRequest::read(&STANDARD.encode(pem)).expect("a request")
}

#[test]
fn a_request_is_read_whole() {
    let request =
        request("jane/developers", &["dns:a.example", "ip:10.0.0.1", "ip:::1", "email:a@b", "uri:x:y"]);
    assert_eq!((request.common_name(), request.organizations()), ("jane", &["developers".to_owned()][..]));
    assert_eq!((request.dns_names.len(), request.addresses.len()), (1, 2));
    assert_eq!((request.emails.len(), request.uris.len()), (1, 1));
    assert!(!request.public_key.is_empty());
}

#[test]
fn what_is_no_request_is_refused() {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "jane");
    let good = params.serialize_request(&key).expect("signed");
    let pem = good.pem().expect("PEM");
    let read = |text: &str| CertificateRequest::from_pem(text.as_bytes()).err();
    assert_eq!(read(&pem), None);
    assert_eq!(read(""), Some(RequestError::Pem));
    assert_eq!(read(&pem.replace("CERTIFICATE REQUEST", "CERTIFICATE")), Some(RequestError::Pem));
    assert_eq!(CertificateRequest::read("not base64"), Err(RequestError::Pem));
    // Somebody else's name under a signature that was made for another one.
    let mut forged = good.der().to_vec();
    let at = forged.windows(4).position(|bytes| bytes == b"jane").expect("the name");
    forged[at] = b'J';
    assert_eq!(CertificateRequest::from_der(&forged), Err(RequestError::Signature));
    let mut longer = good.der().to_vec();
    longer.push(0);
    assert_eq!(
        CertificateRequest::from_der(&longer),
        Err(RequestError::Malformed("trailing data".to_owned()))
    );
}

#[test]
fn signers_take_what_upstreams_take() {
    let node = "system:node:a/system:nodes";
    let client = ["digital signature", "client auth"];
    let rsa = ["digital signature", "key encipherment", "client auth"];
    let server = ["digital signature", "server auth"];
    let check = |signer: &str, subject: &str, names: &[&str], usages_of: &[&str], expected: Option<&str>| {
        let usages = usages(usages_of.iter().copied());
        let found = fault(signer, &request(subject, names), &usages);
        assert_eq!(found.as_deref(), expected, "{signer} {subject} {names:?} {usages:?}");
    };
    check(KUBELET_CLIENT, node, &[], &client, None);
    check(KUBELET_CLIENT, node, &[], &rsa, None);
    let nodes = Some("subject organization is not system:nodes");
    check(KUBELET_CLIENT, "system:node:a/other", &[], &client, nodes);
    let name = Some("subject common name does not begin with system:node:");
    check(KUBELET_CLIENT, "a/system:nodes", &[], &client, name);
    check(KUBELET_CLIENT, node, &["dns:a"], &client, Some("DNS subjectAltNames are not allowed"));
    check(KUBELET_CLIENT, node, &["ip:1.2.3.4"], &client, Some("IP subjectAltNames are not allowed"));
    check(KUBELET_CLIENT, node, &["email:a@b"], &client, Some("Email subjectAltNames are not allowed"));
    check(KUBELET_CLIENT, node, &["uri:a:b"], &client, Some("URI subjectAltNames are not allowed"));
    let usages_of_client = Some("usages did not match [client auth digital signature key encipherment]");
    check(KUBELET_CLIENT, node, &[], &server, usages_of_client);
    check(KUBELET_SERVING, node, &["dns:a"], &server, None);
    check(KUBELET_SERVING, node, &["ip:1.2.3.4"], &server, None);
    check(KUBELET_SERVING, node, &[], &server, Some("DNS or IP subjectAltName is required"));
    check(KUBELET_SERVING, node, &["dns:a", "uri:a:b"], &server, Some("URI subjectAltNames are not allowed"));
    check(KUBELET_SERVING, "a/system:nodes", &["dns:a"], &server, name);
    check(KUBELET_SERVING, "system:node:a/x", &["dns:a"], &server, nodes);
    let usages_of_server = Some("usages did not match [digital signature key encipherment server auth]");
    check(KUBELET_SERVING, node, &["dns:a"], &client, usages_of_server);
    check(API_CLIENT, "jane/developers", &["dns:a"], &client, None);
    check(API_CLIENT, "jane/developers", &[], &["client auth"], None);
    check(API_CLIENT, "jane/x", &[], &server, Some("invalid usage for client certificate: server auth"));
    let missing = Some("missing required usage for client certificate: client auth");
    check(API_CLIENT, "jane/x", &[], &["digital signature"], missing);
    check(LEGACY_UNKNOWN, "anything/x", &["dns:a"], &["code signing"], None);
}
