//! Certificate signing requests.

use std::collections::BTreeSet;

use super::field::{At, Faults};
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
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

pub(super) fn request(root: &At<'_, '_>, faults: &mut Faults) {
    let spec = root.get("spec");
    let (request, usages, signer) = (spec.get("request"), spec.get("usages"), spec.get("signerName"));
    if request.text().is_empty() {
        faults.invalid(&request, "PEM block type must be CERTIFICATE REQUEST");
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
    if signer.text() == LEGACY_SIGNER {
        faults.invalid(&signer, "the legacy signerName is not allowed via this API version");
    } else {
        signer_name(&signer, faults);
    }
    let expiration = spec.get("expirationSeconds");
    if expiration.int().is_some_and(|seconds| seconds < LEAST_SECONDS) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        faults.invalid(&expiration, detail);
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

    fn check(spec: Value, expected: &[&str]) {
        let value = json!({"metadata": {"name": "r"}, "spec": spec});
        let faults = crate::validation::create("certificates.k8s.io", "CertificateSigningRequest", &value);
        let faults: Vec<String> =
            faults.iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect();
        assert_eq!(faults, expected, "{spec}");
    }

    #[test]
    fn requests_are_held_to_their_rules() {
        let fine = json!({"request": "LS0t", "usages": ["client auth"], "signerName": "example.com/signer"});
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
    }
}
