//! Which requests a policy or binding concerns.

use std::sync::Arc;

use sampan_api::Status;
use sampan_api::selector::{Selector, SelectorError};
use sampan_api::table::ResourceDef;
use serde::Deserialize;
use serde_json::Value;

use crate::admission::Attributes;
use crate::admission::webhooks::matching::{self, Rule};

/// `MatchResources`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct RawMatch {
    resource_rules: Vec<NamedRule>,
    exclude_resource_rules: Vec<NamedRule>,
    namespace_selector: Option<Value>,
    object_selector: Option<Value>,
    match_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamedRule {
    #[serde(default)]
    resource_names: Vec<String>,
    #[serde(flatten)]
    rule: Rule,
}

/// Which requests a policy or binding concerns.
pub struct Matches {
    included: Vec<NamedRule>,
    excluded: Vec<NamedRule>,
    namespaces: Result<Selector, SelectorError>,
    objects: Result<Selector, SelectorError>,
    equivalent: bool,
    /// Without rules everything is concerned: a binding then narrows nothing.
    everything: bool,
}

impl Matches {
    pub fn new(raw: RawMatch) -> Self {
        let selector = |json: Option<Value>| match json {
            None | Some(Value::Null) => Ok(Selector::everything()),
            Some(json) => Selector::from_json(&json),
        };
        Matches {
            everything: raw.resource_rules.is_empty(),
            included: raw.resource_rules,
            excluded: raw.exclude_resource_rules,
            namespaces: selector(raw.namespace_selector),
            objects: selector(raw.object_selector),
            equivalent: raw.match_policy.as_deref() != Some("Exact"),
        }
    }

    /// The resource under which a request is concerned: its own, or an equivalent one.
    pub fn matches(
        &self,
        attributes: &Attributes<'_>,
        object: Option<&Value>,
    ) -> Result<Option<Arc<ResourceDef>>, Status> {
        if self.one_of(&self.excluded, attributes).is_some() {
            return Ok(None);
        }
        let found = match self.one_of(&self.included, attributes) {
            Some(def) => def,
            None if self.everything => attributes.resource.def.clone(),
            None => return Ok(None),
        };
        if !matching::in_namespace(&self.namespaces, attributes, object)? {
            return Ok(None);
        }
        let selector = self.objects.as_ref().map_err(Status::internal)?;
        Ok(matching::selects(selector, object, attributes.old).then_some(found))
    }

    fn one_of(&self, rules: &[NamedRule], attributes: &Attributes<'_>) -> Option<Arc<ResourceDef>> {
        rules.iter().find_map(|named| {
            let names = &named.resource_names;
            if !names.is_empty() && !names.iter().any(|name| name == attributes.name) {
                return None;
            }
            matching::matching_def(std::slice::from_ref(&named.rule), self.equivalent, attributes)
        })
    }
}
