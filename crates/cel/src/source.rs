//! What is wrong with an expression, shown with the place in its text.

use std::fmt::Write as _;

/// Longest line of a source that an error repeats.
const MAX_SNIPPET: usize = 16_384;

/// One fault of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Byte offset; the end of the text for what is missing.
    pub at: u32,
    pub message: String,
}

impl Issue {
    pub fn new(at: u32, message: impl Into<String>) -> Self {
        Issue { at, message: message.into() }
    }
}

/// The faults of an expression as upstream prints them: place, message, line and a pointer.
pub fn display(source: &str, issues: &[Issue]) -> String {
    let mut issues: Vec<&Issue> = issues.iter().collect();
    issues.sort_by_key(|issue| issue.at);
    let mut out = String::new();
    for issue in issues {
        if !out.is_empty() {
            out.push('\n');
        }
        one(&mut out, source, issue);
    }
    out
}

fn one(out: &mut String, source: &str, issue: &Issue) {
    let mut at = (issue.at as usize).min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    let start = source[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = source[..at].matches('\n').count() + 1;
    let column = source[start..at].chars().count();
    let snippet = source[start..].split('\n').next().unwrap_or_default();
    let _ = write!(out, "ERROR: <input>:{line}:{}: {}", column + 1, issue.message);
    if snippet.len() > MAX_SNIPPET {
        return;
    }
    let snippet = snippet.replace('\t', " ");
    out.push_str("\n | ");
    out.push_str(&snippet);
    out.push_str("\n | ");
    for c in snippet.chars().take(column) {
        out.push(if c.is_ascii() { '.' } else { '\u{ff0e}' });
    }
    let wide = snippet.chars().nth(column).is_some_and(|c| !c.is_ascii());
    out.push(if wide { '\u{ff3e}' } else { '^' });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_place() {
        assert_eq!(
            display("a &&\n\tself.x", &[Issue::new(10, "undefined field 'x'")]),
            "ERROR: <input>:2:6: undefined field 'x'\n |  self.x\n | .....^"
        );
        assert_eq!(display("ä.x", &[Issue::new(2, "m")]), "ERROR: <input>:1:2: m\n | ä.x\n | \u{ff0e}^");
    }
}
