//! `apiserver.config.k8s.io` `AuthenticationConfiguration`: issuers of tokens, and what needs no credentials.

use std::collections::BTreeSet;
use std::sync::Arc;

use sampan_cel::ast::{Expr, Kind};
use sampan_cel::{Decl, Program, Type};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::anonymous::Anonymous;
use super::oidc::Issuer;
use super::oidc::claims::{ClaimRules, Rule, Source, claims_environment};
use super::oidc::keys::KeySource;
use crate::configuration_file::{self, APISERVER_CONFIG, FileKindError};
use crate::identity::faults::Faults;
use crate::outgoing::{Client, ClientConfig, Protocols, Trust};

mod fields;

/// The most issuers.
const MAX_ISSUERS: usize = 64;

/// A configuration that was checked.
pub struct Configured {
    /// None where it says nothing about it.
    pub anonymous: Option<Anonymous>,
    pub issuers: Vec<Issuer>,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error(transparent)]
    File(#[from] FileKindError),
    #[error("{0}")]
    Invalid(Faults),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawConfiguration {
    #[serde(rename = "apiVersion")]
    _api_version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: IgnoredAny,
    #[serde(default)]
    jwt: Vec<RawAuthenticator>,
    anonymous: Option<RawAnonymous>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAnonymous {
    enabled: bool,
    #[serde(default)]
    conditions: Vec<RawCondition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCondition {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawAuthenticator {
    issuer: RawIssuer,
    #[serde(default)]
    claim_validation_rules: Vec<RawClaimRule>,
    claim_mappings: RawMappings,
    #[serde(default)]
    user_validation_rules: Vec<RawUserRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawIssuer {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    #[serde(default)]
    certificate_authority: String,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: String,
    #[serde(default)]
    egress_selector_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct RawClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUserRule {
    expression: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMappings {
    username: RawMapping,
    groups: Option<RawMapping>,
    uid: Option<RawMapping>,
    #[serde(default)]
    extra: Vec<RawExtra>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawMapping {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawExtra {
    key: String,
    value_expression: String,
}

impl Configured {
    /// Reads a configuration in YAML or JSON. `own_issuers` are this server's, whose tokens nobody else
    /// may issue.
    pub fn read(text: &[u8], own_issuers: &[&str]) -> Result<Self, ConfigurationError> {
        let raw: RawConfiguration =
            configuration_file::read(text, "AuthenticationConfiguration", APISERVER_CONFIG)?;
        let mut faults = Faults::default();
        let anonymous = raw.anonymous.map(|raw| anonymous(raw, &mut faults));
        if raw.jwt.len() > MAX_ISSUERS {
            faults.add("jwt", format!("must have at most {MAX_ISSUERS} items"));
        }
        let (mut urls, mut issuers) = (BTreeSet::new(), Vec::new());
        for (at, raw) in raw.jwt.into_iter().enumerate() {
            let url = raw.issuer.url.clone();
            faults.at(format!("jwt[{at}]"), |faults| {
                if !urls.insert(url.clone()) {
                    faults.add("issuer.url", format!("duplicate value: {url:?}"));
                } else if own_issuers.contains(&url.as_str()) {
                    faults.add(
                        "issuer.url",
                        format!("must not overlap with disallowed issuers: {own_issuers:?}"),
                    );
                }
                issuers.extend(issuer(raw, faults));
            });
        }
        if faults.is_empty() {
            Ok(Configured { anonymous, issuers })
        } else {
            Err(ConfigurationError::Invalid(faults))
        }
    }
}

impl Configured {
    /// Takes over the keys of issuers that are reached as before, so that a change of something else costs
    /// nobody a round trip.
    pub fn keep_keys_of(&mut self, before: &Configured) {
        for issuer in &mut self.issuers {
            if let Some(known) = before.issuers.iter().find(|known| known.keys.is_same(&issuer.keys)) {
                issuer.keys = known.keys.clone();
            }
        }
    }
}

fn anonymous(raw: RawAnonymous, faults: &mut Faults) -> Anonymous {
    if !raw.enabled {
        if !raw.conditions.is_empty() {
            faults.add("anonymous.conditions", "enabled should be set to true when conditions are defined");
        }
        return Anonymous::Off;
    }
    if raw.conditions.is_empty() {
        return Anonymous::Everywhere;
    }
    for (at, condition) in raw.conditions.iter().enumerate().filter(|(_, one)| !one.path.starts_with('/')) {
        faults.add(&format!("anonymous.conditions[{at}].path"), format!("{:?} is no path", condition.path));
    }
    Anonymous::Paths(raw.conditions.into_iter().map(|condition| condition.path).collect())
}

fn issuer(raw: RawAuthenticator, faults: &mut Faults) -> Option<Issuer> {
    let RawIssuer {
        url,
        discovery_url,
        certificate_authority,
        audiences,
        audience_match_policy,
        egress_selector_type,
    } = raw.issuer;
    fields::https_url(faults, "issuer.url", &url);
    if let Some(discovery) = &discovery_url {
        fields::https_url(faults, "issuer.discoveryURL", discovery);
        if discovery.trim_end_matches('/') == url.trim_end_matches('/') {
            faults.add("issuer.discoveryURL", "must be different from url");
        }
    }
    if !egress_selector_type.is_empty() {
        faults.add("issuer.egressSelectorType", "there are no egress selectors");
    }
    check_audiences(&audiences, &audience_match_policy, faults);
    let trust = match certificate_authority.as_str() {
        "" => Trust::System,
        pem => Trust::Bundle(pem.as_bytes().to_vec()),
    };
    let authority = certificate_authority.clone();
    let config =
        ClientConfig { service: None, trust, identity: None, server_name: None, protocols: Protocols::Any };
    let client =
        Client::new(config).map_err(|error| faults.add("issuer.certificateAuthority", error.to_string()));
    let rules = rules(raw.claim_mappings, raw.claim_validation_rules, raw.user_validation_rules, faults);
    let keys = Arc::new(KeySource::new(&url, discovery_url.as_deref(), authority, client.ok()?));
    Some(Issuer { keys, url, audiences, rules: rules? })
}

fn check_audiences(audiences: &[String], policy: &str, faults: &mut Faults) {
    if audiences.is_empty() {
        faults.add("issuer.audiences", "at least one jwt[].issuer.audiences is required");
    }
    for (at, audience) in audiences.iter().enumerate() {
        if audience.is_empty() {
            faults.add(&format!("issuer.audiences[{at}]"), "audience can't be empty");
        } else if audiences[..at].contains(audience) {
            faults.add(&format!("issuer.audiences[{at}]"), format!("duplicate value: {audience:?}"));
        }
    }
    let wrong = match policy {
        "MatchAny" => false,
        "" => audiences.len() > 1,
        _ => true,
    };
    if wrong {
        faults.add("issuer.audienceMatchPolicy", "must be MatchAny for multiple audiences");
    }
}

fn rules(
    mappings: RawMappings,
    validation: Vec<RawClaimRule>,
    user_validation: Vec<RawUserRule>,
    faults: &mut Faults,
) -> Option<ClaimRules> {
    let username = mapping(mappings.username, "claimMappings.username", true, &[Type::String], faults);
    let texts = [Type::String, Type::list(Type::String)];
    let groups = mappings
        .groups
        .filter(|raw| !raw.claim.is_empty() || !raw.expression.is_empty() || raw.prefix.is_some())
        .map(|raw| mapping(raw, "claimMappings.groups", true, &texts, faults));
    let uid = mappings
        .uid
        .filter(|raw| !raw.claim.is_empty() || !raw.expression.is_empty() || raw.prefix.is_some())
        .map(|raw| mapping(raw, "claimMappings.uid", false, &[Type::String], faults));
    let mut extra: Vec<(String, Program)> = Vec::new();
    for (at, raw) in mappings.extra.into_iter().enumerate() {
        let field = format!("claimMappings.extra[{at}]");
        fields::extra_key(faults, &format!("{field}.key"), &raw.key);
        if extra.iter().any(|(key, _)| *key == raw.key) {
            faults.add(&format!("{field}.key"), format!("duplicate value: {:?}", raw.key));
        }
        let program = expression(&raw.value_expression, &format!("{field}.valueExpression"), &texts, faults);
        extra.extend(program.map(|program| (raw.key, program)));
    }
    let validation: Vec<Option<Rule>> = validation
        .into_iter()
        .enumerate()
        .map(|(at, raw)| claim_rule(raw, &format!("claimValidationRules[{at}]"), faults))
        .collect();
    let user_validation: Vec<Option<(Program, String)>> = user_validation
        .into_iter()
        .enumerate()
        .map(|(at, raw)| {
            let field = format!("userValidationRules[{at}].expression");
            let environment = sampan_cel::Environment::default().with("user", Arc::new(user_declaration()));
            let compiled = Program::returning(&raw.expression, &environment, &[Type::Bool]);
            compiled
                .map_err(|error| faults.add(&field, error.to_string()))
                .ok()
                .map(|program| (program, raw.message))
        })
        .collect();
    let rules = ClaimRules {
        username: username?,
        groups: transpose(groups)?,
        uid: transpose(uid)?,
        extra,
        validation: validation.into_iter().collect::<Option<_>>()?,
        user_validation: user_validation.into_iter().collect::<Option<_>>()?,
    };
    check_email(&rules, faults);
    Some(rules)
}

fn transpose<T>(given: Option<Option<T>>) -> Option<Option<T>> {
    match given {
        None => Some(None),
        Some(checked) => checked.map(Some),
    }
}

/// By a claim with its prefix, or by an expression.
fn mapping(
    raw: RawMapping,
    field: &str,
    prefixed: bool,
    types: &[Type],
    faults: &mut Faults,
) -> Option<Source> {
    match (raw.claim.is_empty(), raw.expression.is_empty()) {
        (true, true) => faults.add(field, "claim or expression is required"),
        (false, false) => faults.add(field, "claim and expression can't both be set"),
        (true, false) => {
            if raw.prefix.is_some() {
                faults.add(&format!("{field}.prefix"), "prefix can't be set when expression is set");
            }
            let program = expression(&raw.expression, &format!("{field}.expression"), types, faults)?;
            return Some(Source::Expression(program));
        }
        (false, true) => {
            match (&raw.prefix, prefixed) {
                (None, true) => faults.add(
                    &format!("{field}.prefix"),
                    "prefix is required when claim is set. It can be set to an empty string to disable prefixing",
                ),
                (Some(_), false) => faults.add(&format!("{field}.prefix"), "there is no prefix here"),
                _ => {}
            }
            return Some(Source::Claim { name: raw.claim, prefix: raw.prefix.unwrap_or_default() });
        }
    }
    None
}

fn claim_rule(raw: RawClaimRule, field: &str, faults: &mut Faults) -> Option<Rule> {
    let RawClaimRule { claim, required_value, expression: text, message } = raw;
    match (claim.is_empty(), text.is_empty()) {
        (true, true) => faults.add(field, "claim or expression is required"),
        (false, false) => faults.add(field, "claim and expression can't both be set"),
        (false, true) => {
            if !message.is_empty() {
                faults.add(&format!("{field}.message"), "message can't be set when claim is set");
            }
            return Some(Rule::Required { claim, value: required_value });
        }
        (true, false) => {
            if !required_value.is_empty() {
                faults.add(
                    &format!("{field}.requiredValue"),
                    "requiredValue can't be set when expression is set",
                );
            }
            let program = expression(&text, &format!("{field}.expression"), &[Type::Bool], faults)?;
            return Some(Rule::Expression { program, message });
        }
    }
    None
}

fn expression(text: &str, field: &str, types: &[Type], faults: &mut Faults) -> Option<Program> {
    let environment = claims_environment();
    // Claims are of any type, so that a dynamic result is one that may fit; but a rule says yes or no.
    let compiled = Program::compile(text, &environment).and_then(|program| match program.result() {
        Type::Dyn if types != [Type::Bool] => Ok(program),
        _ => Program::returning(text, &environment, types),
    });
    compiled.map_err(|error| faults.add(field, error.to_string())).ok()
}

/// Whoever is named by an address must have shown that it is theirs.
fn check_email(rules: &ClaimRules, faults: &mut Faults) {
    let Source::Expression(username) = &rules.username else { return };
    if !uses_claim(username.expr(), "email") {
        return;
    }
    let mut others: Vec<&Program> = vec![username];
    others.extend(rules.extra.iter().map(|(_, program)| program));
    others.extend(rules.validation.iter().filter_map(|rule| match rule {
        Rule::Expression { program, .. } => Some(program),
        Rule::Required { .. } => None,
    }));
    if !others.iter().any(|program| uses_claim(program.expr(), "email_verified")) {
        faults.add(
            "claimMappings.username.expression",
            "claims.email_verified must be used in claimMappings.username.expression or \
             claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email \
             is used in claimMappings.username.expression",
        );
    }
}

/// Whether an expression looks at `claims.NAME`.
fn uses_claim(expr: &Expr, name: &str) -> bool {
    let is_claims = |expr: &Expr| matches!(&expr.kind, Kind::Ident(ident) if ident.as_ref() == "claims");
    fields::any(expr, &mut |expr| match &expr.kind {
        Kind::Select { operand, field, .. } => is_claims(operand) && field.as_ref() == name,
        Kind::Call { function, args, .. } => {
            matches!(function.as_ref(), "_[_]" | "_[?_]" | "_?._")
                && args.first().is_some_and(is_claims)
                && args.get(1).is_some_and(|index| fields::is_text(index, name))
        }
        _ => false,
    })
}

/// `authentication.k8s.io/v1` `UserInfo`, as rules on users see it.
fn user_declaration() -> Decl {
    let text = || Decl::scalar(Type::String, u64::MAX, 2);
    let strings = || Decl::list(Arc::new(text()), Default::default(), u64::MAX);
    Decl::structure(
        "kubernetes.UserInfo",
        [
            ("username", text()),
            ("uid", text()),
            ("groups", strings()),
            ("extra", Decl::map(Arc::new(strings()), u64::MAX)),
        ],
    )
}

#[cfg(test)]
mod tests;
