//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may approve and
//! sign for a signer, and that nobody gets into the masters' group by a certificate.

use sampan_api::Status;
use sampan_api::certificates::{API_CLIENT, CertificateRequest};
use serde_json::Value;

use super::{Attributes, Operation};
use crate::identity::MASTERS_GROUP;
use crate::registry::Context;

pub fn validate(attributes: &Attributes<'_>, request: &Value, context: &Context) -> Result<(), Status> {
    let gvr = attributes.resource.gvr();
    if gvr.group != "certificates.k8s.io" || gvr.resource != "certificatesigningrequests" {
        return Ok(());
    }
    let refused = |why: String| Err(Status::forbidden(gvr, attributes.name, why));
    match (attributes.operation, attributes.subresource, attributes.old) {
        (Operation::Create, "", _) => match masters(request) {
            Ok(()) => Ok(()),
            Err(why) => refused(why),
        },
        // The stored request says who its signer is, whatever is sent.
        (Operation::Update, "approval", Some(old)) if !may(attributes, context, "approve", signer(old)) => {
            refused(format!("user not permitted to approve requests with signerName {:?}", signer(old)))
        }
        (Operation::Update, "status", Some(old)) => {
            let kept = ["certificate", "conditions"]
                .iter()
                .all(|part| old["status"][*part] == request["status"][*part]);
            if kept || may(attributes, context, "sign", signer(old)) {
                return Ok(());
            }
            refused(format!("user not permitted to sign requests with signerName {:?}", signer(old)))
        }
        _ => Ok(()),
    }
}

fn signer(request: &Value) -> &str {
    request["spec"]["signerName"].as_str().unwrap_or_default()
}

/// Whether the user may act for this signer, or for all of its domain.
fn may(attributes: &Attributes<'_>, context: &Context, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    [signer, &format!("{domain}/*")].iter().any(|name| {
        attributes.registry.allows(&crate::identity::authorization::Attributes {
            user: &context.user,
            verb,
            group: "certificates.k8s.io",
            version: "*",
            resource: "signers",
            subresource: "",
            namespace: "",
            name,
            path: "",
            field_selector: None,
        })
    })
}

/// The API's own signer makes nobody a master.
fn masters(request: &Value) -> Result<(), String> {
    if signer(request) != API_CLIENT {
        return Ok(());
    }
    let text = request["spec"]["request"].as_str().unwrap_or_default();
    let parsed = CertificateRequest::read(text).map_err(|error| format!("failed to parse CSR: {error}"))?;
    if parsed.organizations().iter().any(|group| group == MASTERS_GROUP) {
        return Err(format!("use of {API_CLIENT} signer with {MASTERS_GROUP} group is not allowed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{CertificateParams, DnType, KeyPair};
    use serde_json::json;

    use super::*;

    #[test]
    fn nobody_asks_to_be_a_master() {
        let request = |group: &str| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::OrganizationName, group);
            let key = KeyPair::generate().expect("a key");
            let pem = params.serialize_request(&key).expect("signed").pem().expect("PEM");
            json!({"spec": {"signerName": API_CLIENT, "request": STANDARD.encode(pem)}})
        };
        assert_eq!(masters(&request("developers")), Ok(()));
        assert_eq!(
            masters(&request("system:masters")),
            Err("use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
                .into())
        );
        let mut other = request("system:masters");
        other["spec"]["signerName"] = json!("example.com/signer");
        assert_eq!(masters(&other), Ok(()));
        let garbage = json!({"spec": {"signerName": API_CLIENT, "request": "AAAA"}});
        assert!(masters(&garbage).expect_err("no request").starts_with("failed to parse CSR: "));
    }
}
