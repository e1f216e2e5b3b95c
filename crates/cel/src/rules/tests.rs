use serde_json::{Value as Json, json};

use super::Rules;

fn schema(rules: Json, spec: Json) -> Json {
    let mut spec = spec;
    spec["type"] = "object".into();
    json!({"type": "object", "x-kubernetes-validations": rules, "properties": {"spec": spec}})
}

fn faults(schema: &Json) -> Vec<String> {
    match Rules::compile(schema, "schema") {
        Ok(_) => Vec::new(),
        Err(causes) => {
            causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
        }
    }
}

fn check(schema: &Json, object: Json, old: Option<Json>, expected: &[&str]) {
    let rules = Rules::compile(schema, "schema").expect("the rules compile");
    let found: Vec<String> = rules
        .validate(&object, old.as_ref(), true)
        .into_iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn rules_hold_at_every_level() {
    let schema = schema(
        json!([{"rule": "self.metadata.name.startsWith('a') && self.kind == 'K'"}]),
        json!({
            "x-kubernetes-validations": [
                {"rule": "self.min <= self.max", "message": "min above max", "fieldPath": ".min"},
                {"rule": "self.min == oldSelf.min", "messageExpression": "'min was ' + string(oldSelf.min)"},
            ],
            "properties": {
                "min": {"type": "integer"}, "max": {"type": "integer"},
                "list": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
                        "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}]}},
                "map": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 9,
                    "x-kubernetes-validations": [{"rule": "self != 'bad'", "reason": "FieldValueForbidden"}]}},
            },
        }),
    );
    let good = json!({"kind": "K", "metadata": {"name": "ab"}, "spec": {"min": 1, "max": 2,
        "list": [{"k": "x", "v": 1}], "map": {"q": "fine"}}});
    check(&schema, good.clone(), None, &[]);
    check(
        &schema,
        json!({"kind": "K", "metadata": {"name": "b"}, "spec": {"min": 3, "max": 2, "list": [{"k": "x", "v": 0}],
            "map": {"q": "bad"}}}),
        Some(good),
        &[
            "<nil>: Invalid value: \"object\": failed rule: self.metadata.name.startsWith('a') && self.kind == 'K'",
            "spec.min: Invalid value: \"object\": min above max",
            "spec: Invalid value: \"object\": min was 1",
            "spec.list[0]: Invalid value: \"object\": failed rule: self.v >= oldSelf.v",
            "spec.map[q]: Forbidden: failed rule: self != 'bad'",
        ],
    );
}

#[test]
fn what_does_not_change_may_stay() {
    let schema = schema(
        json!([]),
        json!({"properties": {"n": {"type": "integer",
        "x-kubernetes-validations": [{"rule": "self < 5"}]}, "m": {"type": "integer"}}}),
    );
    let old = json!({"spec": {"n": 9, "m": 1}});
    check(&schema, json!({"spec": {"n": 9, "m": 2}}), Some(old.clone()), &[]);
    check(
        &schema,
        json!({"spec": {"n": 8, "m": 2}}),
        Some(old),
        &["spec.n: Invalid value: \"integer\": failed rule: self < 5"],
    );
}

#[test]
fn an_old_value_may_be_optional() {
    let schema = schema(
        json!([]),
        json!({"properties": {"n": {"type": "integer", "x-kubernetes-validations": [
        {"rule": "oldSelf.optMap(o, self >= o).orValue(self == 0)", "optionalOldSelf": true, "message": "grow"}]}}}),
    );
    check(&schema, json!({"spec": {"n": 0}}), None, &[]);
    check(&schema, json!({"spec": {"n": 1}}), None, &["spec.n: Invalid value: \"integer\": grow"]);
    check(&schema, json!({"spec": {"n": 2}}), Some(json!({"spec": {"n": 1}})), &[]);
}

#[test]
fn rules_that_cannot_be_are_refused() {
    let cases = [
        (json!([{"rule": "self.spec.x == 1"}]), "undefined field 'x'"),
        (json!([{"rule": "1 + 1"}]), "cel expression must evaluate to a bool"),
        (
            json!([{"rule": ""}]),
            "schema.x-kubernetes-validations[0].rule: Required value: rule is not specified",
        ),
        (json!([{"rule": "true", "messageExpression": "1"}]), "messageExpression must evaluate to a string"),
        (json!([{"rule": "self.metadata.labels == {}"}]), "undefined field 'labels'"),
        (
            json!([{"rule": "self.spec.list.all(x, self.spec.list.all(y, x == y))"}]),
            "schema.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x",
        ),
        (
            json!([{"rule": "self.spec.set.all(x, x == oldSelf.spec.set[0])", "fieldPath": ".nope"}]),
            "fieldPath must be a valid path: does not refer to a valid field",
        ),
    ];
    for (rules, expected) in cases {
        let schema = schema(
            rules.clone(),
            json!({"properties": {
                "list": {"type": "array", "items": {"type": "string"}},
                "set": {"type": "array", "maxItems": 3, "x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 5}},
            }}),
        );
        let found = faults(&schema);
        assert!(found.iter().any(|fault| fault.contains(expected)), "{rules}: {found:?}");
    }
    let within = schema(
        json!([]),
        json!({"properties": {"set": {"type": "array", "maxItems": 3,
        "x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 5,
            "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}}),
    );
    let found = faults(&within);
    assert!(found.iter().any(|fault| fault.contains(
        "oldSelf cannot be used on the uncorrelatable portion of the schema within schema.properties[spec].properties[set]"
    )), "{found:?}");
}

#[test]
fn limits_make_a_rule_affordable() {
    let rule = json!([{"rule": "self.spec.list.all(x, self.spec.list.all(y, x == y))"}]);
    let bounded = schema(
        rule,
        json!({"properties": {
        "list": {"type": "array", "maxItems": 50, "items": {"type": "string", "maxLength": 20}}}}),
    );
    assert_eq!(faults(&bounded), Vec::<String>::new());
}

#[test]
fn what_is_parsed_and_compared_has_upstreams_cost() {
    let text = json!({"type": "string"});
    for (rule, factor) in [
        // One, however long the text.
        ("isURL(self.spec.items[0]) && self.spec.items[0].startsWith('https://')", None),
        ("self.spec.items.all(item, isURL(item) && item.startsWith('https://'))", None),
        ("cidr('10.0.0.0/8').ip() == ip('10.0.0.0')", None),
        ("cidr('10.0.0.0/8').containsCIDR(cidr('10.1.0.0/16'))", None),
        ("quantity('1') == quantity('2')", None),
        // Structures are of no size.
        ("self.spec == oldSelf.spec", None),
        // A tenth of the text.
        ("self.spec.items.all(item, isIP(item))", Some("3.1x")),
        ("self.spec.items.all(item, cidr('10.0.0.0/8').containsIP(item))", Some("3.1x")),
    ] {
        let spec = json!({"properties": {"items": {"type": "array", "maxItems": 100, "items": text}}});
        let found = faults(&schema(json!([{"rule": rule}]), spec));
        match factor {
            None => assert_eq!(found, Vec::<String>::new(), "{rule}"),
            Some(factor) => assert!(found.iter().any(|fault| fault.contains(factor)), "{rule}: {found:?}"),
        }
    }
}
