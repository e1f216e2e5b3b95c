//! Certificate signing requests.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::field::{At, Faults};
use crate::certificates::{CertificateRequest, LEGACY_UNKNOWN, certificate_fault};
use crate::names;

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const LEAST_SECONDS: i64 = 600;
const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";

/// A new request, or one that replaces `before`, of which faults that it had are borne.
pub(super) fn request(root: &At<'_, '_>, before: Option<&At<'_, '_>>, faults: &mut Faults) {
    let spec = root.get("spec");
    let (request, usages, signer) = (spec.get("request"), spec.get("usages"), spec.get("signerName"));
    // It is checked once: its key and its bytes never change.
    if before.is_none()
        && let Err(error) = CertificateRequest::read(request.text())
    {
        faults.invalid(&request, &error.to_string());
    }
    if usages.is_empty() {
        faults.required(&usages, "");
    }
    let mut seen = BTreeSet::new();
    for usage in usages.items() {
        if !USAGES.contains(&usage.text()) {
            faults.unsupported(&usage, &USAGES);
        }
        if !seen.insert(usage.text()) {
            faults.duplicate(&usage, usage.value);
        }
    }
    let was_legacy =
        before.is_some_and(|before| before.get("spec").get("signerName").text() == LEGACY_UNKNOWN);
    if signer.text() == LEGACY_UNKNOWN && !was_legacy {
        faults.invalid(&signer, "the legacy signerName is not allowed via this API version");
    } else {
        signer_name(&signer, faults);
    }
    let expiration = spec.get("expirationSeconds");
    if expiration.int().is_some_and(|seconds| seconds < LEAST_SECONDS) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        faults.invalid(&expiration, detail);
    }
    conditions(root, before, faults);
    certificate(root, before, faults);
}

/// The types of a request's conditions, in their order.
fn types<'v>(root: &At<'v, '_>) -> Vec<&'v str> {
    let status = root.get("status");
    let list = status.get("conditions");
    list.items().map(|condition| condition.get("type").text()).collect()
}

fn conditions(root: &At<'_, '_>, before: Option<&At<'_, '_>>, faults: &mut Faults) {
    let old = before.map(types).unwrap_or_default();
    let had = |kind: &str| old.contains(&kind);
    let had_duplicates = old.iter().collect::<BTreeSet<_>>().len() < old.len();
    let status = root.get("status");
    let list = status.get("conditions");
    let mut seen = BTreeSet::new();
    for condition in list.items() {
        let (kind, value) = (condition.get("type"), condition.get("status"));
        if kind.text().is_empty() && !had("") {
            faults.required(&kind, "");
        }
        let only_true = [APPROVED, DENIED, FAILED].contains(&kind.text());
        let allowed: &[&str] = if only_true { &["True"] } else { &["False", "True", "Unknown"] };
        if value.text().is_empty() {
            faults.required(&value, "");
        } else if !allowed.contains(&value.text()) {
            faults.unsupported(&value, allowed);
        }
        let other = match kind.text() {
            APPROVED => DENIED,
            DENIED => APPROVED,
            _ => "",
        };
        if !other.is_empty() && seen.contains(other) && !(had(APPROVED) && had(DENIED)) {
            faults.invalid(&kind, "Approved and Denied conditions are mutually exclusive");
        }
        if !seen.insert(kind.text()) && !had_duplicates {
            faults.duplicate(&kind, kind.value);
        }
    }
}

fn certificate(root: &At<'_, '_>, before: Option<&At<'_, '_>>, faults: &mut Faults) {
    let text = |root: &At<'_, '_>| root.get("status").get("certificate").text().to_owned();
    let (new, old) = (text(root), before.map(text).unwrap_or_default());
    let fault = |text: &str| match STANDARD.decode(text) {
        Ok(pem) if pem.is_empty() => None,
        Ok(pem) => certificate_fault(&pem),
        Err(_) => certificate_fault(b""),
    };
    if new != old
        && fault(&old).is_none()
        && let Some(why) = fault(&new)
    {
        let status = root.get("status");
        faults.invalid_text(&status.get("certificate"), "<certificate data>", &why);
    }
}

/// What an update may change: nothing of what was decided, unless it is what decides.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Main,
    Status,
    Approval,
}

pub(super) fn update(root: &At<'_, '_>, before: &At<'_, '_>, writer: Writer, faults: &mut Faults) {
    request(root, Some(before), faults);
    let status = root.get("status");
    let (list, issued) = (status.get("conditions"), status.get("certificate"));
    let of_type = |root: &At<'_, '_>, kind: &str| -> Vec<serde_json::Value> {
        let status = root.get("status");
        let conditions = status.get("conditions");
        let all = conditions.items().filter(|condition| condition.get("type").text() == kind);
        all.map(|condition| condition.value.clone()).collect()
    };
    for kind in [APPROVED, DENIED, FAILED] {
        let (new, old) = (of_type(root, kind), of_type(before, kind));
        if new.len() < old.len() {
            faults.forbidden(&list, &format!("updates may not remove a condition of type {kind:?}"));
        } else if writer == Writer::Approval || kind == FAILED {
        } else if new.len() > old.len() {
            faults.forbidden(&list, &format!("updates may not add a condition of type {kind:?}"));
        } else if new != old {
            faults.forbidden(&list, &format!("updates may not modify a condition of type {kind:?}"));
        }
    }
    let old = before.get("status").get("certificate").text().to_owned();
    if issued.text() == old {
        return;
    }
    if writer != Writer::Status {
        faults.forbidden(&issued, "updates may not set certificate content");
    } else if !old.is_empty() {
        faults.forbidden(&issued, "updates may not modify existing certificate content");
    }
}

/// A domain with at least two parts, a slash, and a name.
fn signer_name(signer: &At<'_, '_>, faults: &mut Faults) {
    if signer.text().is_empty() {
        return faults.required(signer, "");
    }
    let Some((domain, name)) = signer.text().split_once('/').filter(|(_, name)| !name.contains('/')) else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return faults.invalid(signer, detail);
    };
    for label in domain.split('.') {
        for message in names::dns1123_label(label) {
            faults.invalid_text(signer, domain, &format!("validating label {label:?}: {message}"));
        }
    }
    if !domain.contains('.') {
        faults.invalid_text(
            signer,
            domain,
            "should be a domain with at least two segments separated by dots",
        );
    }
    for label in name.split('.') {
        for message in names::dns1123_subdomain(label) {
            faults.invalid_text(signer, name, &format!("validating label {label:?}: {message}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value, expected: &[&str]) {
        let value = json!({"metadata": {"name": "r"}, "spec": spec});
        let faults = crate::validation::create("certificates.k8s.io", "CertificateSigningRequest", &value);
        let faults: Vec<String> =
            faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
        assert_eq!(faults, expected, "{spec}");
    }

    #[test]
    fn requests_are_held_to_their_rules() {
        let request = {
            let key = rcgen::KeyPair::generate().expect("a key");
            let request = rcgen::CertificateParams::default().serialize_request(&key).expect("signed");
            STANDARD.encode(request.pem().expect("PEM"))
        };
        let fine = json!({"request": request, "usages": ["client auth"], "signerName": "example.com/signer"});
        check(fine.clone(), &[]);
        let with = |field: &str, value: Value| {
            let mut spec = fine.clone();
            spec[field] = value;
            spec
        };
        check(with("usages", json!([])), &["spec.usages: Required value"]);
        check(with("usages", json!(["any", "any"])), &["spec.usages[1]: Duplicate value: \"any\""]);
        check(
            with("signerName", json!("signer")),
            &[
                "spec.signerName: Invalid value: \"signer\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
            ],
        );
        check(
            with("signerName", json!("com/signer")),
            &[
                "spec.signerName: Invalid value: \"com\": should be a domain with at least two segments separated by dots",
            ],
        );
        check(
            with("expirationSeconds", json!(60)),
            &[
                "spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 600 seconds (10 minutes)",
            ],
        );
        check(with("signerName", Value::Null), &["spec.signerName: Required value"]);
        check(
            with("request", json!("LS0t")),
            &["spec.request: Invalid value: \"LS0t\": PEM block type must be CERTIFICATE REQUEST"],
        );
    }

    #[test]
    fn what_was_decided_stays() {
        let spec = json!({"usages": ["client auth"], "signerName": "example.com/signer"});
        let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "R"});
        let object = |conditions: &[&str], certificate: &str| {
            let conditions: Vec<Value> = conditions.iter().map(|kind| condition(kind)).collect();
            json!({"metadata": {"name": "r", "resourceVersion": "1"}, "spec": spec,
                "status": {"conditions": conditions, "certificate": certificate}})
        };
        let check = |writer: Writer, old: &Value, new: &Value, expected: &[&str]| {
            let mut faults = Faults::new(9);
            update(&At::root(new), &At::root(old), writer, &mut faults);
            let faults: Vec<String> = faults
                .into_causes()
                .iter()
                .map(|fault| format!("{}: {}", fault.field, fault.message))
                .collect();
            assert_eq!(faults, expected, "{old} {new}");
        };
        let (pending, approved) = (object(&[], ""), object(&["Approved"], ""));
        check(Writer::Approval, &pending, &approved, &[]);
        check(
            Writer::Status,
            &pending,
            &approved,
            &["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""],
        );
        check(
            Writer::Approval,
            &approved,
            &pending,
            &["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""],
        );
        check(
            Writer::Approval,
            &approved,
            &object(&["Approved", "Denied"], ""),
            &[
                "status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive",
            ],
        );
        check(Writer::Status, &approved, &object(&["Approved", "Failed"], ""), &[]);
        let odd = json!({"metadata": {"name": "r"}, "spec": spec,
            "status": {"conditions": [{"type": "Approved", "status": "False"}]}});
        check(
            Writer::Approval,
            &pending,
            &odd,
            &["status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\""],
        );
        let issued = {
            let key = rcgen::KeyPair::generate().expect("a key");
            let certificate = rcgen::CertificateParams::default().self_signed(&key).expect("signed");
            object(&["Approved"], &STANDARD.encode(certificate.pem()))
        };
        check(Writer::Status, &approved, &issued, &[]);
        let set = "status.certificate: Forbidden: updates may not set certificate content";
        check(Writer::Approval, &approved, &issued, &[set]);
        let modify = "status.certificate: Forbidden: updates may not modify existing certificate content";
        check(Writer::Status, &issued, &approved, &[modify]);
        let garbage = object(&["Approved"], &STANDARD.encode("nothing"));
        check(
            Writer::Status,
            &approved,
            &garbage,
            &[
                "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block",
            ],
        );
    }
}
