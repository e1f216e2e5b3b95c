//! Labels, and the two languages that select by them: node selector terms and pod affinity terms.

use std::collections::BTreeMap;

use sampan_api::selector::{Operator, Requirement, Selector};
use serde::Deserialize;
use serde_json::Value;

/// Labels of one object, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(candidate, _)| candidate.as_ref().cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether the selector selects what has these labels.
    pub fn match_selector(&self, selector: &Selector) -> bool {
        selector.matches(|key| self.get(key))
    }
}

impl From<BTreeMap<Box<str>, Box<str>>> for Labels {
    fn from(map: BTreeMap<Box<str>, Box<str>>) -> Self {
        Labels(map.into_iter().collect())
    }
}

/// Reads a `metav1.LabelSelector`. One that cannot be understood selects nothing: the API refuses
/// such objects, so that only a newer API's operator can get here.
pub fn selector(value: &Value) -> Selector {
    Selector::from_json(value).unwrap_or_else(|_| Selector::nothing())
}

/// `core/v1` NodeSelectorTerm: every expression must match.
#[derive(Clone, Debug)]
pub struct NodeTerm {
    expressions: Vec<Requirement>,
    /// Names that `metadata.name` must, or must not, be one of.
    fields: Vec<(bool, Vec<Box<str>>)>,
    /// A term without expressions, or with one that cannot be understood, matches no node.
    never: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RawNodeTerm {
    match_expressions: Option<Vec<RawExpression>>,
    match_fields: Option<Vec<RawExpression>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawExpression {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
}

impl NodeTerm {
    pub(crate) fn new(raw: RawNodeTerm) -> Self {
        let mut term = NodeTerm { expressions: Vec::new(), fields: Vec::new(), never: false };
        for raw in raw.match_expressions.unwrap_or_default() {
            match expression(raw) {
                Some(requirement) => term.expressions.push(requirement),
                None => term.never = true,
            }
        }
        for raw in raw.match_fields.unwrap_or_default() {
            let names = raw.values.unwrap_or_default().into_iter().map(String::into_boxed_str).collect();
            match (raw.key.as_str(), raw.operator.as_str()) {
                ("metadata.name", "In") => term.fields.push((true, names)),
                ("metadata.name", "NotIn") => term.fields.push((false, names)),
                _ => term.never = true,
            }
        }
        term.never |= term.expressions.is_empty() && term.fields.is_empty();
        term
    }

    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        let named = |(wanted, names): &(bool, Vec<Box<str>>)| names.iter().any(|n| **n == *name) == *wanted;
        !self.never
            && self.fields.iter().all(named)
            && self.expressions.iter().all(|requirement| requirement.matches(labels.get(&requirement.key)))
    }

    /// The only nodes that can match, when the term names them.
    pub fn names(&self) -> Option<&[Box<str>]> {
        self.fields.iter().find(|(wanted, _)| *wanted).map(|(_, names)| names.as_slice())
    }
}

fn expression(raw: RawExpression) -> Option<Requirement> {
    let operator = match raw.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return None,
    };
    Requirement::new(&raw.key, operator, raw.values.unwrap_or_default()).ok()
}

/// `core/v1` PodAffinityTerm.
#[derive(Clone, Debug)]
pub struct AffinityTerm {
    selector: Selector,
    namespaces: Vec<Box<str>>,
    namespace_selector: Selector,
    pub topology_key: Box<str>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RawAffinityTerm {
    label_selector: Value,
    namespaces: Option<Vec<Box<str>>>,
    namespace_selector: Value,
    topology_key: Box<str>,
}

impl AffinityTerm {
    /// `namespace` is that of the pod whose term it is.
    pub(crate) fn new(raw: RawAffinityTerm, namespace: &str) -> Self {
        let mut namespaces = raw.namespaces.unwrap_or_default();
        if namespaces.is_empty() && raw.namespace_selector.is_null() {
            namespaces.push(namespace.into());
        }
        AffinityTerm {
            selector: selector(&raw.label_selector),
            namespaces,
            namespace_selector: selector(&raw.namespace_selector),
            topology_key: raw.topology_key,
        }
    }

    /// Whether the term means a pod with these labels in this namespace.
    pub fn matches(&self, namespace: &str, namespace_labels: &Labels, labels: &Labels) -> bool {
        let here = self.namespaces.iter().any(|candidate| **candidate == *namespace)
            || namespace_labels.match_selector(&self.namespace_selector);
        here && labels.match_selector(&self.selector)
    }
}
