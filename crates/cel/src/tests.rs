use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::schema::declaration;
use crate::{Environment, Evaluator, Program, Value};

fn environment() -> Environment {
    let schema = json!({"type": "object", "properties": {
        "n": {"type": "integer"}, "s": {"type": "string"}, "d": {"type": "number"},
        "l": {"type": "array", "items": {"type": "integer"}},
        "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "m": {"type": "object", "additionalProperties": {"type": "string"}},
        "a-b": {"type": "string"}, "namespace": {"type": "string"},
        "port": {"x-kubernetes-int-or-string": true},
        "t": {"type": "string", "format": "date-time"},
    }});
    let decl = Arc::new(declaration(&schema, false).expect("a declaration"));
    Environment::default().with("self", decl).with("any", Arc::new(crate::Decl::dynamic()))
}

fn object() -> Json {
    json!({"n": 3, "s": "hello", "d": 2, "l": [3, 1, 2], "set": ["a", "b"], "m": {"k": "v"}, "a-b": "dash",
        "namespace": "ns", "port": "80%", "t": "2024-01-02T03:04:05Z"})
}

/// What an expression evaluates to, as text.
fn evaluate(text: &str) -> String {
    let (environment, object) = (environment(), object());
    let program = match Program::compile(text, &environment) {
        Ok(program) => program,
        Err(error) => return error.to_string(),
    };
    let any = Value::from_json(&object, None);
    let typed = Value::from_json(&object, environment.variables.get("self").map(|decl| decl.as_ref()));
    let mut evaluator = Evaluator::new(vec![("self", typed), ("any", any)]);
    match evaluator.run(&program, 1_000_000).0 {
        Ok(value) => crate::value::json::to_json(&value).map_or("?".into(), |json| json.to_string()),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn expressions_have_the_values_of_the_specification() {
    let cases = [
        ("1 + 2 * 3", "7"),
        ("self.n >= 3 && self.s.startsWith('he')", "true"),
        ("self.l.all(x, x > 0)", "true"),
        ("self.l.exists(x, x == 2) && !self.l.exists(x, x == 9)", "true"),
        ("self.l.exists_one(x, x > 2)", "true"),
        ("self.l.map(x, x * 2)", "[6,2,4]"),
        ("self.l.filter(x, x > 1).map(y, string(y))", r#"["3","2"]"#),
        ("self.l.map(x, x > 1, x + 1)", "[4,3]"),
        ("self.m.map(k, self.m[k])", r#"["v"]"#),
        ("self.l.transformList(i, v, i + v)", "[3,2,4]"),
        ("self.l.all(i, v, i < 3 && v > 0)", "true"),
        ("self.m.transformMap(k, v, v + '!')", r#"{"k":"v!"}"#),
        ("['a','b'].transformMapEntry(i, v, {v: i})", r#"{"a":0,"b":1}"#),
        ("has(self.s) && !has(self.m.x)", "true"),
        ("self.a__dash__b + self.__namespace__", "\"dashns\""),
        ("self.namespace == 'ns' && has(self.namespace)", "true"),
        ("self.d == 2.0", "true"),
        ("self.port == '80%' && type(self.port) == string", "true"),
        ("self.t.getFullYear()", "2024"),
        ("self.t + duration('1h') == timestamp('2024-01-02T04:04:05Z')", "true"),
        ("self.l.sum() == 6 && self.l.max() == 3 && !self.l.isSorted() && self.l.indexOf(1) == 1", "true"),
        ("self.set == ['b', 'a']", "true"),
        ("self.set + ['b', 'c']", r#"["a","b","c"]"#),
        ("'abc'.matches('^a.c$') && 'x1y22'.findAll('[0-9]+') == ['1', '22']", "true"),
        ("'a,b,c'.split(',').join('-')", "\"a-b-c\""),
        ("'%s is %d and %.2f'.format(['x', 3, 1.5])", "\"x is 3 and 1.50\""),
        ("'hello'.substring(1, 3) + 'HeLLo'.lowerAscii().upperAscii()", "\"elHELLO\""),
        ("quantity('1Gi').isGreaterThan(quantity('900M')) && isQuantity('1k')", "true"),
        ("ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.2.3')", "true"),
        ("cidr('10.1.0.0/16').ip() == ip('10.1.0.0')", "true"),
        ("url('https://a.b:8080/p%20q?x=1').getPort()", "\"8080\""),
        ("semver('1.2.3').isLessThan(semver('1.10.0')) && semver('v1.2', true).minor() == 2", "true"),
        (
            "sets.contains([1, 2, 3], [2]) && sets.intersects([1], [1, 2]) && !sets.equivalent([1], [2])",
            "true",
        ),
        ("!format.dns1123Label().validate('A_b').hasValue() ? 'ok' : 'bad'", "\"bad\""),
        ("self.?s.orValue('x') + self.m[?'z'].orValue('none')", "\"hellonone\""),
        ("any.?nothing.?below.orValue(5)", "5"),
        ("self.m[?'k'].optMap(v, v + v).orValue('')", "\"vv\""),
        ("[?self.m[?'z'], ?self.m[?'k']]", r#"["v"]"#),
        ("optional.none().hasValue()", "false"),
        ("any.l[0] == 3 && any.m.k == 'v' && 'k' in any.m", "true"),
        ("false && any.nothing == 1", "false"),
        ("any.nothing == 1 || true", "true"),
        ("[1, 2].exists(x, any.nothing == x || x == 2)", "true"),
        ("1 < 2.5 && 2u > 1", "true"),
        ("cel.bind(x, self.n, x + x)", "6"),
        ("int('42') + int(3.9)", "45"),
        ("b'abc' == bytes('abc') && size('ää') == 2", "true"),
        ("\"\"\"a\nb\"\"\" == 'a\\nb' && r'\\d' == '\\\\d'", "true"),
        ("-self.n + 1 - -1", "-1"),
        ("{'a': 1}.a == 1 && {1: 'x'}[1] == 'x'", "true"),
        ("timestamp('2024-01-02T03:04:05Z').getHours('+02:00')", "5"),
        ("any.nothing", "error: no such key: nothing"),
        ("1 / (self.n - 3)", "error: division by zero"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("self.l[7]", "error: index out of bounds: 7"),
        ("dyn('x') + 1", "error: no such overload"),
    ];
    for (text, expected) in cases {
        assert_eq!(evaluate(text), expected, "{text}");
    }
}

#[test]
fn faults_are_told_as_upstream_tells_them() {
    let cases = [
        ("self.x", "compilation failed: ERROR: <input>:1:5: undefined field 'x'\n | self.x\n | ....^"),
        (
            "self.n + 'x'",
            "compilation failed: ERROR: <input>:1:8: found no matching overload for '_+_' applied to '(int, string)'\n | self.n + 'x'\n | .......^",
        ),
        (
            "foo > 1",
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo > 1\n | ^",
        ),
        (
            "self.s.startsWith(3)",
            "compilation failed: ERROR: <input>:1:18: found no matching overload for 'startsWith' applied to 'string.(int)'\n | self.s.startsWith(3)\n | .................^",
        ),
        (
            "[1, 'a'] == []",
            "compilation failed: ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a'] == []\n | ....^",
        ),
        (
            "self.n.all(x, true)",
            "compilation failed: ERROR: <input>:1:5: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | self.n.all(x, true)\n | ....^",
        ),
        (
            "self.n ==",
            "compilation failed: ERROR: <input>:1:10: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | self.n ==\n | .........^",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(evaluate(text), expected, "{text}");
    }
}

#[test]
fn a_hostile_expression_ends() {
    let doubled = (0..40).fold("[1]".to_owned(), |text, _| format!("[{text}].map(x, x + x)[0]"));
    let cases = [
        doubled.as_str(),
        "[1,2,3,4,5,6,7,8,9,10].map(a, [1,2,3,4,5,6,7,8,9,10].map(b, [1,2,3,4,5,6,7,8,9,10].map(c, [1,2,3,4,5,6,7,8,9,10].map(d, [1,2,3,4,5,6,7,8,9,10].map(e, [1,2,3,4,5,6,7,8,9,10].map(f, f))))))",
    ];
    for text in cases {
        assert_eq!(evaluate(text), "error: operation cancelled: actual cost limit exceeded");
    }
}

#[test]
fn depth_is_limited_and_fits_a_small_stack() {
    let cases = [
        "(".repeat(100_000),
        "[".repeat(100_000),
        "!".repeat(99_999),
        format!("1{}", " + 1".repeat(20_000)),
        format!("a{}", ".b".repeat(40_000)),
        format!("{}1{}", "(".repeat(200), ")".repeat(200)),
        format!("{}1{}", "[".repeat(240), "]".repeat(240)),
        format!("self.s{}", " + self.s".repeat(200)),
        format!("{}true{}", "[1].all(x, ".repeat(70), ")".repeat(70)),
        format!("any{}", ".b".repeat(240)),
        format!("{}1", "true ? 1 : ".repeat(240)),
        format!("true{}", " && true".repeat(5_000)),
    ];
    let work = move || {
        for text in &cases {
            evaluate(text);
        }
    };
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(work)
        .expect("a thread")
        .join()
        .expect("no overflow");
}

mod properties {
    use proptest::prelude::*;

    fn any_text() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("self".to_owned()),
            Just("any".to_owned()),
            "[a-z]{1,3}",
            "[0-9]{1,20}",
            "\"[^\"\\\\\n]{0,4}\"",
            prop::sample::select(vec![
                ".",
                "(",
                ")",
                "[",
                "]",
                "{",
                "}",
                ",",
                ":",
                "?",
                "+",
                "-",
                "*",
                "/",
                "%",
                "==",
                "<",
                "&&",
                "||",
                "!",
                ".?",
                "[?",
                ".all(",
                ".map(",
                ".s",
                ".l",
                ".m",
                " in ",
                "has(",
                "size(",
                "'%s'.format(",
                "x, ",
                "optional.of(",
                "duration(",
                "1e400",
                "0x",
                "b'",
                "'''",
                "\\",
                "`",
                ".split(",
                ".substring(",
            ])
            .prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn nothing_panics_on_pieces_of_the_language(text in any_text()) {
            super::evaluate(&text);
        }

        #[test]
        fn nothing_panics_on_any_text(text in ".{0,60}") {
            super::evaluate(&text);
        }
    }
}
