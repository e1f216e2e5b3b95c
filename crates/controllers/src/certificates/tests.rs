use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use sampan_client::WatchEvent;

use super::plan::{Step, remaining, rights, signing};
use super::*;
use crate::controller::Fleet;
use crate::testing::Bench;

/// A request of somebody for `CN/O`.
fn request(signer: &str, subject: &str, usages: &[&str]) -> CertificateSigningRequest {
    let (common_name, organization) = subject.split_once('/').expect("CN/O");
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.distinguished_name.push(DnType::OrganizationName, organization);
    let key = KeyPair::generate().expect("a key");
    let pem = params.serialize_request(&key).expect("signed").pem().expect("PEM");
    let mut request = CertificateSigningRequest::default();
    request.metadata.name = Some("r".to_owned());
    request.spec.signer_name = signer.to_owned();
    request.spec.username = Some("jane".to_owned());
    request.spec.usages = Some(usages.iter().map(|usage| (*usage).to_owned()).collect());
    request.spec.request = ByteString(pem.into_bytes());
    request
}

fn with(mut request: CertificateSigningRequest, kinds: &[&str], at: Timestamp) -> CertificateSigningRequest {
    let conditions = kinds.iter().map(|kind| CertificateSigningRequestCondition {
        last_update_time: Some(Time(at)),
        ..condition(kind, "R", "m")
    });
    status_of(&mut request).conditions = Some(conditions.collect());
    request
}

fn issued(mut request: CertificateSigningRequest, pem: &str) -> CertificateSigningRequest {
    status_of(&mut request).certificate = Some(ByteString(pem.as_bytes().to_vec()));
    request
}

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const USAGES: [&str; 2] = ["digital signature", "client auth"];

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
}

#[test]
fn what_is_approved_is_signed_or_fails() {
    let jane = request(CLIENT, "jane/developers", &USAGES);
    let check = |request: CertificateSigningRequest, expected: &str| {
        let found = match signing(&request) {
            Step::Nothing => "nothing".to_owned(),
            Step::Sign(asked) => format!("sign {}", asked.common_name()),
            Step::Fail(why) => why,
        };
        assert_eq!(found, expected);
    };
    check(jane.clone(), "nothing");
    check(with(jane.clone(), &["Approved"], at(0)), "sign jane");
    check(with(jane.clone(), &["Denied"], at(0)), "nothing");
    check(with(jane.clone(), &["Approved", "Failed"], at(0)), "nothing");
    check(issued(with(jane.clone(), &["Approved"], at(0)), "x"), "nothing");
    let others = request("example.com/signer", "jane/developers", &USAGES);
    check(with(others, &["Approved"], at(0)), "nothing");
    let wrong = request(CLIENT, "jane/developers", &["server auth"]);
    check(with(wrong, &["Approved"], at(0)), "invalid usage for client certificate: server auth");
}

#[test]
fn only_nodes_are_approved_by_their_rights() {
    let check = |username: &str, subject: &str, usages: &[&str], expected: &[&str]| {
        let mut request = request(KUBELET_CLIENT, subject, usages);
        request.spec.username = Some(username.to_owned());
        let asked = read(&request).expect("a request");
        let rights: Vec<&str> = rights(&request, &asked).into_iter().map(|(right, _)| right).collect();
        assert_eq!(rights, expected, "{username} {subject}");
    };
    let node = "system:node:a/system:nodes";
    check("system:node:a", node, &USAGES, &["selfnodeclient", "nodeclient"]);
    check("system:bootstrap:x", node, &USAGES, &["nodeclient"]);
    check("system:node:a", "system:node:a/system:masters", &USAGES, &[]);
    check("system:node:a", node, &["server auth"], &[]);
}

#[test]
fn old_requests_go_in_their_time() {
    let mut jane = request(CLIENT, "jane/developers", &USAGES);
    jane.metadata.creation_timestamp = Some(Time(at(0)));
    let check = |request: CertificateSigningRequest, now: i64, expected: Option<u64>| {
        let found = remaining(&request, at(now)).map(|left| left.as_secs());
        assert_eq!(found, expected, "{:?} {now}", request.status);
    };
    const HOUR: i64 = 3600;
    check(jane.clone(), 0, Some(24 * 3600));
    check(jane.clone(), 25 * HOUR, Some(0));
    check(with(jane.clone(), &["Denied"], at(60)), 60, Some(3600));
    check(with(jane.clone(), &["Denied"], at(60)), 2 * HOUR, Some(0));
    check(with(jane.clone(), &["Approved", "Failed"], at(60)), 60, Some(3600));
    // One that is approved and not signed yet stays.
    check(with(jane.clone(), &["Approved"], at(60)), 100 * HOUR, None);
    let certificate = {
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(1_800_000_600);
        params.self_signed(&KeyPair::generate().expect("a key")).expect("signed").pem()
    };
    let approved = with(jane.clone(), &["Approved"], at(60));
    check(issued(approved.clone(), "no certificate"), 60, Some(3600));
    check(issued(approved.clone(), &certificate), 60, Some(540));
    check(issued(approved, &certificate), 700, Some(0));
}

/// The first state of the request that fits.
async fn until(bench: &Bench, wanted: impl Fn(&Value) -> bool) -> Value {
    use futures_util::StreamExt as _;
    let gvr = Kind::CertificateSigningRequest.gvr();
    let mut stream = bench.backend().watch(gvr, None, &Default::default()).await.expect("a watch");
    loop {
        let event = stream.next().await.expect("it goes on").expect("works");
        if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event {
            let value: Value = object.decode().expect("JSON");
            if wanted(&value) {
                return value;
            }
        }
    }
}

#[tokio::test]
async fn an_approved_request_gets_its_certificate() {
    let mut bench = Bench::start().await;
    let mut fleet = Fleet::default();
    fleet.add_with(bench.shared.clone(), Signing);
    let running = fleet.start(bench.take_feed());
    let mut jane = with(request(CLIENT, "jane/developers", &USAGES), &["Approved"], at(0));
    jane.spec.expiration_seconds = Some(600);
    let body = serde_json::to_value(&jane).expect("JSON");
    bench.create("certificates.k8s.io", "v1", "certificatesigningrequests", "", body).await;
    let signed = until(&bench, |request| request["status"]["certificate"].is_string()).await;
    let signed: CertificateSigningRequest = serde_json::from_value(signed).expect("a request");
    let pem = signed.status.and_then(|status| status.certificate).expect("its certificate");
    assert_eq!(String::from_utf8(pem.0).expect("text"), "jane for Some(600)");
    running.stop().await;
}
