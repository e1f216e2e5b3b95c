//! The JSONPath of printer columns: what `kubectl -o jsonpath` understands of one expression.
//!
//! Fields (`.a`, `['a.b']`, `.a\.b`), indices, slices, wildcards, recursive descent (`..a`) and filters
//! (`[?(@.type=="Ready")]`).

use serde_json::Value;

/// The most steps of one path, and the most values that one step passes on.
const MAX_STEPS: usize = 64;
const MAX_VALUES: usize = 10_000;

/// A parsed path.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Every,
    Descend,
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: i64,
    },
    Index(i64),
    Filter {
        left: JsonPath,
        test: Option<(Operator, Operand)>,
    },
    /// `['a','b']`.
    Union(Vec<Step>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Literal(Value),
    Path(JsonPath),
}

/// Text that is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("unterminated {0}")]
    Unterminated(&'static str),
    #[error("invalid array index {0}")]
    Index(String),
    #[error("unexpected {0:?}")]
    Unexpected(String),
    #[error("more than {MAX_STEPS} steps")]
    TooLong,
}

impl JsonPath {
    /// Reads a path such as `.spec.replicas`, with or without braces and a leading `$`.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
        let text = text.strip_prefix(['$', '@']).unwrap_or(text);
        let mut rest = text;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if steps.len() >= MAX_STEPS {
                return Err(PathError::TooLong);
            }
            rest = if let Some(after) = rest.strip_prefix("..") {
                steps.push(Step::Descend);
                if after.starts_with('[') { after } else { field(after, &mut steps)? }
            } else if let Some(after) = rest.strip_prefix('.') {
                if after.is_empty() || after.starts_with('[') { after } else { field(after, &mut steps)? }
            } else if let Some(after) = rest.strip_prefix('[') {
                let end = bracket_end(after).ok_or(PathError::Unterminated("array"))?;
                steps.push(bracket(after[..end].trim())?);
                &after[end + 1..]
            } else {
                field(rest, &mut steps)?
            };
        }
        Ok(JsonPath { steps })
    }

    /// The values at the path, in order; none where something on the way is absent.
    pub fn find<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        let mut at = vec![root];
        for step in &self.steps {
            let mut next = Vec::new();
            for value in at {
                step.follow(value, &mut next);
                if next.len() > MAX_VALUES {
                    next.truncate(MAX_VALUES);
                    break;
                }
            }
            at = next;
        }
        at
    }
}

/// Reads a name up to the next step.
fn field<'t>(text: &'t str, steps: &mut Vec<Step>) -> Result<&'t str, PathError> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            '.' | '[' => {
                end = at;
                break;
            }
            c if c.is_whitespace() || matches!(c, ']' | '(' | ')' | '"') => {
                return Err(PathError::Unexpected(c.to_string()));
            }
            c => name.push(c),
        }
    }
    if name.is_empty() {
        return Err(PathError::Unexpected(text.chars().take(1).collect()));
    }
    steps.push(if name == "*" { Step::Every } else { Step::Field(name) });
    Ok(&text[end..])
}

/// The place of the bracket that closes, outside of quotes and inner brackets.
fn bracket_end(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn bracket(text: &str) -> Result<Step, PathError> {
    if text == "*" {
        return Ok(Step::Every);
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return filter_step(filter);
    }
    if text.starts_with(['\'', '"']) {
        let mut names: Vec<Step> = Vec::new();
        for part in text.split(',') {
            names.push(Step::Field(unquote(part.trim()).ok_or(PathError::Unterminated("string"))?));
        }
        return Ok(if names.len() == 1 { names.remove(0) } else { Step::Union(names) });
    }
    let number = |text: &str| -> Result<Option<i64>, PathError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| PathError::Index(text.to_owned()))
    };
    if text.contains(',') {
        let parts = text.split(',').map(|part| bracket(part.trim())).collect::<Result<_, _>>()?;
        return Ok(Step::Union(parts));
    }
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [one] => number(one)?.map(Step::Index).ok_or_else(|| PathError::Index(text.to_owned())),
        [from, to] => Ok(Step::Slice { from: number(from)?, to: number(to)?, step: 1 }),
        [from, to, step] => {
            let step = number(step)?.unwrap_or(1);
            if step <= 0 {
                return Err(PathError::Index(text.to_owned()));
            }
            Ok(Step::Slice { from: number(from)?, to: number(to)?, step })
        }
        _ => Err(PathError::Index(text.to_owned())),
    }
}

fn unquote(text: &str) -> Option<String> {
    let quote = text.chars().next()?;
    let inner = text.get(1..)?.strip_suffix(quote)?;
    Some(inner.replace("\\'", "'").replace("\\\"", "\"").replace("\\.", "."))
}

fn filter_step(text: &str) -> Result<Step, PathError> {
    const OPERATORS: [(&str, Operator); 6] = [
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, _) => {
                if let Some((sign, operator)) =
                    OPERATORS.iter().find(|(sign, _)| text[at..].starts_with(sign))
                {
                    let left = JsonPath::parse(text[..at].trim())?;
                    let right = operand(text[at + sign.len()..].trim())?;
                    return Ok(Step::Filter { left, test: Some((*operator, right)) });
                }
            }
            (Some(_), _) => {}
        }
    }
    Ok(Step::Filter { left: JsonPath::parse(text.trim())?, test: None })
}

fn operand(text: &str) -> Result<Operand, PathError> {
    if text.starts_with(['\'', '"']) {
        let text = unquote(text).ok_or(PathError::Unterminated("string"))?;
        return Ok(Operand::Literal(Value::String(text)));
    }
    if text.starts_with(['@', '$']) {
        return JsonPath::parse(text).map(Operand::Path);
    }
    serde_json::from_str(text).map(Operand::Literal).map_err(|_| PathError::Unexpected(text.to_owned()))
}

impl Step {
    fn follow<'v>(&self, value: &'v Value, out: &mut Vec<&'v Value>) {
        match (self, value) {
            (Step::Field(name), Value::Object(fields)) => out.extend(fields.get(name)),
            (Step::Every, Value::Object(fields)) => out.extend(fields.values()),
            (Step::Every, Value::Array(items)) => out.extend(items),
            (Step::Descend, _) => descend(value, out),
            (Step::Index(at), Value::Array(items)) => {
                out.extend(resolve(*at, items.len()).map(|at| &items[at]))
            }
            (Step::Slice { from, to, step }, Value::Array(items)) => {
                let length = items.len() as i64;
                let clamp = |at: i64| if at < 0 { at + length } else { at }.clamp(0, length);
                let (from, to) = (clamp(from.unwrap_or(0)), clamp(to.unwrap_or(length)));
                let mut at = from;
                while at < to {
                    out.push(&items[at as usize]);
                    at += step;
                }
            }
            (Step::Filter { left, test }, Value::Array(items)) => {
                out.extend(items.iter().filter(|item| passes(left, test.as_ref(), item)));
            }
            (Step::Union(steps), _) => steps.iter().for_each(|step| step.follow(value, out)),
            _ => {}
        }
    }
}

fn resolve(at: i64, length: usize) -> Option<usize> {
    let at = if at < 0 { at + length as i64 } else { at };
    usize::try_from(at).ok().filter(|at| *at < length)
}

fn descend<'v>(value: &'v Value, out: &mut Vec<&'v Value>) {
    if out.len() > MAX_VALUES {
        return;
    }
    out.push(value);
    match value {
        Value::Object(fields) => fields.values().for_each(|value| descend(value, out)),
        Value::Array(items) => items.iter().for_each(|value| descend(value, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn passes(left: &JsonPath, test: Option<&(Operator, Operand)>, item: &Value) -> bool {
    let found = left.find(item);
    let Some((operator, right)) = test else { return !found.is_empty() };
    let Some(left) = found.first() else { return false };
    let right = match right {
        Operand::Literal(value) => Some(value),
        Operand::Path(path) => path.find(item).first().copied(),
    };
    let Some(right) = right else { return false };
    let order = match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (left, right) => match (left.as_f64(), right.as_f64()) {
            (Some(left), Some(right)) => left.partial_cmp(&right),
            _ => None,
        },
    };
    match operator {
        Operator::Equal => *left == right || order.is_some_and(|order| order.is_eq()),
        Operator::NotEqual => *left != right && order.is_none_or(|order| order.is_ne()),
        Operator::Less => order.is_some_and(|order| order.is_lt()),
        Operator::LessOrEqual => order.is_some_and(|order| order.is_le()),
        Operator::Greater => order.is_some_and(|order| order.is_gt()),
        Operator::GreaterOrEqual => order.is_some_and(|order| order.is_ge()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_kubectl_finds() {
        let object = json!({
            "spec": {"replicas": 3, "a.b": "dotted", "list": [1, 2, 3]},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "n": 1}, {"type": "Other", "status": "False", "n": 5}]},
        });
        let check = |path: &str, expected: Value| {
            let path = JsonPath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
            let found: Vec<Value> = path.find(&object).into_iter().cloned().collect();
            assert_eq!(Value::Array(found), expected, "{path:?}");
        };
        check(".spec.replicas", json!([3]));
        check("{.spec.replicas}", json!([3]));
        check(".spec['a.b']", json!(["dotted"]));
        check(r".spec.a\.b", json!(["dotted"]));
        check(".spec.list[0]", json!([1]));
        check(".spec.list[-1]", json!([3]));
        check(".spec.list[1:]", json!([2, 3]));
        check(".spec.list[*]", json!([1, 2, 3]));
        check(".spec.list[0,2]", json!([1, 3]));
        check(r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"]));
        check(".status.conditions[?(@.type=='Other')].status", json!(["False"]));
        check(".status.conditions[?(@.n > 2)].type", json!(["Other"]));
        check(".status.conditions[?(@.none)].type", json!([]));
        check("..type", json!(["Ready", "Other"]));
        check(".none.at.all", json!([]));
        check(".", json!([object]));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [".a[", ".a[x]", ".a b", ".a[?(@.b==)]", ".a[1:2:0]", ".a.."] {
            assert!(JsonPath::parse(text).is_err(), "{text}");
        }
        assert_eq!(JsonPath::parse(&".a".repeat(65)), Err(PathError::TooLong));
    }
}
