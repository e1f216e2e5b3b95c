//! What single fields must be.

use http::Uri;
use sampan_cel::ast::{Expr, Kind, Literal};

use crate::identity::faults::Faults;

/// A URL of https without a user, a query or a fragment.
pub fn https_url(faults: &mut Faults, field: &str, text: &str) {
    let why = match text.parse::<Uri>() {
        _ if text.is_empty() => "URL is required",
        Err(_) => "it is no URL",
        Ok(url) if url.scheme_str() != Some("https") => "URL scheme must be https",
        Ok(url) if url.authority().is_some_and(|authority| authority.as_str().contains('@')) => {
            "URL must not contain a username or password"
        }
        Ok(url) if url.query().is_some() => "URL must not contain a query",
        // A fragment is not kept by the parser.
        Ok(_) if text.contains('#') => "URL must not contain a fragment",
        Ok(_) => return,
    };
    faults.add(field, format!("{text:?}: {why}"));
}

/// `example.com/key`, in lower case, and not one of Kubernetes' own domains.
pub fn extra_key(faults: &mut Faults, field: &str, key: &str) {
    let Some((domain, path)) = key.split_once('/').filter(|(_, path)| !path.is_empty()) else {
        faults.add(field, format!("{key:?}: must be a domain-prefixed path (such as \"acme.io/foo\")"));
        return;
    };
    if key.to_lowercase() != key {
        faults.add(field, format!("{key:?}: key must be lowercase"));
    }
    if let Some(fault) = sampan_api::names::dns1123_subdomain(domain).first() {
        faults.add(field, format!("{key:?}: {fault}"));
    }
    if path.bytes().any(|byte| !byte.is_ascii_graphic()) {
        faults.add(field, format!("{key:?}: it has characters that a path may not have"));
    }
    let is_below =
        |own: &str| domain == own || domain.strip_suffix(own).is_some_and(|rest| rest.ends_with('.'));
    if is_below("k8s.io") || is_below("kubernetes.io") {
        faults.add(
            field,
            format!("{key:?}: k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"),
        );
    }
}

/// Whether some part of an expression is so.
pub fn any(expr: &Expr, is_so: &mut impl FnMut(&Expr) -> bool) -> bool {
    // Without recursion of our own: what is left to look at.
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        if is_so(expr) {
            return true;
        }
        match &expr.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => open.push(operand),
            Kind::Call { target, args, .. } => open.extend(target.as_deref().into_iter().chain(args)),
            Kind::List(elements) => open.extend(elements.iter().map(|element| &element.value)),
            Kind::Map(entries) => open.extend(entries.iter().flat_map(|entry| [&entry.key, &entry.value])),
            Kind::Struct { fields, .. } => open.extend(fields.iter().map(|field| &field.value)),
            Kind::Fold(fold) => {
                open.extend([&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result])
            }
        }
    }
    false
}

pub fn is_text(expr: &Expr, text: &str) -> bool {
    matches!(&expr.kind, Kind::Literal(Literal::String(found)) if found.as_ref() == text)
}
