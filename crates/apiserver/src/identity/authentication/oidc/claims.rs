//! From the claims of a verified token to a user, by claims or by expressions. Pure.

use sampan_cel::{Environment, Evaluator, Program, Value as CelValue};
use serde_json::{Map, Value, json};

use crate::identity::{AUTHENTICATED_GROUP, User};

/// Most that one expression may cost.
const CALL_LIMIT: u64 = 1_000_000;
/// The most groups, and values of one extra key, that a token gives.
const MAX_VALUES: usize = 1000;

/// Claims that do not make a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    #[error("oidc: {field} claim {claim:?} is missing or not of the right type")]
    Claim { field: &'static str, claim: String },
    #[error("oidc: email not verified")]
    Email,
    #[error("oidc: error evaluating the expression {expression:?}: {why}")]
    Expression { expression: String, why: String },
    #[error("oidc: {0} is empty")]
    Empty(&'static str),
    #[error("oidc: required claim {claim} value does not match. Got = {found:?}, want = {wanted:?}")]
    Required { claim: String, found: String, wanted: String },
    #[error("oidc: claim validation rule failed: {0}")]
    ClaimRule(String),
    #[error("oidc: error validating user: {0}")]
    UserRule(String),
    #[error("oidc: {0} has more than {MAX_VALUES} values")]
    TooMany(&'static str),
}

/// Where a text, or a list of them, comes from.
#[derive(Clone, Debug)]
pub enum Source {
    Claim { name: String, prefix: String },
    Expression(Program),
}

/// What a token's claims must be.
#[derive(Clone, Debug)]
pub enum Rule {
    Required { claim: String, value: String },
    Expression { program: Program, message: String },
}

/// What the claims of one issuer mean.
#[derive(Clone, Debug)]
pub struct ClaimRules {
    pub username: Source,
    pub groups: Option<Source>,
    pub uid: Option<Source>,
    /// By key.
    pub extra: Vec<(String, Program)>,
    pub validation: Vec<Rule>,
    /// On the user that came out, with the message of each.
    pub user_validation: Vec<(Program, String)>,
}

impl ClaimRules {
    /// The user, if every rule holds.
    pub fn user(&self, claims: &Map<String, Value>) -> Result<User, ClaimError> {
        let json = Value::Object(claims.clone());
        let mut user = User { name: self.username(&json)?, ..User::default() };
        for group in self.groups(&json)? {
            user.add_group(&group);
        }
        if let Some(source) = &self.uid {
            user.uid = text("uid", source, &json)?;
        }
        for (key, program) in &self.extra {
            let values = texts("extra", program, &json)?;
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        for rule in &self.validation {
            rule.check(&json)?;
        }
        let shown =
            json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
        for (program, message) in &self.user_validation {
            if evaluate(program, "user", &shown)? != Value::Bool(true) {
                return Err(ClaimError::UserRule(message_or(message, program)));
            }
        }
        user.add_group(AUTHENTICATED_GROUP);
        Ok(user)
    }

    fn username(&self, claims: &Value) -> Result<String, ClaimError> {
        if let Source::Claim { name, .. } = &self.username
            && name == "email"
            && !matches!(claims.get("email_verified"), None | Some(Value::Bool(true)))
        {
            return Err(ClaimError::Email);
        }
        text("username", &self.username, claims)
    }

    fn groups(&self, claims: &Value) -> Result<Vec<String>, ClaimError> {
        let (name, prefix) = match &self.groups {
            None => return Ok(Vec::new()),
            Some(Source::Expression(program)) => return texts("groups", program, claims),
            Some(Source::Claim { name, prefix }) => (name, prefix),
        };
        let Some(value) = claims.get(name) else { return Ok(Vec::new()) };
        let groups = strings("groups", value)?
            .ok_or_else(|| ClaimError::Claim { field: "groups", claim: name.clone() })?;
        Ok(groups.into_iter().map(|group| format!("{prefix}{group}")).collect())
    }
}

impl Rule {
    fn check(&self, claims: &Value) -> Result<(), ClaimError> {
        match self {
            Rule::Required { claim, value } => match claims.get(claim).and_then(Value::as_str) {
                None => Err(ClaimError::Claim { field: "required", claim: claim.clone() }),
                Some(found) if found == value => Ok(()),
                Some(found) => Err(ClaimError::Required {
                    claim: claim.clone(),
                    found: found.to_owned(),
                    wanted: value.clone(),
                }),
            },
            Rule::Expression { program, message } => match evaluate(program, "claims", claims)? {
                Value::Bool(true) => Ok(()),
                _ => Err(ClaimError::ClaimRule(message_or(message, program))),
            },
        }
    }
}

fn message_or(message: &str, program: &Program) -> String {
    if message.is_empty() {
        format!("expression '{}' resulted in false", program.text())
    } else {
        message.to_owned()
    }
}

/// One text that is not empty.
fn text(field: &'static str, source: &Source, claims: &Value) -> Result<String, ClaimError> {
    let (found, prefix) = match source {
        Source::Claim { name, prefix } => {
            let found = claims.get(name).and_then(Value::as_str);
            let found = found.ok_or_else(|| ClaimError::Claim { field, claim: name.clone() })?;
            (found.to_owned(), prefix.as_str())
        }
        Source::Expression(program) => match evaluate(program, "claims", claims)? {
            Value::String(found) => (found, ""),
            _ => return Err(wrong_type(program, "must evaluate to a string")),
        },
    };
    if found.is_empty() { Err(ClaimError::Empty(field)) } else { Ok(format!("{prefix}{found}")) }
}

/// A text or a list of them; null, and what is empty, is nothing.
fn texts(field: &'static str, program: &Program, claims: &Value) -> Result<Vec<String>, ClaimError> {
    let found = evaluate(program, "claims", claims)?;
    let found = if found.is_null() { Some(Vec::new()) } else { strings(field, &found)? };
    let found = found.ok_or_else(|| wrong_type(program, "must evaluate to a string or a list of strings"))?;
    Ok(found.into_iter().filter(|text| !text.is_empty()).collect())
}

fn wrong_type(program: &Program, why: &str) -> ClaimError {
    ClaimError::Expression { expression: program.text().to_owned(), why: why.to_owned() }
}

/// None where it is neither a text nor a list of texts.
fn strings(field: &'static str, value: &Value) -> Result<Option<Vec<String>>, ClaimError> {
    match value {
        Value::String(one) => Ok(Some(vec![one.clone()])),
        Value::Array(many) if many.len() > MAX_VALUES => Err(ClaimError::TooMany(field)),
        Value::Array(many) => Ok(many.iter().map(|one| one.as_str().map(str::to_owned)).collect()),
        _ => Ok(None),
    }
}

fn evaluate(program: &Program, root: &'static str, value: &Value) -> Result<Value, ClaimError> {
    let failed = |why: String| ClaimError::Expression { expression: program.text().to_owned(), why };
    let mut evaluator = Evaluator::new(vec![(root, CelValue::from_json(value, None))]);
    let (outcome, _) = evaluator.run(program, CALL_LIMIT);
    let value = outcome.map_err(|error| failed(error.to_string()))?;
    sampan_cel::value::json::to_json(&value).ok_or_else(|| failed("it has no JSON".to_owned()))
}

/// What expressions on claims may look at.
pub fn claims_environment() -> Environment {
    use std::sync::Arc;
    Environment::default().with("claims", Arc::new(sampan_cel::Decl::dynamic()))
}

#[cfg(test)]
mod tests;
