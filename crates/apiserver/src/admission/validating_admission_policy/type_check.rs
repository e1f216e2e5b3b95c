//! `status.typeChecking`: what a policy's expressions have against the types that it matches.
//!
//! Only a hint for authors. Requests are decided by programs that know no types, as a policy may match
//! many kinds.

use std::collections::BTreeSet;
use std::sync::Arc;

use sampan_api::table::{ResourceDef, Table};
use sampan_cel::conditions::{self, Offered};
use sampan_cel::{Decl, Environment, Program, Type};
use serde_json::{Value, json};

use super::declared;

/// The most types that one rule is checked against.
const MAX_TYPES: usize = 10;

/// The warnings about a policy (`spec`), in the order of its fields.
pub fn warnings(spec: &Value, table: &Table) -> Vec<Value> {
    let types: Vec<Checked> =
        kinds(spec, table).iter().filter_map(|kind| Checked::new(kind, spec, table)).collect();
    let mut warnings = Vec::new();
    for (at, validation) in items(&spec["validations"]).enumerate() {
        for field in ["expression", "messageExpression"] {
            let expression = text(validation, field);
            if expression.is_empty() {
                continue;
            }
            let told: Vec<String> = types.iter().filter_map(|one| one.against(expression)).collect();
            if !told.is_empty() {
                let field = format!("spec.validations[{at}].{field}");
                warnings.push(json!({"fieldRef": field, "warning": told.join("\n")}));
            }
        }
    }
    warnings
}

/// A kind, and what expressions may use where an object is of that kind.
struct Checked {
    /// As messages show it: `apps/v1, Kind=Deployment`.
    kind: String,
    environment: Environment,
}

impl Checked {
    fn new(def: &ResourceDef, spec: &Value, table: &Table) -> Option<Checked> {
        let object = declaration(def)?;
        let params = spec["paramKind"].is_object();
        let params_def =
            table.by_kind(text(&spec["paramKind"], "apiVersion"), text(&spec["paramKind"], "kind"));
        let params_decl = params_def.and_then(|def| declaration(def));
        let offered = Offered { params, namespace: true, authorizer: true, patches: false };
        let with_types = |declared: &[(String, Type)]| {
            let mut environment = conditions::environment(offered, declared)
                .with("object", object.clone())
                .with("oldObject", object.clone());
            if let Some(params) = &params_decl {
                environment = environment.with("params", params.clone());
            }
            environment
        };
        let mut variables = Vec::new();
        for variable in items(&spec["variables"]) {
            let found = Program::compile(text(variable, "expression"), &with_types(&variables));
            // One that does not compile is dynamic: what uses it is not at fault.
            let ty = found.map_or(Type::Dyn, |program| program.result().clone());
            variables.push((text(variable, "name").to_owned(), ty));
        }
        let gvr = &def.gvr;
        let kind = format!("{}/{}, Kind={}", gvr.group, gvr.version, def.kind);
        Some(Checked { kind, environment: with_types(&variables) })
    }

    fn against(&self, expression: &str) -> Option<String> {
        let fault = Program::compile(expression, &self.environment).err()?;
        Some(format!("{}: {fault}\n", self.kind))
    }
}

fn declaration(def: &ResourceDef) -> Option<Arc<Decl>> {
    let (schema, id) = def.schema()?;
    Some(declared::object(schema, id))
}

/// The kinds that a policy names without wildcards, in the order of group, version and kind.
fn kinds(spec: &Value, table: &Table) -> Vec<Arc<ResourceDef>> {
    let mut found: Vec<Arc<ResourceDef>> = Vec::new();
    for rule in items(&spec["matchConstraints"]["resourceRules"]) {
        let list =
            |field: &str| -> BTreeSet<&str> { items(&rule[field]).filter_map(Value::as_str).collect() };
        let (groups, versions) = (list("apiGroups"), list("apiVersions"));
        if groups.iter().chain(&versions).any(|one| one.contains('*')) {
            continue;
        }
        let resources: Vec<&str> =
            list("resources").into_iter().filter(|one| !one.contains(['*', '/'])).collect();
        let named = groups.iter().flat_map(|group| {
            let resources = &resources;
            versions.iter().flat_map(move |version| {
                resources.iter().filter_map(move |resource| table.get(group, version, resource))
            })
        });
        found.extend(named.take(MAX_TYPES).cloned());
    }
    let order = |def: &Arc<ResourceDef>| {
        (def.gvr.group.to_string(), def.gvr.version.to_string(), def.kind.to_string())
    };
    found.sort_by_key(order);
    found.dedup_by_key(|def| order(def));
    found
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(resources: &[&str], variables: Value, expression: &str) -> Vec<String> {
        let spec = json!({
            "matchConstraints": {"resourceRules": [
                {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": resources},
            ]},
            "variables": variables,
            "validations": [{"expression": "true"}, {"expression": expression}],
        });
        let warnings = warnings(&spec, &Table::builtin());
        let show = |one: &Value| format!("{} {}", text(one, "fieldRef"), text(one, "warning"));
        warnings.iter().map(show).collect()
    }

    #[test]
    fn expressions_are_held_against_the_kinds_that_are_matched() {
        for expression in [
            "object.spec.replicas > 1 && oldObject == null",
            "object.metadata.labels['a'] == 'b' && has(object.spec.template.spec.containers)",
            "object.spec.template.spec.containers.all(c, c.image.startsWith('x'))",
            "object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')",
            "object.spec.strategy.rollingUpdate.maxSurge == 1 || namespaceObject.anything",
        ] {
            assert_eq!(told(&["deployments"], Value::Null, expression), Vec::<String>::new(), "{expression}");
        }
        let told = told(&["deployments", "statefulsets", "*"], Value::Null, "object.spec.replicas > '1'");
        let fault = "compilation failed: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'\n | object.spec.replicas > '1'\n | .....................^\n";
        assert_eq!(
            told,
            [format!(
                "spec.validations[1].expression apps/v1, Kind=Deployment: {fault}\napps/v1, Kind=StatefulSet: {fault}"
            )]
        );
    }

    #[test]
    fn variables_carry_their_types_and_wildcards_are_passed_over() {
        let variables = json!([{"name": "count", "expression": "object.spec.replicas"}]);
        assert!(told(&["deployments"], variables.clone(), "variables.count == 1").is_empty());
        let found = told(&["deployments"], variables, "variables.count == 'one'");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("'(int, string)'"), "{found:?}");
        assert!(told(&["*", "deployments/scale"], Value::Null, "object.nonsense").is_empty());
        let found = told(&["deployments"], Value::Null, "object.nonsense == 1");
        assert!(found[0].contains("undefined field 'nonsense'"), "{found:?}");
    }
}
