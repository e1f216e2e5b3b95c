use super::*;
use proptest::prelude::*;
use serde_json::json;

const LABELS: [(&str, &str); 4] = [("a", "1"), ("b", "x"), ("empty", ""), ("in", "in")];

fn label(key: &str) -> Option<&'static str> {
    LABELS.iter().find(|(candidate, _)| *candidate == key).map(|(_, value)| *value)
}

#[test]
fn strings_select() {
    let table = [
        ("", true),
        ("a", true),
        ("!a", false),
        ("c", false),
        ("!c", true),
        ("a=1", true),
        ("a==1", true),
        ("a!=1", false),
        ("c!=1", true),
        ("a in (1,2)", true),
        ("a in (2)", false),
        ("a notin (2)", true),
        ("c notin (2)", true),
        ("a>0", true),
        ("a>1", false),
        ("a<2", true),
        ("b>0", false),
        ("c<0", false),
        ("a=1,b=x , !c", true),
        ("a=1,b=y", false),
        ("empty=", true),
        ("empty in ()", true),
        ("empty in (,x)", true),
        ("in in (in)", true),
        ("in=in", true),
        ("a in (2,,1)", true),
        ("x.io/y!=1", true),
    ];
    for (text, expected) in table {
        let selector: Selector = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(selector.matches(label), expected, "{text}");
        assert_eq!(selector.to_string().parse::<Selector>().as_ref(), Ok(&selector), "{text}");
    }
}

#[test]
fn faults_are_told_as_kubernetes_tells_them() {
    let table = [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a in x", "unable to parse requirement: found 'x' expected: '('"),
        ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        ("!=a", "found '!=', expected: !, identifier, or 'end of string'"),
        ("/a", "unable to parse requirement: <nil>: Invalid value: \"/a\": prefix part must be non-empty"),
    ];
    for (text, expected) in table {
        assert_eq!(
            text.parse::<Selector>().map_err(|error| error.to_string()),
            Err(expected.to_owned()),
            "{text}"
        );
    }
    assert!(
        "a=b$"
            .parse::<Selector>()
            .is_err_and(|error| error.to_string().contains("values[0][a]: Invalid value: \"b$\""))
    );
}

#[test]
fn json_selects() {
    let table = [
        (json!(null), Ok(false)),
        (json!({}), Ok(true)),
        (json!({"matchLabels": {"a": "1"}}), Ok(true)),
        (json!({"matchLabels": {"a": "2"}}), Ok(false)),
        (json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}), Ok(true)),
        (json!({"matchExpressions": [{"key": "c", "operator": "Exists"}]}), Ok(false)),
        (json!({"matchExpressions": [{"key": "c", "operator": "DoesNotExist"}]}), Ok(true)),
        (
            json!({"matchExpressions": [{"key": "c", "operator": "X"}]}),
            Err("\"X\" is not a valid label selector operator"),
        ),
        (json!([]), Err("a label selector must be an object with matchLabels and matchExpressions")),
        (
            json!({"matchLabels": 1}),
            Err("a label selector must be an object with matchLabels and matchExpressions"),
        ),
    ];
    for (value, expected) in table {
        let matched = Selector::from_json(&value)
            .map(|selector| selector.matches(label))
            .map_err(|error| error.to_string());
        assert_eq!(matched, expected.map_err(str::to_owned), "{value}");
    }
    assert!(Selector::from_map(&json!({"a": "1"})).is_ok_and(|selector| selector.matches(label)));
    assert!(Selector::from_map(&json!(null)).is_ok_and(|selector| selector.is_nothing()));
}

#[test]
fn fields_select() {
    let field = |name: &str| match name {
        "metadata.name" => Some("x"),
        "odd" => Some("a,b=c\\"),
        _ => None,
    };
    let table = [
        ("", Ok(true)),
        ("metadata.name=x", Ok(true)),
        ("metadata.name==x", Ok(true)),
        ("metadata.name!=x", Ok(false)),
        ("status.phase!=Running,metadata.name=x", Ok(true)),
        ("spec.nodeName=", Ok(true)),
        ("odd=a\\,b\\=c\\\\", Ok(true)),
        ("x", Err("invalid selector: 'x'; can't understand 'x'")),
        ("a=b=c", Err("invalid field selector: unescaped character in value: 61")),
        ("a=\\x", Err("invalid field selector: invalid escape sequence: \\x")),
    ];
    for (text, expected) in table {
        let selector = text.parse::<FieldSelector>().map_err(|error| error.to_string());
        if let Ok(selector) = &selector {
            assert_eq!(selector.to_string().parse::<FieldSelector>().as_ref(), Ok(selector), "{text}");
        }
        assert_eq!(
            selector.map(|selector| selector.matches(field)),
            expected.map_err(str::to_owned),
            "{text}"
        );
    }
    let selector: FieldSelector = "foo=bar,metadata.name=x".parse().expect("valid");
    assert_eq!(selector.exact("metadata.name"), Some("x"));
    let known = |name: &str| name == "metadata.name";
    let refusal = |group, kind| selector.check(group, kind, known).expect_err("foo is unknown").to_string();
    assert_eq!(refusal("", "Pod"), "field label not supported: foo");
    assert_eq!(
        refusal("apps", "Deployment"),
        "\"foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "[a-c!=<>(), \\\\in/.é]{0,24}") {
        if let Ok(selector) = text.parse::<Selector>() {
            prop_assert_eq!(selector.to_string().parse::<Selector>(), Ok(selector));
        }
        if let Ok(selector) = text.parse::<FieldSelector>() {
            prop_assert_eq!(selector.to_string().parse::<FieldSelector>(), Ok(selector));
        }
    }
}
