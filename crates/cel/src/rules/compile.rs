//! Rules against their schema.

use std::collections::BTreeMap;
use std::sync::Arc;

use sampan_api::status::Cause;
use serde_json::Value as Json;

use super::{ESTIMATE_LIMIT, Node, Rule, Rules, TOTAL_ESTIMATE_LIMIT, field_path};
use crate::checker::Environment;
use crate::cost::Estimate;
use crate::program::{CompileError, Program};
use crate::schema::{self, MAX_REQUEST};
use crate::types::{Decl, ListKind, Shape, Type};

const RULES: &str = "x-kubernetes-validations";
const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

pub(super) fn compile(schema: &Json, path: &str) -> Result<Rules, Vec<Cause>> {
    let Some(decl) = schema::declaration(schema, true) else { return Ok(Rules { root: None }) };
    let mut compiler = Compiler { causes: Vec::new(), total: 0, costs: Vec::new() };
    let place = Place { path: path.to_owned(), cardinality: Some(1), uncorrelatable: None };
    let root = compiler.node(schema, Arc::new(decl), &place);
    compiler.total(path);
    if compiler.causes.is_empty() { Ok(Rules { root }) } else { Err(compiler.causes) }
}

/// Where a schema stands.
#[derive(Clone)]
struct Place {
    path: String,
    /// How often it can occur in an object; absent without a bound.
    cardinality: Option<u64>,
    /// The outermost list within which old and new values have no relation.
    uncorrelatable: Option<String>,
}

struct Compiler {
    causes: Vec<Cause>,
    total: u64,
    costs: Vec<(u64, String)>,
}

impl Place {
    fn below(&self, step: &str, times: Option<u64>) -> Place {
        let cardinality = match (self.cardinality, times) {
            (Some(cardinality), Some(times)) => Some(cardinality.saturating_mul(times)),
            _ => None,
        };
        Place {
            path: format!("{}.{step}", self.path),
            cardinality,
            uncorrelatable: self.uncorrelatable.clone(),
        }
    }
}

impl Compiler {
    /// None where neither this place nor anything below it has rules.
    fn node(&mut self, schema: &Json, decl: Arc<Decl>, place: &Place) -> Option<Node> {
        let rules = self.rules(schema, &decl, place);
        let (mut items, mut values, mut properties) = (None, None, BTreeMap::new());
        let mut list = ListKind::Atomic;
        match &decl.shape {
            Shape::List(of, kind) => {
                list = kind.clone();
                let mut inner = place.below("items", limit(schema, "maxItems"));
                if !matches!(kind, ListKind::Map(_)) {
                    inner.uncorrelatable = inner.uncorrelatable.or_else(|| Some(place.path.clone()));
                }
                items = self.node(&schema["items"], of.clone(), &inner).map(Box::new);
            }
            Shape::Map(of) => {
                let inner = place.below("additionalProperties", limit(schema, "maxProperties"));
                values = self.node(&schema["additionalProperties"], of.clone(), &inner).map(Box::new);
            }
            Shape::Object(_) => properties = self.properties(schema, &decl, place),
            Shape::Scalar | Shape::Format(_) => {}
        }
        if rules.is_empty() && items.is_none() && values.is_none() && properties.is_empty() {
            return None;
        }
        let type_name = schema["type"].as_str().unwrap_or_default().to_owned();
        Some(Node { decl, type_name, rules, items, values, properties, list })
    }

    fn properties(&mut self, schema: &Json, decl: &Decl, place: &Place) -> BTreeMap<String, Node> {
        let mut out = BTreeMap::new();
        let Shape::Object(object) = &decl.shape else { return out };
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            // A name that has no escaped form still has rules of its own.
            let known = schema::escape(name)
                .and_then(|name| object.fields.get(&name))
                .map(|field| field.decl.clone());
            let found =
                known.or_else(|| schema::declaration(property, schema::embedded(property)).map(Arc::new));
            let Some(decl) = found else { continue };
            let inner = place.below(&format!("properties[{name}]"), Some(1));
            if let Some(node) = self.node(property, decl, &inner) {
                out.insert(name.clone(), node);
            }
        }
        out
    }

    fn rules(&mut self, schema: &Json, decl: &Arc<Decl>, place: &Place) -> Vec<Rule> {
        let mut out = Vec::new();
        for (at, rule) in schema[RULES].as_array().into_iter().flatten().enumerate() {
            let path = format!("{}.{RULES}[{at}]", place.path);
            if let Some(rule) = self.rule(rule, schema, decl, place, &path) {
                out.push(rule);
            }
        }
        out
    }

    fn rule(
        &mut self,
        rule: &Json,
        schema: &Json,
        decl: &Arc<Decl>,
        place: &Place,
        path: &str,
    ) -> Option<Rule> {
        let text = |field: &str| rule[field].as_str().unwrap_or_default();
        if text("rule").trim().is_empty() {
            self.fault(
                "FieldValueRequired",
                "Required value: rule is not specified",
                &format!("{path}.rule"),
            );
            return None;
        }
        self.plain_fields(rule, schema, path);
        let optional = rule["optionalOldSelf"].as_bool().unwrap_or(false);
        let mut environment = Environment::default().with("self", decl.clone());
        let old = if optional {
            Arc::new(Decl::scalar(Type::Optional(Arc::new(decl.ty.clone())), u64::MAX, 1))
        } else {
            decl.clone()
        };
        environment = environment.with("oldSelf", old);

        let program = match Program::returning(text("rule"), &environment, &[Type::Bool]) {
            Ok(program) => program,
            Err(error) => {
                let detail = match error {
                    CompileError::Result(_) => "cel expression must evaluate to a bool".to_owned(),
                    other => other.to_string(),
                };
                self.invalid(rule, &detail, &format!("{path}.rule"));
                return None;
            }
        };
        let transition = program.refers_to("oldSelf");
        if transition && let Some(within) = &place.uncorrelatable {
            let detail =
                format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
            let shown = format!("Invalid value: {:?}: {detail}", text("rule"));
            self.fault("FieldValueInvalid", &shown, &format!("{path}.rule"));
        }
        if !transition && optional {
            let message = "Invalid value: true: may not be set if oldSelf is not used in rule";
            self.fault("FieldValueInvalid", message, &format!("{path}.optionalOldSelf"));
        }
        self.cost(
            "estimated rule cost",
            program.estimate(&environment),
            decl,
            place,
            &format!("{path}.rule"),
        );
        let message_program = self.message_expression(rule, &environment, decl, place, path);
        let field_path = match text("fieldPath") {
            "" => None,
            raw => field_path::normalize(raw, schema).ok(),
        };
        Some(Rule {
            text: text("rule").to_owned(),
            program,
            transition,
            optional_old_self: optional,
            message: text("message").trim().to_owned(),
            message_program,
            reason: text("reason").to_owned(),
            field_path,
        })
    }

    fn plain_fields(&mut self, rule: &Json, schema: &Json, path: &str) {
        let text = |field: &str| rule[field].as_str().unwrap_or_default();
        let message = text("message");
        if rule.get("message").is_some() && message.trim().is_empty() && !message.is_empty() {
            let shown = format!("Invalid value: {message:?}: message must be non-empty if specified");
            self.fault("FieldValueInvalid", &shown, &format!("{path}.message"));
        } else if message.contains('\n') {
            let shown = format!("Invalid value: {message:?}: message must not contain line breaks");
            self.fault("FieldValueInvalid", &shown, &format!("{path}.message"));
        } else if message.is_empty()
            && text("rule").trim().contains('\n')
            && text("messageExpression").is_empty()
        {
            let shown = "Required value: message must be specified if rule contains line breaks";
            self.fault("FieldValueRequired", shown, &format!("{path}.message"));
        }
        let reason = text("reason");
        if !reason.is_empty() && !REASONS.contains(&reason) {
            let known = REASONS.map(|reason| format!("{reason:?}")).join(", ");
            let shown = format!("Unsupported value: {reason:?}: supported values: {known}");
            self.fault("FieldValueNotSupported", &shown, &format!("{path}.reason"));
        }
        if let raw @ [_, ..] = text("fieldPath").as_bytes() {
            let raw = String::from_utf8_lossy(raw);
            let found = if raw.trim().is_empty() {
                Err("must be non-empty if specified".to_owned())
            } else if raw.contains('\n') {
                Err("must not contain line breaks".to_owned())
            } else {
                field_path::normalize(&raw, schema)
                    .map_err(|why| format!("fieldPath must be a valid path: {why}"))
            };
            if let Err(why) = found {
                let shown = format!("Invalid value: {raw:?}: {why}");
                self.fault("FieldValueInvalid", &shown, &format!("{path}.fieldPath"));
            }
        }
    }

    fn message_expression(
        &mut self,
        rule: &Json,
        environment: &Environment,
        decl: &Decl,
        place: &Place,
        path: &str,
    ) -> Option<Program> {
        let text = rule["messageExpression"].as_str().filter(|text| !text.is_empty())?;
        let at = format!("{path}.messageExpression");
        if text.trim().is_empty() {
            self.fault(
                "FieldValueRequired",
                "Required value: messageExpression must be non-empty if specified",
                &at,
            );
            return None;
        }
        match Program::returning(text, environment, &[Type::String]) {
            Ok(program) => {
                let cost = program.estimate(environment);
                self.cost("estimated messageExpression cost", cost, decl, place, &at);
                Some(program)
            }
            Err(error) => {
                let detail = match error {
                    CompileError::Result(_) => "messageExpression must evaluate to a string".to_owned(),
                    other => format!("messageExpression {other}"),
                };
                self.invalid(rule, &detail, &at);
                None
            }
        }
    }

    /// Holds an estimate against the limit of one expression, and keeps it for the total.
    fn cost(&mut self, what: &str, estimate: Estimate, decl: &Decl, place: &Place, path: &str) {
        let times = place.cardinality.unwrap_or(MAX_REQUEST / (decl.min_size + 1));
        let cost = estimate.max.saturating_mul(times);
        if cost > ESTIMATE_LIMIT {
            let message = format!("Forbidden: {}", exceeded(what, cost, ESTIMATE_LIMIT));
            self.fault("FieldValueForbidden", &message, path);
        }
        self.total = self.total.saturating_add(cost);
        self.costs.push((cost, path.to_owned()));
    }

    fn total(&mut self, path: &str) {
        if self.total <= TOTAL_ESTIMATE_LIMIT {
            return;
        }
        self.costs.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        let told = std::mem::take(&mut self.costs);
        for (cost, path) in told.iter().take(4) {
            if *cost > TOTAL_ESTIMATE_LIMIT / 100 {
                let message = "Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
                self.fault("FieldValueForbidden", message, path);
            }
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let message = format!("Forbidden: {}", exceeded(what, self.total, TOTAL_ESTIMATE_LIMIT));
        self.fault("FieldValueForbidden", &message, path);
    }

    fn invalid(&mut self, rule: &Json, detail: &str, path: &str) {
        let text = |field: &str| rule[field].as_str().unwrap_or_default();
        let reason = match rule["reason"].as_str() {
            None => "(*apiextensions.FieldValueErrorReason)(nil)",
            Some(_) => "(*apiextensions.FieldValueErrorReason)(0xc000000000)",
        };
        let optional = match rule["optionalOldSelf"].as_bool() {
            None => "(*bool)(nil)",
            Some(_) => "(*bool)(0xc000000000)",
        };
        let shown = format!(
            "Invalid value: apiextensions.ValidationRule{{Rule:{:?}, Message:{:?}, MessageExpression:{:?}, Reason:{reason}, FieldPath:{:?}, OptionalOldSelf:{optional}}}: {detail}",
            text("rule"),
            text("message"),
            text("messageExpression"),
            text("fieldPath"),
        );
        self.fault("FieldValueInvalid", &shown, path);
    }

    fn fault(&mut self, reason: &str, message: &str, path: &str) {
        self.causes.push(Cause { reason: reason.into(), message: message.into(), field: path.into() });
    }
}

fn exceeded(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        // Never "a factor of 1.0x".
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

fn limit(schema: &Json, name: &str) -> Option<u64> {
    schema.get(name)?.as_u64()
}
