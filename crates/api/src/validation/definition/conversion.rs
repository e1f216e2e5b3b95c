//! `spec.conversion`.

use std::collections::BTreeSet;

use super::super::field::{At, Faults};
use crate::names::{dns1035_label, dns1123_subdomain, port_number};

pub(super) fn conversion(conversion: &At<'_, '_>, faults: &mut Faults) {
    if !conversion.is_set() {
        return;
    }
    faults.one_of(&conversion.get("strategy"), &["None", "Webhook"]);
    let config = conversion.get("webhookClientConfig");
    let versions = conversion.get("conversionReviewVersions");
    if conversion.get("strategy").text() != "Webhook" {
        let detail = "should not be set when strategy is not set to Webhook";
        if config.is_set() {
            faults.forbidden(&config, detail);
        }
        if !versions.is_empty() {
            faults.forbidden(&versions, detail);
        }
        return;
    }
    let (url, service) = (config.get("url"), config.get("service"));
    if !config.is_set() {
        faults.required(&config, "required when strategy is set to Webhook");
    } else if url.is_set() == service.is_set() {
        faults.required(&config, "exactly one of url or service is required");
    } else if url.is_set() {
        self::url(&url, faults);
    } else {
        self::service(&service, faults);
    }
    review_versions(&versions, faults);
}

fn review_versions(versions: &At<'_, '_>, faults: &mut Faults) {
    if versions.is_empty() {
        faults.required(versions, "");
        return;
    }
    let mut seen = BTreeSet::new();
    for version in versions.items() {
        if seen.insert(version.text()) {
            faults.named(&version, dns1035_label(version.text()));
        } else {
            faults.invalid(&version, "duplicate version");
        }
    }
    if !seen.contains("v1") && !seen.contains("v1beta1") {
        faults.invalid(versions, "must include at least one of v1, v1beta1");
    }
}

/// The address of a webhook.
fn url(url: &At<'_, '_>, faults: &mut Faults) {
    const FORM: &str = "; desired format: https://host[/path]";
    let Some((scheme, rest)) = url.text().split_once("://") else {
        faults.invalid_text(url, "", &format!("'https' is the only allowed URL scheme{FORM}"));
        faults.invalid_text(url, "", &format!("host must be specified{FORM}"));
        return;
    };
    if scheme != "https" {
        faults.invalid_text(url, scheme, &format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        faults.invalid_text(url, host, &format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        faults.invalid_text(url, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        faults.invalid_text(url, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        faults.invalid_text(url, query, "query parameters are not permitted in the URL");
    }
}

/// The service of a webhook.
fn service(service: &At<'_, '_>, faults: &mut Faults) {
    for (field, detail) in
        [("name", "service name is required"), ("namespace", "service namespace is required")]
    {
        if service.get(field).text().is_empty() {
            faults.required(&service.get(field), detail);
        }
    }
    let port = service.get("port");
    let messages = port_number(port.int().unwrap_or_default());
    if !messages.is_empty() {
        faults.invalid(&port, &format!("port is not valid: {}", messages.join(", ")));
    }
    let path = service.get("path");
    if matches!(path.text(), "" | "/") {
        return;
    }
    if path.text() == "//" {
        faults.invalid(&path, "segment[0] may not be empty");
        return;
    }
    if !path.text().starts_with('/') {
        faults.invalid(&path, "must start with a '/'");
    }
    let steps = path.text().get(1..).unwrap_or_default();
    for (at, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            faults.invalid(&path, &format!("segment[{at}] may not be empty"));
            continue;
        }
        for message in dns1123_subdomain(step) {
            faults.invalid(&path, &format!("segment[{at}]: {message}"));
        }
    }
}
