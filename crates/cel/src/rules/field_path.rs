//! A rule's `fieldPath`: `.spec.map['key'].field`, below the place of the rule.

use serde_json::Value as Json;

/// The path as errors print it, or what is wrong with it.
pub(super) fn normalize(path: &str, schema: &Json) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = path.trim();
    let mut at = schema;
    while !rest.is_empty() {
        let (name, after) = step(rest)?;
        rest = after;
        if let Some(properties) = at["properties"].as_object() {
            at = properties.get(&name).ok_or("does not refer to a valid field")?;
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(&name);
        } else if at["additionalProperties"].is_object() {
            at = &at["additionalProperties"];
            out.push_str(&format!("[{name}]"));
        } else {
            return Err("does not refer to a valid field".into());
        }
    }
    Ok(out)
}

fn step(text: &str) -> Result<(String, &str), String> {
    if let Some(rest) = text.strip_prefix('.') {
        let end = rest.find(['.', '[', ']']).unwrap_or(rest.len());
        if end == 0 {
            return Err("unexpected end of JSON path".into());
        }
        return Ok((rest[..end].to_owned(), &rest[end..]));
    }
    let Some(rest) = text.strip_prefix("['") else {
        let shown: String = text.chars().take(1).collect();
        return Err(match text.strip_prefix('[') {
            Some(_) => "expected single quoted string".into(),
            None => format!("expected [ or . but got: {shown}"),
        });
    };
    let mut name = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, escaped)) => name.push(escaped),
                None => break,
            },
            '\'' => {
                let after = rest[at + 1..].strip_prefix(']').ok_or("expected ]")?;
                return Ok((name, after));
            }
            c => name.push(c),
        }
    }
    Err("unexpected end of JSON path".into())
}
