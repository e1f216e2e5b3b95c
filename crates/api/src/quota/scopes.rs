//! Scopes: which objects a quota is about.

use serde_json::Value;

use crate::defaults::qos_class;

/// One condition on objects.
pub(super) struct Scope<'a> {
    name: &'a str,
    operator: &'a str,
    values: &'a [Value],
}

/// The scopes of a quota, from both of its fields. All of them must hold.
pub(super) fn of_quota(quota: &Value) -> impl Iterator<Item = Scope<'_>> {
    let spec = &quota["spec"];
    let plain = spec["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let plain = plain.map(|name| Scope { name, operator: "Exists", values: &[] });
    let selected = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    plain.chain(selected.map(|expression| Scope {
        name: expression["scopeName"].as_str().unwrap_or_default(),
        operator: expression["operator"].as_str().unwrap_or_default(),
        values: expression["values"].as_array().map(Vec::as_slice).unwrap_or_default(),
    }))
}

impl Scope<'_> {
    pub fn holds_pod(&self, pod: &Value) -> bool {
        let spec = &pod["spec"];
        let terminating = spec["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
        match self.name {
            "Terminating" => terminating,
            "NotTerminating" => !terminating,
            "BestEffort" => qos_class(pod) == "BestEffort",
            "NotBestEffort" => qos_class(pod) != "BestEffort",
            "PriorityClass" => self.selects(text(&spec["priorityClassName"]).into_iter()),
            "CrossNamespacePodAffinity" => crosses_namespaces(&spec["affinity"]),
            _ => false,
        }
    }

    /// A claim is of the class that it asks for, of the one it has and of the one it goes to.
    pub fn holds_claim(&self, claim: &Value) -> bool {
        let (spec, status) = (&claim["spec"], &claim["status"]);
        let names = [
            &spec["volumeAttributesClassName"],
            &status["currentVolumeAttributesClassName"],
            &status["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
        ];
        self.name == "VolumeAttributesClass" && self.selects(names.into_iter().filter_map(text))
    }

    /// As a label selector over the names that an object has.
    fn selects<'n>(&self, names: impl Iterator<Item = &'n str>) -> bool {
        let (mut any, mut listed) = (false, false);
        for name in names {
            any = true;
            listed |= self.values.iter().any(|value| value == name);
        }
        match self.operator {
            "Exists" => any,
            "DoesNotExist" => !any,
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    }
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

fn crosses_namespaces(affinity: &Value) -> bool {
    let crosses = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|names| !names.is_empty())
            || !term["namespaceSelector"].is_null()
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let of = |list: &str| affinity[kind][list].as_array().map(Vec::as_slice).unwrap_or_default();
        of("requiredDuringSchedulingIgnoredDuringExecution").iter().any(crosses)
            || of("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}
