//! Field selectors: exact matches on the few fields that a resource lets be selected.

use std::fmt;
use std::str::FromStr;

/// A field selector that cannot be understood or that names a field that cannot be selected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// The code point of the character, as Kubernetes prints it.
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(u32),
    #[error("{0}")]
    Unsupported(String),
}

/// One term: `field=value` or `field!=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: Box<str>,
    pub value: Box<str>,
    /// The field must differ from the value.
    pub negated: bool,
}

/// What `fieldSelector` asks; the default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// All requirements must hold.
    pub fn new(requirements: Vec<FieldRequirement>) -> Self {
        FieldSelector { requirements }
    }

    /// Sorted by field.
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.requirements
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object is selected; `field` answers the value of a field, and an absent field is
    /// the empty value.
    pub fn matches<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| {
            let equal = field(&requirement.field).unwrap_or_default() == requirement.value.as_ref();
            equal != requirement.negated
        })
    }

    /// The value that a field must have, when the selector pins it.
    pub fn exact(&self, field: &str) -> Option<&str> {
        let pins =
            |requirement: &&FieldRequirement| !requirement.negated && requirement.field.as_ref() == field;
        self.requirements.iter().find(pins).map(|requirement| requirement.value.as_ref())
    }

    /// Fails on the first field that `is_known` denies, in the words of [`unsupported_field`].
    pub fn check(
        &self,
        group: &str,
        kind: &str,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<(), FieldSelectorError> {
        match self.requirements.iter().find(|requirement| !is_known(&requirement.field)) {
            None => Ok(()),
            Some(requirement) => {
                Err(FieldSelectorError::Unsupported(unsupported_field(group, kind, &requirement.field)))
            }
        }
    }
}

/// The message for a field that objects of a kind cannot be selected by.
pub fn unsupported_field(group: &str, kind: &str, field: &str) -> String {
    match (group, kind) {
        ("", "Pod" | "Node" | "ReplicationController" | "Event" | "Namespace" | "Secret" | "Service")
        | ("events.k8s.io", "Event")
        | ("certificates.k8s.io", "CertificateSigningRequest") => {
            format!("field label not supported: {field}")
        }
        ("batch", "Job") => format!("field label {field:?} not supported for Job"),
        _ => {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
    }
}

impl FromStr for FieldSelector {
    type Err = FieldSelectorError;

    fn from_str(text: &str) -> Result<Self, FieldSelectorError> {
        let mut terms = terms(text);
        terms.sort_unstable();
        let mut requirements = Vec::new();
        for term in terms.into_iter().filter(|term| !term.is_empty()) {
            let unknown = || FieldSelectorError::Term { selector: text.to_owned(), term: term.to_owned() };
            let (field, negated, value) = split(term).ok_or_else(unknown)?;
            requirements.push(FieldRequirement {
                field: field.into(),
                value: unescape(value)?.into(),
                negated,
            });
        }
        Ok(FieldSelector { requirements })
    }
}

/// Splits at commas that no backslash precedes.
fn terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Field, whether negated, and the value as it was written.
fn split(term: &str) -> Option<(&str, bool, &str)> {
    let equals = term.find('=')?;
    if let Some(field) = term[..equals].strip_suffix('!') {
        return Some((field, true, &term[equals + 1..]));
    }
    let value = &term[equals + 1..];
    Some((&term[..equals], false, value.strip_prefix('=').unwrap_or(value)))
}

fn unescape(text: &str) -> Result<String, FieldSelectorError> {
    let mut value = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some(next @ ('\\' | ',' | '=')) => value.push(next),
                other => return Err(FieldSelectorError::Escape(['\\'].into_iter().chain(other).collect())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(u32::from(c))),
            _ => value.push(c),
        }
    }
    Ok(value)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let operator = if requirement.negated { "!=" } else { "=" };
            let value = requirement.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{operator}{value}", requirement.field)?;
        }
        Ok(())
    }
}
