//! Label and field selectors: what narrows a list, a watch or the set that a controller owns.
//!
//! [`Selector`] is the one type for both ways in which labels are selected: the query string
//! (`a=b,c in (x,y),!d`) and the JSON of `metav1.LabelSelector`. [`FieldSelector`] is the far
//! smaller language of `fieldSelector`. Messages are those of Kubernetes.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::names;

mod field;
mod parse;

pub use field::{FieldRequirement, FieldSelector, FieldSelectorError, unsupported_field};

/// How a requirement compares the value of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    /// `==`; the same as [`Operator::Equals`], kept so that a selector prints as it was written.
    DoubleEquals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// A selector that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    #[error("unable to parse requirement: {0}")]
    Requirement(RequirementError),
    #[error("found '{0}', expected: identifier after ','")]
    AfterComma(String),
    #[error("found '{0}', expected: ',' or 'end of string'")]
    AfterRequirement(String),
    #[error("found '{0}', expected: !, identifier, or 'end of string'")]
    Start(String),
    /// A `metav1.LabelSelector` with an operator that is none.
    #[error("{0:?} is not a valid label selector operator")]
    Operator(String),
    /// A `metav1.LabelSelector` with a requirement that no label can be held against.
    #[error("{0}")]
    Expression(RequirementError),
    #[error("a label selector must be an object with matchLabels and matchExpressions")]
    Shape,
}

/// One requirement that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequirementError {
    #[error("found '{found}', expected: {expected}")]
    Found { found: String, expected: &'static str },
    #[error("found '{0}' expected: '('")]
    NoParenthesis(String),
    /// A key, value or number of values that the operator does not take.
    #[error("{field}: Invalid value: {value}: {fault}")]
    Invalid { field: String, value: String, fault: String },
}

/// One condition on the labels of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: Box<str>,
    pub operator: Operator,
    /// Sorted, without duplicates.
    pub values: Box<[Box<str>]>,
}

impl Requirement {
    /// A checked requirement: key and values are legal and their number fits the operator.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, RequirementError> {
        let invalid = |field: &str, value: String, fault: String| RequirementError::Invalid {
            field: field.to_owned(),
            value,
            fault,
        };
        let faults = names::qualified_name(key);
        if !faults.is_empty() {
            return Err(invalid("key", format!("{key:?}"), faults.join("; ")));
        }
        let count_fault = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
                Some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            Operator::In
            | Operator::NotIn
            | Operator::Equals
            | Operator::DoubleEquals
            | Operator::NotEquals
            | Operator::Exists
            | Operator::DoesNotExist
            | Operator::GreaterThan
            | Operator::LessThan => None,
        };
        if let Some(fault) = count_fault {
            return Err(invalid("values", format!("{values:?}"), fault.to_owned()));
        }
        for (at, value) in values.iter().enumerate() {
            let compares = matches!(operator, Operator::GreaterThan | Operator::LessThan);
            if compares && value.parse::<i64>().is_err() {
                let fault = "for 'Gt', 'Lt' operators, the value must be an integer";
                return Err(invalid(&format!("values[{at}]"), format!("{value:?}"), fault.to_owned()));
            }
            let faults = names::label_value(value);
            if !faults.is_empty() {
                return Err(invalid(
                    &format!("values[{at}][{key}]"),
                    format!("{value:?}"),
                    faults.join("; "),
                ));
            }
        }
        values.sort_unstable();
        values.dedup();
        let values = values.into_iter().map(String::into_boxed_str).collect();
        Ok(Requirement { key: key.into(), operator, values })
    }

    /// Whether an object whose label has this value (`None`: no such label) is wanted.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|candidate| candidate.as_ref() == value);
        let bound = || self.values.first()?.parse::<i64>().ok();
        let number = || value?.parse::<i64>().ok();
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => number().zip(bound()).is_some_and(|(number, bound)| number > bound),
            Operator::LessThan => number().zip(bound()).is_some_and(|(number, bound)| number < bound),
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, values) = (&self.key, self.values.join(","));
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A set of objects, told by their labels. The default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Selector {
    /// Selects every object.
    pub fn everything() -> Self {
        Selector::default()
    }

    /// Selects no object: what an absent `metav1.LabelSelector` means.
    pub fn nothing() -> Self {
        Selector { requirements: Vec::new(), nothing: true }
    }

    /// All requirements must hold.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Selector { requirements, nothing: false }
    }

    /// Reads a plain map of labels, as `spec.selector` of a Service is; `null` selects nothing.
    pub fn from_map(map: &Value) -> Result<Self, SelectorError> {
        match map {
            Value::Null => Ok(Selector::nothing()),
            Value::Object(_) => Ok(Selector::new(exact_requirements(map)?)),
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                Err(SelectorError::Shape)
            }
        }
    }

    /// Reads a `metav1.LabelSelector`; `null` selects nothing and `{}` everything.
    pub fn from_json(selector: &Value) -> Result<Self, SelectorError> {
        let fields = match selector {
            Value::Null => return Ok(Selector::nothing()),
            Value::Object(fields) => fields,
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(SelectorError::Shape);
            }
        };
        let mut requirements = exact_requirements(fields.get("matchLabels").unwrap_or(&Value::Null))?;
        let expressions = match fields.get("matchExpressions") {
            None | Some(Value::Null) => &[][..],
            Some(list) => list.as_array().ok_or(SelectorError::Shape)?,
        };
        for expression in expressions {
            let key = expression["key"].as_str().unwrap_or_default();
            let operator = match expression["operator"].as_str().unwrap_or_default() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(SelectorError::Operator(other.to_owned())),
            };
            let values = match &expression["values"] {
                Value::Null => Vec::new(),
                Value::Array(values) => values
                    .iter()
                    .map(|value| value.as_str().map(str::to_owned).ok_or(SelectorError::Shape))
                    .collect::<Result<_, _>>()?,
                Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    return Err(SelectorError::Shape);
                }
            };
            requirements.push(Requirement::new(key, operator, values).map_err(SelectorError::Expression)?);
        }
        Ok(Selector::new(requirements))
    }

    /// Whether an object is selected; `label` answers the value of a label of the object.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing
            && self.requirements.iter().all(|requirement| requirement.matches(label(&requirement.key)))
    }

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether no object can ever be selected.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// Sorted by key. Empty both for everything and for nothing.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

fn exact_requirements(map: &Value) -> Result<Vec<Requirement>, SelectorError> {
    let labels = match map {
        Value::Null => return Ok(Vec::new()),
        Value::Object(labels) => labels,
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(SelectorError::Shape);
        }
    };
    let exact = |(key, value): (&String, &Value)| {
        let value = value.as_str().ok_or(SelectorError::Shape)?.to_owned();
        Requirement::new(key, Operator::Equals, vec![value]).map_err(SelectorError::Expression)
    };
    labels.iter().map(exact).collect()
}

impl FromStr for Selector {
    type Err = SelectorError;

    /// Reads the value of a `labelSelector` query parameter; an empty one selects everything.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        parse::parse(text).map(Selector::new)
    }
}

impl fmt::Display for Selector {
    /// The string form. A selector of nothing has none and prints as everything does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, requirement) in self.requirements.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
